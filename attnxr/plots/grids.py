"""What maps of cells have in common: outlines, ticks, colour bars and what the pointer is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import pandas as pd
import xarray as xr
from bokeh.models import CustomJSHover, FixedTicker, HoverTool, NumeralTickFormatter

from attnxr.plots.colors import CHOSEN
from attnxr.plots.measures import Measure
from attnxr.tokens import label, pieces

EDGE = 0.04
"""Room for the outline of a cell at the edge, in cells."""
OUTLINE: dict[str, Any] = {
    "fill_alpha": 0,
    "line_color": CHOSEN,
    "tools": [],
    # On a canvas of its own: when it moves, the cells under it need not be drawn again.
    "backend_opts": {"glyph_renderer.level": "overlay"},
}
BARE: dict[str, Any] = {
    "default_tools": [],
    "toolbar": None,
    "show_legend": False,
    "backend_opts": {"plot.output_backend": "canvas"},
}
"""Options of an overlay that is looked at and clicked, and neither moved nor enlarged."""
FRAME: dict[str, Any] = {"frame_width": 460, "frame_height": 260, "fontsize": {"title": "11pt"}}
"""Options of an overlay that has a title, which must have room."""
BARS: dict[str, Any] = {
    "color": "color",
    "line_color": None,
    "bar_width": 0.7,
    "invert_axes": True,
    "toolbar": None,
    "responsive": True,
    "tools": ["hover"],
    "xlabel": "",
}
"""Options of bars that lie one below the other, in the colours of a column of theirs."""
LAYER = hv.Dimension("layer", label="Layer (0 reads the input)")
HEADS = [hv.Dimension("head", label="Head"), LAYER]
"""Dimensions of a map over layers and heads."""
Corners = tuple[float, float, float, float]


def over_layers_and_heads(columns: Mapping[str, Any], values: Sequence[hv.Dimension | str]) -> hv.HeatMap:
    """Cells of a map over layers and heads, given as a flat column for each quantity.

    HoloViews makes a table of pandas of them. Where pyarrow is installed, pandas keeps strings in arrays of a kind that
    HoloViews cannot lay out as a grid; so they are given as plain objects.
    """
    table = {}
    for name in (str(dimension) for dimension in (*HEADS, *values)):
        column = np.asarray(columns[name])
        table[name] = pd.Series(column, dtype=None if column.dtype.kind in "biuf" else object)
    # A span of 1: a single column, as of vectors without heads, is no wider than others are.
    return hv.HeatMap(pd.DataFrame(table), HEADS, list(values)).opts(default_span=1)


def outlines(*corners: Corners) -> dict[str, list[float]]:
    """Edges of rectangles, given as (left, bottom, right, top), by the names Bokeh's quads give them."""
    names = ("left", "bottom", "right", "top")
    return {name: [edges[i] for edges in corners] for i, name in enumerate(names)}


def cell(x: int, y: int) -> Corners:
    """Edges of the cell of which x and y are the middle."""
    return x - 0.5, y - 0.5, x + 0.5, y + 0.5


def cell_outline(layer: int, head: int) -> dict[str, list[float]]:
    """Edges of the cell of one layer and head, by the names Bokeh's quads give them."""
    return outlines(cell(head, layer))


def over_heads(cells: hv.HeatMap, dataset: xr.Dataset, layer: int | None, head: int | None) -> hv.Overlay:
    """Map of the layers and heads of a Dataset, under the outline of one cell, if both are given."""
    n_layers, n_heads = dataset.sizes["layer"], dataset.sizes["head"]
    chosen = [] if layer is None or head is None else [cell(head, layer)]
    return (cells * hv.Rectangles(chosen).opts(**OUTLINE, line_width=3)).opts(
        **BARE,
        xlim=(-0.5 - EDGE, n_heads - 0.5 + EDGE),
        ylim=(-0.5 - EDGE, n_layers - 0.5 + EDGE),
        xticks=ticks(dataset, "head"),
        yticks=ticks(dataset, "layer"),
    )


def thinned(count: int) -> list[int]:
    """Ticks of so many cells: all of them, or every second, fifth, tenth … so that their numbers have room."""
    most = 16 if count <= 100 else 8
    steps = [step * 10**power for power in range(4) for step in (1, 2, 5)]
    step = next(step for step in steps if count <= step * most)
    return list(range(0, count, step))


def ticks(dataset: xr.Dataset, dim: str) -> list[tuple[int, str]]:
    """Ticks of the layers or heads of a Dataset: its index, and its number in the model."""
    numbers = dataset[dim].values
    return [(index, str(numbers[index])) for index in thinned(len(numbers))]


def color_options(measure: Measure, limits: tuple[float, float], dark: bool) -> dict[str, Any]:
    """Options of an element that give its colours to a measure."""
    return {"cmap": measure.palette(dark), "logz": measure.log, "clim": limits}


def color_bar(measure: Measure, limits: tuple[float, float]) -> dict[str, Any]:
    """Options of an element for a colour bar above it that says which end is which."""
    options: dict[str, Any] = {"height": 10, "padding": 5}
    if measure.categories:
        names = dict(enumerate(measure.categories))
        options |= {"ticker": FixedTicker(ticks=list(names)), "major_label_overrides": names}
    elif measure.log:
        powers = [10.0**power for power in range(-3, 7) if limits[0] <= 10.0**power <= limits[1]]
        options |= {"ticker": FixedTicker(ticks=powers), "formatter": NumeralTickFormatter(format="0,0.[000]")}
    return {"colorbar": True, "colorbar_position": "top", "colorbar_opts": options}


def set_columns(columns: dict[str, Any]) -> Callable[[Any, object], None]:
    """A hook for HoloViews, whose images hold numbers only: sets columns, also those that only tooltips need."""

    def hook(plot: Any, _element: object) -> None:
        source = plot.handles["source"]
        source.data = {**source.data, **columns}

    return hook


def token_names(dataset: xr.Dataset) -> list[str]:
    """How tokens are shown, in order, given a Dataset with their ``token`` and ``text``."""
    return [piece.name for piece in pieces(dataset["token"].values, dataset["text"].values)]


def token_label(dataset: xr.Dataset, position: int) -> str:
    """How the token at a position is shown, as of `token_names`."""
    token, text = (str(dataset[name].values[position]) for name in ("token", "text"))
    # What stands around it matters only to bytes that are no character.
    return token_names(dataset)[position] if "\ufffd" in text else label(token, text)


def name_positions(plot: Any, names: Sequence[str], *axes: str) -> None:
    """Have ``$x{token}`` of a drawn image's tooltip become the token and its position, for each of the axes.

    An image has a value for each cell, but nowhere to put a name for each column.
    """
    hover = plot.handles["hover"]
    namers = {
        f"${axis}": CustomJSHover(
            args={"names": list(names)},
            code=f"const i = Math.round(special_vars.{axis}); return `${{names[i]}} (position ${{i}})`",
        )
        for axis in axes
    }
    hover.formatters = {**hover.formatters, **namers}


def name_layers(dataset: xr.Dataset) -> Callable[[Any, object], None]:
    """A hook for HoloViews: ``$y{layer}`` of a drawn image's tooltip becomes the layer's number in the model."""
    numbers = dataset["layer"].values.tolist()

    def hook(plot: Any, _element: object) -> None:
        hover: HoverTool = plot.handles["hover"]
        namer = CustomJSHover(args={"numbers": numbers}, code="return `${numbers[Math.round(special_vars.y)]}`")
        hover.formatters = {**hover.formatters, "$y": namer}

    return hook


def name_categories(measure: Measure) -> Callable[[Any, object], None]:
    """A hook for HoloViews: ``@image`` of a tooltip becomes the name of the category."""

    def hook(plot: Any, _element: object) -> None:
        hover: HoverTool = plot.handles["hover"]
        if measure.categories:
            code = "return names[value]"
            namer = CustomJSHover(args={"names": list(measure.categories)}, code=code)
            hover.formatters = {**hover.formatters, "@image": namer}

    return hook
