"""Where the chosen head looked."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr

from attnxr.dashboard.parts import Heading
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.figure import Columns, Figure
from attnxr.plots import attention_columns, attention_map
from attnxr.plots.attention import attention_palette, attention_row, name_tokens
from attnxr.plots.grids import outlines, token_label, token_names

_IMAGE, _OUTLINE = "Image.I", "Rectangles.I"


class AttentionMatrix(Figure):
    """The attention weights of the chosen head; a click chooses the token of the row.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes; or what ``model.encode`` returned.
    **params
        Starting values of the parameters.
    """

    needs = ("encodings",)
    tapped = _IMAGE
    height = 640
    max_width = 860

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        heading = Heading(
            title="Attention",
            help="Each row says how the chosen head divided its attention at one token (the query) among the tokens it "
            "could see (the keys): the weights of a row sum to 1. Click to choose the token of the row, that is, the "
            "query.",
        )
        super().__init__(given, heading, **params)

    def _shape(self) -> Hashable:
        answer = self._state.answer
        return answer and answer.n_positions

    def _rename(self, layer: str, plot: Any) -> None:
        if layer == _IMAGE:
            name_tokens(plot, token_names(self._answer.encodings))

    def _plot(self) -> hv.Overlay:
        return attention_map(self._answer.encodings, self._state.layer, self._state.head, dark=self.dark)

    def _sources(self) -> dict[str, Columns]:
        state, answer = self._state, self._answer
        return {
            _IMAGE: attention_columns(answer.encodings, state.layer, state.head),
            _OUTLINE: outlines(*attention_row(answer.n_positions, state.position)),
        }

    def _detail(self) -> str:
        state, encodings = self._state, self._answer.encodings
        where = f"layer {self._answer.layers[state.layer]}, head {state.head}"
        weights = (
            encodings["attention"].variable.isel(layer=state.layer, head=state.head, position=state.position).values
        )
        most = int(np.argmax(weights))
        return (
            f"{where} · “{token_label(encodings, state.position)}” attends most to "
            f"“{token_label(encodings, most)}” at position {most}, {weights[most]:.0%}"
        )

    def _blank(self, layer: str, columns: Columns) -> Columns:
        """A grey image, where it was."""
        if layer == _OUTLINE:
            return super()._blank(layer, columns)
        return {"image": [np.full_like(columns["image"][0], np.nan)]}

    def _dress(self, layer: str, plot: Any) -> None:
        if layer == _IMAGE:
            mapper = plot.handles["color_mapper"]
            mapper.palette = attention_palette(self.dark)
            mapper.low_color = mapper.palette[0]

    def _tap(self, x: float, y: float) -> None:
        self._state.select(position=round(y))
