"""The base of all parts of the page that are drawn in the browser: plain DOM, text set as text only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import panel as pn
import param
from bokeh.document import Document
from bokeh.model import Model
from bokeh.models import InlineStyleSheet
from panel.custom import Children, JSComponent

from attnxr.dashboard.parts.message import Field, ignore
from attnxr.dashboard.patch import in_one_patch

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
# Of each page, by what is in them. Weak, for a style sheet knows its page.
_Sheets = WeakValueDictionary[str, InlineStyleSheet]
_sheets: WeakKeyDictionary[Document, _Sheets] = WeakKeyDictionary()


class Packed(param.Parameter):
    """Lists or dicts that travel as JSON text, since Bokeh would walk through every entry of theirs, twice."""


class Part(JSComponent):
    """A part that tells its listener what the visitor did to it.

    Messages are used for that because they travel at once, while changed properties wait for more changes.
    """

    __abstract = True

    _sends: ClassVar[Mapping[str, Field]] = {}
    """Fields of the messages that its script sends; without any, it sends none."""

    reaches_out: ClassVar[bool] = False
    """Whether its script acts on the page beside drawing what is in its place."""

    _stylesheets = [STYLE]  # noqa: RUF012
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
        page = pn.state.curdoc
        if "stylesheets" in properties and page is not None and page.session_context is not None:
            sheets = _sheets.setdefault(page, WeakValueDictionary())
            properties["stylesheets"] = [_shared(each, sheets) for each in properties["stylesheets"]]
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
        # The one place where messages arrive: listeners are told none that is not of its form.
        if not isinstance(data, dict) or not self._takes(data):
            ignore(type(self).__name__)
        elif self._on_message is not None:
            in_one_patch(partial(self._on_message, data))

    def _takes(self, message: dict[Any, Any]) -> bool:
        """Whether a message has the part's fields, and each has a value that it may have."""
        known = self._sends
        return bool(known) and message.keys() == known.keys() and all(known[name](message[name]) for name in known)


def _shared(sheet: Any, sheets: _Sheets) -> Any:
    """One style sheet for all parts of a page that have the same: as texts they were two thirds of what it takes."""
    if not isinstance(sheet, str):
        return sheet
    found = sheets.get(sheet)
    if found is None:
        found = sheets[sheet] = InlineStyleSheet(css=sheet)
    return found
