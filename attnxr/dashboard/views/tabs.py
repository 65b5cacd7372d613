"""The tabbed card: the open tab's view is shown, the others wait; each is made when it is first opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import panel as pn
import param

from attnxr.dashboard.parts import Tabs
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.view import View


class Places:
    """Where views stand: each comes into the page when it is first open, for most never are.

    Parameters
    ----------
    names : iterable of str
        Names of their tabs.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._places = {name: pn.Column(sizing_mode="stretch_width") for name in names}

    def __iter__(self) -> Iterator[pn.Column]:
        return iter(self._places.values())

    def fill(self, name: str, view: View) -> None:
        """Put a view where it stands, unless it is there."""
        if not self._places[name].objects:
            self._places[name].append(view)


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

    Attributes
    ----------
    views : dict
        Those that were opened, by the names of their tabs.
    """

    def __init__(self, state: State, views: Mapping[str, Callable[..., View]], **params: Any) -> None:
        super().__init__(**params)
        self._state = state
        self._kinds = views
        self.views: dict[str, View] = {}
        self._places = Places(views)
        self._tabs = Tabs(
            self._choose, names=list(views), views=list(self._places), caption="Panels", open=_open(state, views)
        )
        state.param.watch(self._show, "panel")
        self._show()

    def cleanup(self) -> None:
        """Clean up every view."""
        for view in self.views.values():
            view.cleanup()

    def reveal(self, name: str) -> None:
        """Open a tab and bring it before the visitor's eyes, wherever on the page he is."""
        self._state.panel = name
        self._tabs.send({"reveal": True})

    def _choose(self, data: dict[str, str]) -> None:
        if data["name"] in self._kinds:
            self._state.panel = data["name"]

    @param.depends("shown", watch=True)
    def _show(self, *_events: object) -> None:
        open_ = self._tabs.open = _open(self._state, self._kinds)
        if open_ not in self.views:  # what is made costs the server even while it is hidden
            self.views[open_] = self._kinds[open_](self._state, dark=self.dark, shown=False)
        self._places.fill(open_, self.views[open_])
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
