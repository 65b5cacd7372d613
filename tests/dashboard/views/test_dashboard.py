"""The dashboard as a notebook opens it."""

from __future__ import annotations

import asyncio

import panel as pn
import pytest
from panel.custom import JSComponent

import attnxr
from attnxr.dashboard import Dashboard
from attnxr.dashboard.parts import Chips, RankTable
from attnxr.dashboard.session.state import State
from tests.support import models


@pytest.fixture
def model(shelf: dict[str, attnxr.Model]) -> attnxr.Model:
    return shelf["bert"]


def test_explore_shows_an_answer_at_once(model: attnxr.Model) -> None:
    shown = attnxr.explore(models.SENTENCE, model=model)

    assert isinstance(shown, Dashboard)
    (chips,) = pn.panel(shown).select(Chips)
    assert [chip["label"] for chip in chips.items][1:4] == ["time", "flies", "like"]
    assert all(table.table["heads"] == 4 for table in pn.panel(shown).select(RankTable))


def test_explore_answers_later_requests_too(model: attnxr.Model) -> None:
    async def visit() -> str:
        shown = attnxr.explore(models.SENTENCE, model=model)
        shown.state.text = "Fruit flies."
        async with asyncio.timeout(60):
            while shown.state.answer is None:
                await asyncio.sleep(0.01)
        return shown.state.answer.request.text

    assert asyncio.run(visit()) == "Fruit flies."


def test_explore_raises_what_is_wrong(model: attnxr.Model) -> None:
    with pytest.raises(attnxr.InputError, match="empty or blank"):
        attnxr.explore(" ", model=model)
    with pytest.raises(attnxr.ModelNotFoundError, match="no-such-model"):
        attnxr.explore(models.SENTENCE, model="no-such-model")


def test_figures_wait_until_it_is_shown(answered: State) -> None:
    dashboard = Dashboard(answered, shown=False)
    figures = pn.panel(dashboard).select(pn.pane.HoloViews)
    assert all(table.table for table in pn.panel(dashboard).select(RankTable))
    assert [figure.object for figure in figures] == [None] * len(figures)
    dashboard.shown = True
    assert sum(figure.object is not None for figure in figures) == 3  # two maps, and the open tab's


def test_it_can_be_displayed_twice(model: attnxr.Model) -> None:
    shown = attnxr.explore(models.SENTENCE, model=model)
    first, second = pn.panel(shown).get_root(), pn.panel(shown).get_root()
    assert first is not second
    shown.state.select(layer=1, head=2, position=3)


def test_every_part_says_its_script_and_takes_text_as_text() -> None:
    parts = [kind for kind in JSComponent.__subclasses__() if kind.__module__.startswith("attnxr")]
    scripts = [kind._esm.read_text(encoding="utf-8") for base in parts for kind in base.__subclasses__()]
    assert len(scripts) > 6
    for script in scripts:
        assert "export function render" in script
        assert "innerHTML" not in script
        assert "import " not in script
