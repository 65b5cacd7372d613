"""The map of what was written and of the vocabulary near it."""

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
from attnxr.plots import map_layers, map_limits, map_plot
from attnxr.plots.encoding_map import VECTORS

_CHOICES = {"map_over": "Of", "map_method": "Laid out by"}


class EncodingMap(Figure):
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

    def __init__(self, given: State | xr.Dataset, **params: Any) -> None:
        heading = Heading(
            title="Map",
            help="What the head wrote (orange) among the vocabulary tokens that are nearest to it, with the tokens "
            "themselves as diamonds. Trustworthiness is 1 where all neighbours on the map are neighbours indeed, and "
            "about 0.5 for a map at random; click a point to choose it.",
        )
        self._choices = Choices(self._choose, margin=(-8, 0, 6, 0))
        super().__init__(given, heading, **params)
        self._state.param.watch(self._offer, list(_CHOICES))
        self._offer()

    @property
    def _aspect(self) -> Aspect:
        state = self._state
        if state.map_over == "layers":
            return Aspect("map", head=state.head, position=state.position, method=state.map_method)
        return Aspect("map", layer=state.layer, head=state.head, method=state.map_method)

    @property
    def _found(self) -> xr.Dataset | None:
        return self._state.aspect(self._aspect)

    @param.depends("shown", watch=True)
    def _follow(self, *events: object) -> None:
        there = self.shown and self._state.answer is not None
        self._state.want(self, self._aspect if there else None)
        super()._follow(*events)
        if there and self._found is None:
            self._heading.detail = self._state.refusal(self._aspect) or "computing…"

    def _shape(self) -> Hashable:
        return None if self._found is None else "map"

    def _plot(self) -> hv.Overlay:
        assert self._found is not None
        return map_plot(self._found, dark=self.dark).opts(
            title="", xlabel="x", ylabel="y", data_aspect=None, legend_position="top", toolbar=None
        )

    def _sources(self) -> dict[str, Columns]:
        assert self._found is not None
        state = self._state
        return dict(map_layers(self._found, self._answer.layers[state.layer], state.position))

    def _fill(self, layer: str, plot: Any, columns: Columns | None) -> None:
        super()._fill(layer, plot, columns)
        if columns is not None and layer == VECTORS and self._found is not None:
            (left, right), (bottom, top) = map_limits(self._found)
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
        state, found = self._state, self._found
        assert found is not None
        what = f"“{token_label(self._answer.encodings, state.position)}”, head {state.head} of every layer"
        if state.map_over == "tokens":
            what = f"all tokens, layer {self._answer.layers[state.layer]}, head {state.head}"
        parts = [what, f"trustworthiness {float(found['trustworthiness']):.2f}"]
        if "explained_variance_ratio" in found:
            shares = found["explained_variance_ratio"].values
            parts.append(f"of variance {shares[0]:.0%} along x, {shares[1]:.0%} along y")
        return " · ".join(parts)

    def _tap(self, x: float, y: float) -> None:
        found = self._found
        if found is None:
            return
        vectors = np.flatnonzero(found["kind"].values == "encoding")
        place = found["coordinate"].values[vectors, :2]
        (left, right), (bottom, top) = map_limits(found)
        away = np.hypot((place[:, 0] - x) / (right - left), (place[:, 1] - y) / (top - bottom))
        if away.min() > 0.04:
            return
        point = found.isel(point=vectors[away.argmin()])
        self._state.select(layer=self._answer.layers.index(int(point["layer"])), position=int(point["position"]))

    def _choose(self, data: dict[str, str]) -> None:
        if data["name"] in _CHOICES:
            self._state.param.update({data["name"]: data["value"]})

    def _offer(self, *_events: object) -> None:
        self._choices.fields = [choice_field(self._state, name, label) for name, label in _CHOICES.items()]

    def __panel__(self) -> pn.Column:
        return pn.Column(self._choices, super().__panel__(), sizing_mode="stretch_width")
