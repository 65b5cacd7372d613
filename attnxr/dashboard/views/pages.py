"""Both pages: of one text, and of the heads of a corpus; one is shown, the other one waits."""

from __future__ import annotations

from typing import Any

import param

from attnxr.dashboard.parts import Tabs
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.views.dashboard import Dashboard
from attnxr.dashboard.views.heads import HeadsPage
from attnxr.dashboard.views.tabs import Places
from attnxr.dashboard.views.view import View

_TEXT, _HEADS = "One text", "Heads"


class Pages(View):
    """The page of one text and that of the heads.

    Parameters
    ----------
    heads : Heads
        What says which one is shown.
    text : Dashboard
        The one.
    page : HeadsPage
        The other.
    **params
        Starting values of the parameters.
    """

    def __init__(self, heads: Heads, text: Dashboard, page: HeadsPage, **params: Any) -> None:
        super().__init__(**params)
        self._heads = heads
        self._pages: dict[str, View] = {_TEXT: text, _HEADS: page}
        self._places = Places(self._pages)
        self._tabs = Tabs(
            self._choose,
            names=list(self._pages),
            views=list(self._places),
            caption="Pages",
            open=self._open,
            pages=True,
        )
        heads.param.watch(self._show, "open")
        self._show()

    @property
    def _open(self) -> str:
        return _HEADS if self._heads.open else _TEXT

    def cleanup(self) -> None:
        """Clean up both."""
        for page in self._pages.values():
            page.cleanup()

    def _choose(self, data: dict[str, str]) -> None:
        if data["name"] in self._pages:
            self._heads.open = data["name"] == _HEADS

    @param.depends("shown", watch=True)
    def _show(self, *_events: object) -> None:
        open_ = self._tabs.open = self._open
        self._places.fill(open_, self._pages[open_])
        for name, page in self._pages.items():
            page.shown = self.shown and name == open_

    @param.depends("dark", watch=True)
    def _recolor(self) -> None:
        for page in self._pages.values():
            page.dark = self.dark

    def __panel__(self) -> Tabs:
        return self._tabs
