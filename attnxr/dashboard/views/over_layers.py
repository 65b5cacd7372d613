"""How near tokens stay to themselves, layer by layer, in the chosen head."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from attnxr.dashboard.parts import Heading
from attnxr.dashboard.session.answer import Aspect
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.aspect_figure import AspectFigure
from attnxr.dashboard.views.figure import Columns
from attnxr.dashboard.views.question import follow_question
from attnxr.plots import over_layers_columns, over_layers_plot
from attnxr.plots.grids import token_label
from attnxr.plots.over_layers import OTHERS, over_layers_limits

_STREAM = Aspect("stream")
_REACH = 0.05  # of the axis: a click farther from every line chooses the layer only


class OverLayers(AspectFigure):
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
    choices = {"quantity": "Show"}  # noqa: RUF012

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        heading = Heading(
            title="Over layers",
        )
        super().__init__(given, heading, **params)
        follow_question(
            self._state,
            heading,
            "{question} How near is the token itself, layer by layer: the chosen token in orange, all others as thin "
            "lines, and dashed the residual stream at the chosen token. Click near a line to choose its token and the"
            " layer.",
        )

    @property
    def _aspect(self) -> Aspect:
        return _STREAM

    def _shape(self) -> Hashable:
        answer = self._state.answer
        return answer and (
            tuple(answer.layers),
            answer.n_positions <= 60,
            self._state.quantity,
            over_layers_limits(answer.near, quantity=self._state.quantity, trajectories=self._computed),
        )

    def _plot(self) -> hv.Overlay:
        state = self._state
        return over_layers_plot(
            self._answer.near,
            self._answer.column(state.head),
            state.position,
            layer=state.layer,
            quantity=state.quantity,
            trajectories=self._computed,
        )

    def _sources(self) -> dict[str, Columns]:
        state = self._state
        return dict(
            over_layers_columns(
                self._answer.near,
                self._answer.column(state.head),
                state.position,
                state.layer,
                quantity=state.quantity,
                trajectories=self._computed,
            )
        )

    def _detail(self) -> str:
        state, encodings = self._state, self._answer.encodings
        refused = state.refusal(_STREAM)
        stream = (
            f"no residual stream: {refused}"
            if refused
            else ""
            if self._computed is not None
            else "residual stream: computing…"
        )
        chosen = f"“{token_label(encodings, state.position)}” at position {state.position}"
        return " · ".join(filter(None, [self._answer.named(state.head), chosen, stream]))

    def _tap(self, x: float, y: float) -> None:
        answer, state = self._state.answer, self._state
        layer = round(x)
        if answer is None or not 0 <= layer < answer.n_layers or (state.quantity == "own_rank" and y <= 0):
            return
        values = answer.near[state.quantity].isel(layer=layer, head=answer.column(state.head)).values.astype(np.float64)
        limits = np.array(over_layers_limits(answer.near, quantity=state.quantity, trajectories=self._computed))
        if state.quantity == "own_rank":
            values, limits, y = np.log(values), np.log(limits), np.log(y)
        away = np.abs(values - y) / np.ptp(limits)
        position = int(away.argmin())
        state.select(layer=layer, position=position if away[position] <= _REACH else None)
