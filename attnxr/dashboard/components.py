"""The parts of the page that are drawn in the browser: plain DOM, one script a part, text set as text only."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import param
from bokeh.document import Document
from bokeh.model import Model
from panel.custom import Children, JSComponent

from attnxr.dashboard.patch import in_one_patch

_HERE = Path(__file__).parent
_STYLE = (_HERE / "style.css").read_text(encoding="utf-8")
_FILES_STYLE = (_HERE / "take_away.css").read_text(encoding="utf-8")


class Packed(param.Parameter):
    """Lists or dicts that travel as JSON text, since Bokeh would walk through every entry of theirs, twice."""


class _Part(JSComponent):
    """A part that tells its listener what the visitor did to it.

    Messages are used for that because they travel at once, while changed properties wait for more changes.
    """

    __abstract = True

    _stylesheets = [_STYLE]  # noqa: RUF012
    _bundle_path = None  # there are none; Panel would look for them beside every module, for every part of every page

    def __init__(self, on_message: Callable[[Any], None] | None = None, **params: Any) -> None:
        super().__init__(sizing_mode="stretch_width", **params)
        self._on_message = on_message

    @property
    def _linked_properties(self) -> tuple[str, ...]:
        # No property is changed in the browser. If Panel listened for that, it would hear every change made here, and
        # make it again: two fifths of what a click costs.
        return ()

    def _update_properties(self, *events: param.parameterized.Event, doc: Document) -> dict[str, Any]:
        # Panel makes the theme's style sheets anew for whatever changes, and uses them only where these do: a third of
        # what a click costs.
        if any(event.name == "stylesheets" for event in events):
            return super()._update_properties(*events, doc=doc)
        return self._process_param_change({event.name: event.new for event in events})

    def _update_model(
        self,
        events: dict[str, param.parameterized.Event],
        msg: dict[str, Any],
        root: Model,
        model: Any,
        doc: Document,
        comm: Any,
    ) -> None:
        # Panel looks at each changed property twice, first on a model that does not have it, and at what BokehJS may
        # have made of it meanwhile: a fifth of what a click costs.
        if all(self._is_data(name) for name in msg):
            model.data.update(**msg)
        else:
            super()._update_model(events, msg, root, model, doc, comm)

    def _is_data(self, name: str) -> bool:
        """Whether a property is the part's own, and holds no other parts."""
        return name not in JSComponent.param and not isinstance(type(self).param[name], Children)

    def _process_param_change(self, params: dict[str, Any]) -> dict[str, Any]:
        properties = super()._process_param_change(params)
        known = type(self).param  # the instance would get parameters of its own
        for name in properties:
            if name in known and isinstance(known[name], Packed):
                properties[name] = json.dumps(properties[name], ensure_ascii=False)
        return properties

    def send(self, data: dict[str, Any]) -> None:
        """Tell the part in the browser something that is no property of it.

        Parameters
        ----------
        data : dict
            What to tell.
        """
        self._send_msg(data)

    def _handle_msg(self, data: Any) -> None:
        if self._on_message is not None:
            in_one_patch(partial(self._on_message, data))


class Heading(_Part):
    """A view's title, what it shows at this moment, and what its numbers mean."""

    title = param.String()
    detail = param.String()
    help = param.String()
    live = param.Boolean(default=False, doc="Whether screen readers say what is shown whenever it changes.")

    _esm = _HERE / "heading.js"


class TextBox(_Part):
    """Where a text is typed; sends ``{"text": …}`` when Enter or the button is pressed."""

    text = param.String()
    label = param.String("Text")

    _esm = _HERE / "text_box.js"


class Choices(_Part):
    """A row of labelled lists and switches; sends ``{"name": …, "value": …}`` when one is changed.

    A field has ``name``, ``label``, ``value``, ``disabled`` and ``help``, and a list ``options`` of (value, shown)
    where it is not a switch.
    """

    fields = param.List(item_type=dict)

    _esm = _HERE / "choices.js"


class Status(_Part):
    """One line on what is going on or was found, in its corner how it was checked; then errors and notices.

    What is going on may have a button that calls it off, which sends ``{"cancel": True}``.

    Of a check there are ``passed``, ``lead`` (its outcome in words), ``figures`` (text and whether it is within what is
    allowed) and ``help``, a list of paragraphs. Without any the corner is empty.
    """

    message = param.String()
    busy = param.Boolean()
    cancellable = param.Boolean()
    fraction = param.Number(default=None, allow_None=True)
    error = param.String()
    notices = param.List(item_type=str)
    check = param.Dict(default={})

    _esm = _HERE / "status.js"


class Chips(_Part):
    """A row of chips that wraps; sends ``{"index": …}`` when one is pressed. Without items it waits.

    ``paint`` has colour, ink and a note for each chip, or is empty: then none is coloured. ``key`` says what the
    colours mean: ``label``, and ``steps`` of (colour, ink, what it stands for).
    """

    items = Packed([])
    paint = Packed([])
    key = Packed({})
    chosen = param.Integer(default=-1)
    caption = param.String()

    _esm = _HERE / "chips.js"
    _stylesheets = [_STYLE, (_HERE / "chips.css").read_text(encoding="utf-8")]  # noqa: RUF012


class RankTable(_Part):
    """A table of ranks by heads; sends ``{"head": …}`` when a column is chosen. Without a table it waits."""

    table = Packed({})
    head = param.Integer(default=-1)
    caption = param.String()
    expected_rows = param.Integer(default=0)
    has_own = param.Boolean(default=False)
    legend = param.List(item_type=list)

    _esm = _HERE / "rank_table.js"


class SignalTable(_Part):
    """A row of cells for each head, under named lines of text; sends ``{"head": …}`` when a row is chosen.

    Without rows it waits.
    """

    rows = Packed([])
    lines = param.List(item_type=list)
    head = param.Integer(default=-1)
    caption = param.String()

    _esm = _HERE / "signal_table.js"
    _stylesheets = [_STYLE, (_HERE / "signal_table.css").read_text(encoding="utf-8")]  # noqa: RUF012


class Tabs(_Part):
    """Views of which one is open; sends ``{"name": …}`` when another one is chosen."""

    names = param.List(item_type=str)
    views = Children()
    open = param.String()
    caption = param.String()

    _esm = _HERE / "tabs.js"
    _stylesheets = [_STYLE, (_HERE / "tabs.css").read_text(encoding="utf-8")]  # noqa: RUF012


class TakeAwayFiles(_Part):
    """Buttons for files; sends ``{"name": …}`` when one is pressed, and saves what `send` gives it.

    A file has ``name``, ``label``, ``format`` and ``note``. `send` takes ``file`` (its name), ``type``, ``data`` (a
    piece of it) and ``left`` (how many pieces are still to come).
    """

    files = param.List(item_type=dict)
    ready = param.Boolean()
    making = param.String()
    said = param.String()

    _esm = _HERE / "take_away.js"
    _stylesheets = [_STYLE, _FILES_STYLE]  # noqa: RUF012


class FigureFiles(_Part):
    """Buttons for the pictures of the figure beside it; sends ``{"format": …}`` when one is pressed.

    It saves the picture when `send` says ``{"format": …, "file": …}``.
    """

    title = param.String()

    _esm = _HERE / "figure_files.js"
    _stylesheets = [_STYLE, _FILES_STYLE]  # noqa: RUF012


class TwoLists(_Part):
    """Two lists of neighbours side by side, under a note: see `attnxr.dashboard.compare_rows.neighbor_lists`."""

    lists = param.List(item_type=dict)
    note = param.String()

    _esm = _HERE / "two_lists.js"
    _stylesheets = [_STYLE, (_HERE / "two_lists.css").read_text(encoding="utf-8")]  # noqa: RUF012


class OpenFileButton(_Part):
    """A button for a file of the visitor's; sends ``{"name": …, "size": …, "start": …, "data": …}``, a piece of it.

    Data is base64. It sends the piece that begins at ``next`` when `send` says ``{"next": …}``.
    """

    help = param.String()
    said = param.String()
    refused = param.Boolean()
    busy = param.Boolean()

    _esm = _HERE / "open_file.js"
    _stylesheets = [_STYLE, _FILES_STYLE]  # noqa: RUF012


class AddressBar(_Part):
    """Keeps the page's address; sends ``{"query": …}`` when the visitor goes back or forward.

    Nothing to see. Each new query makes an entry in the browser's history, except the first one. Of the address only
    the parts called `names` change.
    """

    query = param.String(default=None, allow_None=True)
    names = param.List(item_type=str)

    _esm = _HERE / "address_bar.js"


class Keys(_Part):
    """Listens to the arrow keys; sends ``{"position": …, "layer": …, "head": …}``, each a number of steps.

    One line says so. Where arrows mean something already, in a text box, a list or a tab, they keep their meaning.
    """

    _esm = _HERE / "keys.js"
