"""How near tokens stay to themselves, layer by layer, in the chosen head."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import param
import xarray as xr

from attnxr.dashboard.answer import Aspect
from attnxr.dashboard.components import Choices, Heading
from attnxr.dashboard.fields import choice_field
from attnxr.dashboard.figure import Columns, Figure
from attnxr.dashboard.rows import token_label
from attnxr.dashboard.state import State
from attnxr.plots import over_layers_columns, over_layers_plot
from attnxr.plots.over_layers import OTHERS, over_layers_limits

_STREAM = Aspect("stream")
_REACH = 0.05  # of the axis: a click farther from every line chooses the layer only


class OverLayers(Figure):
    """Own rank or own distance over layers, of all tokens; a click near a line chooses token and layer.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.neighbors`` returned.
    **params
        Starting values of the parameters.
    """

    follows = ("answer", "layer", "head", "position", "quantity", "arrived")
    tapped = OTHERS
    height = 460

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        heading = Heading(
            title="Over layers",
            help="How near what the chosen head of each layer wrote at a token stays to that token itself: the chosen "
            "token in orange, all others as thin lines, and dashed the residual stream at the chosen token. Click near "
            "a line to choose its token and the layer.",
        )
        self._choices = Choices(self._choose, margin=(-8, 0, 6, 0))
        super().__init__(given, heading, **params)
        self._state.param.watch(self._offer, "quantity")
        self._offer()

    @param.depends("shown", watch=True)
    def _follow(self, *events: object) -> None:
        there = self.shown and self._state.answer is not None
        self._state.want(self, _STREAM if there else None)
        super()._follow(*events)

    @property
    def _found(self) -> xr.Dataset | None:
        return self._state.aspect(_STREAM)

    def _shape(self) -> Hashable:
        answer = self._state.answer
        return answer and (
            tuple(answer.layers),
            answer.n_positions <= 60,
            self._state.quantity,
            over_layers_limits(answer.neighbors, self._state.quantity, self._found),
        )

    def _plot(self) -> hv.Overlay:
        state = self._state
        return over_layers_plot(
            self._answer.neighbors, state.head, state.position, state.layer, state.quantity, self._found
        )

    def _sources(self) -> dict[str, Columns]:
        state = self._state
        return dict(
            over_layers_columns(
                self._answer.neighbors, state.head, state.position, state.layer, state.quantity, self._found
            )
        )

    def _detail(self) -> str:
        state, encodings = self._state, self._answer.encodings
        refused = state.refusal(_STREAM)
        stream = (
            f"no residual stream: {refused}"
            if refused
            else ""
            if self._found is not None
            else "residual stream: computing…"
        )
        where = f"head {state.head} · “{token_label(encodings, state.position)}” at position {state.position}"
        return " · ".join(filter(None, [where, stream]))

    def _tap(self, x: float, y: float) -> None:
        answer, state = self._state.answer, self._state
        layer = round(x)
        if answer is None or not 0 <= layer < answer.n_layers or (state.quantity == "own_rank" and y <= 0):
            return
        values = answer.neighbors[state.quantity].isel(layer=layer, head=state.head).values.astype(np.float64)
        limits = np.array(over_layers_limits(answer.neighbors, state.quantity, self._found))
        if state.quantity == "own_rank":
            values, limits, y = np.log(values), np.log(limits), np.log(y)
        away = np.abs(values - y) / np.ptp(limits)
        position = int(away.argmin())
        state.select(layer=layer, position=position if away[position] <= _REACH else None)

    def _choose(self, data: dict[str, str]) -> None:
        self._state.quantity = data["value"]

    def _offer(self, *_events: object) -> None:
        self._choices.fields = [choice_field(self._state, "quantity", "Show")]

    def __panel__(self) -> pn.Column:
        return pn.Column(self._choices, super().__panel__(), sizing_mode="stretch_width")
