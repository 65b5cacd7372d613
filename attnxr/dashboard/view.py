"""The base of all views: what they follow, and how a notebook shows them."""

from __future__ import annotations

from typing import Any, ClassVar

import xarray as xr
from panel.viewable import Viewer

from attnxr.dashboard.given import state_for
from attnxr.dashboard.notebook import load_scripts
from attnxr.dashboard.state import State


class Shown(Viewer):
    """What displays itself as the last line of a notebook cell, with no network."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        load_scripts()
        return super()._repr_mimebundle_(include, exclude)


class View(Shown):
    """One view.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or the Dataset to show, which gets a State of its own.

    Raises
    ------
    InputError
        If what is given is not what the view shows.
    """

    _needs: ClassVar[tuple[str, ...]] = ("neighbors",)

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        super().__init__(**params)
        self._state = state_for(type(self).__name__, self._needs, given)

    @property
    def state(self) -> State:
        """What it follows: ``state.select(…)`` moves the selection, and ``state_of`` tells how views share one."""
        return self._state
