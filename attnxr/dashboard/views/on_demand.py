"""The base of views that show several aspects of an answer, each once it is there."""

from __future__ import annotations

from typing import Any, ClassVar

import param
import xarray as xr

from attnxr.dashboard.rows.signal import COMPUTING
from attnxr.dashboard.session.answer import Aspect
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.view import View


class OnDemand(View):
    """What wants aspects of the answer while it is shown. A subclass says which: `kinds`, `_aspect`; and draws them.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow.
    **params
        Starting values of the parameters.
    """

    needs = ("neighbors", "encodings")
    kinds: ClassVar[tuple[str, ...]] = ()
    """Of its aspects; what is named last is computed first."""
    asks: ClassVar[tuple[str, ...]] = ("layer", "head", "position")
    """What of the selection its aspects depend on."""
    draws: ClassVar[tuple[str, ...]] = ("layer", "head", "position")
    """What of the selection it is drawn anew for."""

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        super().__init__(**params)
        self._state = self._take(given)
        self._state.param.watch(self._ask, ["answer", *self.asks])
        self._state.param.watch(self._draw_shown, ["answer", "arrived", *self.draws])

    @param.depends("shown", watch=True)
    def _follow(self) -> None:
        self._ask()
        self._draw_shown()

    def _aspect(self, kind: str) -> Aspect | None:
        """Which aspect of a kind belongs to the selection; None where there is none."""
        raise NotImplementedError

    def _draw(self) -> None:
        """Show what is there; called while the view is shown."""
        raise NotImplementedError

    def _ask(self, *_events: object) -> None:
        there = self.shown and self._state.answer is not None
        for kind in self.kinds:
            self._state.want((self, kind), self._aspect(kind) if there else None)

    def _draw_shown(self, *_events: object) -> None:
        if self.shown:
            self._draw()

    def _waiting(self, aspect: Aspect) -> str:
        """What stands in the place of an aspect that is not there: why it cannot be had, or that it is computed."""
        return self._state.refusal(aspect) or COMPUTING
