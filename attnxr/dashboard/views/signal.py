"""Whether heads wrote something nearer to the vocabulary than chance, and what the neighbours have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
import param
import xarray as xr

from attnxr.dashboard.parts import Heading, SignalTable
from attnxr.dashboard.rows.signal import (
    far_line,
    hub_line,
    origin_line,
    overlap_line,
    power_line,
    signal_line,
    signal_rows,
)
from attnxr.dashboard.session.answer import COLUMN_NAMES, Aspect
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.on_demand import OnDemand
from attnxr.dashboard.views.question import follow_question
from attnxr.plots.grids import token_label

# Of each line its name, the aspect it is made of and its words.
_LINES: dict[str, tuple[str, Callable[[xr.Dataset], str]]] = {
    "Signal": ("significance", signal_line),
    "Far": ("significance", far_line),
    "Power": ("power", power_line),
    "Hubs": ("hubness", hub_line),
    "Layer before": ("overlap", overlap_line),
    "Nearest is": ("origins", origin_line),
}


class SignalOrNoise(OnDemand):
    """How the chosen token's nearest distances compare with chance, head by head, and lines on the whole layer.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes.
    **params
        Starting values of the parameters.
    """

    kinds = ("power", "significance", "hubness", "overlap", "origins")
    asks = ("layer",)
    draws = ("layer", "position")

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        super().__init__(given, **params)
        state = self._state
        self._heading = Heading(title="Signal or noise")
        follow_question(
            state,
            self._heading,
            "{question} There is always a nearest token, so its distance is held against those of vectors as far out "
            "that point in random directions: p is the share of them that come as near. q is p corrected for the many"
            " heads and tokens of the layer: of those that are called nearer than chance, at most one in twenty is "
            "expected to be so by chance. A vector that is no nearer than chance need not be noise: Power says how "
            "near to a word a vector must be for this test to find it. To be farther than chance is a finding too "
            "(Far).",
        )
        self._table = SignalTable(
            lambda data: state.select_column(data["head"]), caption="Nearest distances and chance, by head"
        )
        state.param.watch(self._choose, ["answer", "head"])
        self._follow()

    @param.depends("shown", watch=True)
    def _follow(self) -> None:
        super()._follow()
        self._choose()

    def _choose(self, *_events: object) -> None:
        if self.shown:
            answer = self._state.answer
            self._table.head = -1 if answer is None else answer.column(self._state.head)

    def _aspect(self, kind: str) -> Aspect | None:
        layer = self._state.layer
        return None if kind == "overlap" and layer == 0 else Aspect(kind, layer)

    def _draw(self) -> None:
        state = self._state
        if state.answer is None:
            self._heading.detail = ""
            self._table.param.update(rows=[], lines=[[name, ""] for name in _LINES])
            return
        layer, position = state.layer, state.position
        name = token_label(state.answer.encodings, position)
        self._heading.detail = f"layer {state.answer.layers[layer]} · “{name}” at position {position}"
        significance = state.aspect(Aspect("significance", layer))
        self._table.param.update(
            column=COLUMN_NAMES[state.answer.columns],
            rows=signal_rows(state.answer.near, significance, layer, position),
            lines=[[name, self._line(kind, words)] for name, (kind, words) in _LINES.items()],
        )

    def _line(self, kind: str, words: Callable[[xr.Dataset], str]) -> str:
        aspect = self._aspect(kind)
        if aspect is None:
            return "there is none before the first layer"
        dataset = self._state.aspect(aspect)
        return self._waiting(aspect) if dataset is None else words(dataset)

    def __panel__(self) -> pn.Column:
        return pn.Column(self._heading, self._table, sizing_mode="stretch_width")
