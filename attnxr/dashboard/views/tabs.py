"""The tabbed card: the open tab's view is shown, the others wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import param

from attnxr.dashboard.parts import Tabs
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.view import View


class Panels(View):
    """Views of which one is open.

    Parameters
    ----------
    state : State
        What holds the name of the open one, and is given to each view.
    views : mapping of str to callable
        Kinds of views by the names of their tabs.
    **params
        Starting values of the parameters.
    """

    def __init__(self, state: State, views: Mapping[str, Callable[..., View]], **params: Any) -> None:
        super().__init__(**params)
        self._state = state
        open_ = _open(state, views)
        self.views = {
            name: view(state, dark=self.dark, shown=self.shown and name == open_) for name, view in views.items()
        }
        self._tabs = Tabs(
            self._choose, names=list(views), views=list(self.views.values()), caption="Panels", open=open_
        )
        state.param.watch(self._show, "panel")

    def cleanup(self) -> None:
        """Clean up every view."""
        for view in self.views.values():
            view.cleanup()

    def _choose(self, data: dict[str, str]) -> None:
        if data["name"] in self.views:
            self._state.panel = data["name"]

    @param.depends("shown", watch=True)
    def _show(self, *_events: object) -> None:
        open_ = self._tabs.open = _open(self._state, self.views)
        # What is hidden goes first, so that nothing is asked for two.
        for name, view in sorted(self.views.items(), key=lambda item: item[0] == open_):
            view.shown = self.shown and name == open_

    @param.depends("dark", watch=True)
    def _recolor(self) -> None:
        for view in self.views.values():
            view.dark = self.dark

    def __panel__(self) -> Tabs:
        return self._tabs


def _open(state: State, views: Mapping[str, object]) -> str:
    return state.panel if state.panel in views else next(iter(views))
