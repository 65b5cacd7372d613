"""The base of all views: what each has beside what it shows."""

from __future__ import annotations

from typing import Any, ClassVar

import param
import xarray as xr
from panel.viewable import Viewer

from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.notebook import load_scripts
from attnxr.dashboard.views.state_of import state_for

CARD = {
    "border": "1px solid color-mix(in srgb, currentColor 16%, transparent)",
    "border-radius": "10px",
    "padding": "9px 14px",
}
"""How what belongs together is framed."""


class View(Viewer):
    """What follows a State and displays itself: on the page, or as the last line of a notebook cell.

    Parameters
    ----------
    **params
        Starting values of the parameters.
    """

    dark = param.Boolean(default=False, doc="Whether the view stands on a dark background.")
    shown = param.Boolean(default=True, doc="Whether the view is on screen. A hidden one asks and sends nothing.")

    needs: ClassVar[tuple[str, ...]] = ("neighbors",)
    """Which Datasets of an answer it shows."""

    state: State
    """What it follows; ``state.select(…)`` moves the selection."""

    def __init__(self, **params: Any) -> None:
        load_scripts()
        super().__init__(**params)

    def _take(self, given: State | xr.Dataset) -> State:
        """Set and give the State to follow, given one or a Dataset to make it of; raises what `state_for` does."""
        self.state = state_for(type(self).__name__, self.needs, given)
        return self.state

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        load_scripts()
        return super()._repr_mimebundle_(include, exclude)

    def cleanup(self) -> None:
        """Let go of what would keep the session alive after its visitor has left."""
