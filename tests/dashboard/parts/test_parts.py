"""Parts travel as little as they can."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

from bokeh.document import Document
from bokeh.document.events import ModelChangedEvent
from panel.theme.material import Material

from attnxr.dashboard import parts
from attnxr.dashboard.parts import Chips, Part


def test_large_lists_travel_as_text() -> None:
    items = [{"label": "“fliegt” <b>", "special": False, "joined": False, "title": "position 0"}]
    chips = Chips(items=items)
    data = chips.get_root(Document()).data
    assert json.loads(data.items) == chips.items == items
    chips.items = []
    assert data.items == "[]"


def test_a_part_does_not_hear_its_own_changes() -> None:
    document = Document()
    chips = Chips()
    model = chips.get_root(document)
    document.add_root(model)
    sent: list[object] = []
    document.on_change(sent.append)
    heard: list[object] = []
    chips._process_events = heard.append  # what Panel calls with the changes that come from a browser
    document.hold("combine")
    chips.chosen = 3
    document.unhold()
    assert [event.attr for event in sent if isinstance(event, ModelChangedEvent)] == ["chosen"]
    assert model.data.chosen == 3
    assert heard == []


def test_style_sheets_of_its_own_come_beside_those_of_the_theme() -> None:
    chips = Chips(design=Material)
    model = chips.get_root(Document())
    theirs = list(model.stylesheets)
    chips.chosen = 3
    assert model.data.chosen == 3
    assert model.stylesheets == theirs
    chips.stylesheets = [":host { color: red }"]
    assert model.stylesheets[-1] == ":host { color: red }"
    assert len(model.stylesheets) == len(theirs) + 1


def test_each_component_has_its_script_beside_it_and_no_script_stands_alone() -> None:
    folder = Path(parts.__file__).parent
    named = [getattr(parts, name) for name in parts.__all__]
    components = [each for each in named if issubclass(each, Part) and each is not Part]
    for component in components:
        script = Path(inspect.getfile(component)).with_suffix(".js")
        assert component._esm == script
        assert "export function render(" in script.read_text(encoding="utf-8")
    assert sorted(folder.glob("*.js")) == sorted(component._esm for component in components)
