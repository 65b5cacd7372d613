"""The map of own ranks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from attnxr.dashboard.components import Heading
from attnxr.dashboard.figure import Columns, Figure
from attnxr.dashboard.rows import token_label
from attnxr.dashboard.state import State
from attnxr.plots import cell_outline, rank_columns, rank_map, rank_palette

_CELLS, _OUTLINE = "HeatMap.I", "Rectangles.I"


class RankMap(Figure):
    """The own rank of the chosen token in every layer and head; a click chooses both.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.neighbors`` returned.
    **params
        Starting values of the parameters.
    """

    tapped = _CELLS

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        heading = Heading(
            title="Own rank in every layer and head",
            help="Rank 1: of the whole vocabulary, this token is the nearest to what the head wrote at it. "
            "Click a cell to choose its layer and head.",
        )
        super().__init__(given, heading, **params)

    def _shape(self) -> Hashable:
        answer = self._state.answer
        return answer and (answer.n_layers, answer.n_heads, answer.vocab_size)

    def _plot(self) -> hv.Overlay:
        return rank_map(self._answer.neighbors, self._state.position, dark=self.dark)

    def _sources(self) -> dict[str, Columns]:
        state = self._state
        columns = rank_columns(self._answer.neighbors, state.position)
        return {
            _CELLS: {**columns, "zvalues": columns["own_rank"]},
            _OUTLINE: cell_outline(state.layer, state.head),
        }

    def _detail(self) -> str:
        return f"“{token_label(self._answer.encodings, self._state.position)}”"

    def _blank(self, layer: str, columns: Columns) -> Columns:
        if layer == _OUTLINE:
            return super()._blank(layer, columns)
        blank = np.full(len(columns["zvalues"]), np.nan)
        empty = np.full(len(blank), "", dtype=object)
        return {"zvalues": blank, "own_rank": blank, "own_distance": blank, "nearest": empty}

    def _dress(self, layer: str, plot: Any) -> None:
        if layer == _CELLS:
            plot.handles["color_mapper"].palette = rank_palette(self.dark)

    def _tap(self, x: float, y: float) -> None:
        self._state.select(layer=round(y), head=round(x))
