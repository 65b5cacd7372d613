"""Figures of what is computed on demand, under the choice of what they show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import panel as pn
import param
import xarray as xr

from attnxr.dashboard.parts import Choices, Heading
from attnxr.dashboard.session.answer import Aspect
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.fields import choice_field
from attnxr.dashboard.views.figure import Figure


class AspectFigure(Figure):
    """A figure that wants an aspect of the answer while it is shown. A subclass says which: `_aspect`.

    Parameters
    ----------
    given, heading, **params
        As of `Figure`.
    """

    choices: ClassVar[Mapping[str, str]] = {}
    """Parameters of the state that are chosen above the figure, and how the page calls them."""

    def __init__(self, given: State | xr.Dataset, heading: Heading, **params: Any) -> None:
        self._choices = Choices(self._choose, margin=(-8, 0, 6, 0))
        super().__init__(given, heading, **params)
        self._state.param.watch(self._offer, list(self.choices))
        self._offer()

    @property
    def _aspect(self) -> Aspect:
        raise NotImplementedError

    @property
    def _computed(self) -> xr.Dataset | None:
        """The aspect, where it is there."""
        return self._state.aspect(self._aspect)

    @param.depends("shown", watch=True)
    def _follow(self, *events: object) -> None:
        there = self.shown and self._state.answer is not None
        self._state.want(self, self._aspect if there else None)
        super()._follow(*events)

    def _choose(self, data: dict[str, str]) -> None:
        if data["name"] in self.choices:
            self._state.param.update({data["name"]: data["value"]})

    def _offer(self, *_events: object) -> None:
        self._choices.fields = [choice_field(self._state, name, label) for name, label in self.choices.items()]

    def __panel__(self) -> pn.Column:
        return pn.Column(self._choices, super().__panel__(), sizing_mode="stretch_width")
