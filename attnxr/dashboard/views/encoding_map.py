"""The map of what was written and of the vocabulary near it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np
import param
import xarray as xr

from attnxr.dashboard.parts import Heading
from attnxr.dashboard.session.answer import Aspect
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.aspect_figure import AspectFigure
from attnxr.dashboard.views.figure import Columns
from attnxr.dashboard.views.question import follow_question
from attnxr.plots import map_layers, map_limits, map_plot
from attnxr.plots.encoding_map import VECTORS
from attnxr.plots.grids import token_label


class EncodingMap(AspectFigure):
    """What a head wrote, laid out in a plane with its nearest tokens; a click on a point chooses it.

    Parameters
    ----------
    given : State or xarray.Dataset
        What to follow, and where a click goes.
    **params
        Starting values of the parameters.
    """

    needs = ("neighbors", "encodings")
    follows = ("answer", "layer", "head", "position", "map_over", "map_method", "arrived")
    tapped = VECTORS
    height = 560
    max_width = 900
    choices = {"map_over": "Of", "map_method": "Laid out by"}  # noqa: RUF012

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        heading = Heading(
            title="Map",
        )
        super().__init__(given, heading, **params)
        follow_question(
            self._state,
            heading,
            "{question} The vectors (orange) lie among the vocabulary tokens that are nearest to them, with the "
            "text's tokens as diamonds. Trustworthiness is 1 where all neighbours on the map are neighbours indeed, "
            "and about 0.5 for a map at random; click a point to choose it.",
        )

    @property
    def _aspect(self) -> Aspect:
        state = self._state
        if state.map_over == "layers":
            return Aspect("map", head=state.head, position=state.position, method=state.map_method)
        return Aspect("map", layer=state.layer, head=state.head, method=state.map_method)

    @param.depends("shown", watch=True)
    def _follow(self, *events: object) -> None:
        super()._follow(*events)
        if self.shown and self._state.answer is not None and self._computed is None:
            self._heading.detail = self._state.refusal(self._aspect) or "computing…"

    def _shape(self) -> Hashable:
        return None if self._computed is None else "map"

    def _plot(self) -> hv.Overlay:
        assert self._computed is not None
        return map_plot(self._computed, dark=self.dark).opts(
            title="", xlabel="x", ylabel="y", data_aspect=None, legend_position="top", toolbar=None
        )

    def _sources(self) -> dict[str, Columns]:
        assert self._computed is not None
        state = self._state
        return dict(map_layers(self._computed, layer=self._answer.layers[state.layer], position=state.position))

    def _fill(self, layer: str, plot: Any, columns: Columns | None) -> None:
        super()._fill(layer, plot, columns)
        if columns is not None and layer == VECTORS and self._computed is not None:
            (left, right), (bottom, top) = map_limits(self._computed)
            for axis, start, end in (("x_range", left, right), ("y_range", bottom, top)):
                plot.handles[axis].update(start=start, end=end, reset_start=start, reset_end=end)

    def _dress(self, layer: str, plot: Any) -> None:
        if layer.startswith("Labels"):
            vectors = layer == "Labels.Encoding"
            light, dark = ("#202020", "#f0f0f0") if vectors else ("#66727f", "#9aa7b5")
            plot.handles["glyph"].text_color = dark if self.dark else light
        elif layer.startswith("Points"):
            plot.handles["glyph"].line_color = "#101010" if self.dark else "#ffffff"

    def _detail(self) -> str:
        state, mapped = self._state, self._computed
        assert mapped is not None
        answer = self._answer
        named = answer.named(state.head) or "the stream"
        what = f"“{token_label(answer.encodings, state.position)}”, {named} of every layer"
        if state.map_over == "tokens":
            what = f"all tokens, {answer.where(state.layer, state.head)}"
        said = [what, f"trustworthiness {float(mapped['trustworthiness']):.2f}"]
        if "explained_variance_ratio" in mapped:
            shares = mapped["explained_variance_ratio"].values
            said.append(f"of variance {shares[0]:.0%} along x, {shares[1]:.0%} along y")
        return " · ".join(said)

    def _tap(self, x: float, y: float) -> None:
        mapped = self._computed
        if mapped is None:
            return
        vectors = np.flatnonzero(mapped["kind"].values == "encoding")
        coordinates = mapped["coordinate"].values[vectors, :2]
        (left, right), (bottom, top) = map_limits(mapped)
        away = np.hypot((coordinates[:, 0] - x) / (right - left), (coordinates[:, 1] - y) / (top - bottom))
        if away.min() > 0.04:
            return
        point = mapped.isel(point=vectors[away.argmin()])
        self._state.select(layer=self._answer.layers.index(int(point["layer"])), position=int(point["position"]))
