"""What changed from one result to another, over layers and heads."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr
from bokeh.models import FixedTicker

from attnxr.checking import choice
from attnxr.plots import grids
from attnxr.plots.colors import MISSING, RAMP, diverging

DIFFERENCES = {
    "own_rank": "Own rank, change",
    "rbo": "Overlap of neighbours",
    "attention_distance": "Attention moved",
}
"""What can be drawn of a comparison, and what it is called."""
_MOST_CHANGE = 2.0  # decades; what changes more has the same colour


def difference_palette(measure: str, dark: bool = False) -> list[str]:
    """Colours of a measure from its lowest value to its highest; what did not change recedes into the background.

    Parameters
    ----------
    measure : {"own_rank", "rbo", "attention_distance"}
        One of `DIFFERENCES`.
    dark : bool
        Whether the background is dark.

    Returns
    -------
    list of str
        Colours in hex notation. Of the change in own rank: from blue, nearer, over the background's, to red, farther;
        these can be told apart without colour vision.
    """
    choice("measure", measure, tuple(DIFFERENCES))
    if measure == "own_rank":
        return diverging(dark)
    lowest_stands_out = measure == "rbo"
    return list(RAMP) if lowest_stands_out != dark else list(reversed(RAMP))


def difference_columns(comparison: xr.Dataset, own_rank: xr.DataArray, row: int | None, measure: str) -> dict[str, Any]:
    """What the difference map shows of one position, a flat column for each quantity.

    Parameters
    ----------
    comparison : xarray.Dataset
        What ``attnxr.comparison`` returns.
    own_rank : xarray.DataArray
        Own ranks (layer, head) of the token in the first of the two.
    row : int, optional
        Index along ``position`` of `comparison`; None where the token has no counterpart.
    measure : {"own_rank", "rbo", "attention_distance"}
        One of `DIFFERENCES`.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``head`` and ``layer`` (indices), ``number`` (of the layer, in the model), ``value``, ``before`` and
        ``after`` (own ranks), ``rbo`` and ``attention_distance``, one entry a cell. The value of ``own_rank`` is
        log10(after / before): 1 where ten times as many entries are nearer. NaN where there is no counterpart, or
        nothing is known.
    """
    choice("measure", measure, tuple(DIFFERENCES))
    shape = comparison.sizes["layer"], comparison.sizes["head"]
    layers, heads = np.indices(shape)
    blank = np.full(layers.size, np.nan)
    numbers = comparison["layer"].values[layers.ravel()]
    columns = {"head": heads.ravel(), "layer": layers.ravel(), "number": numbers}
    columns["before"] = own_rank.values.ravel().astype(float)
    if row is None:
        missing = dict.fromkeys(("value", "after", "rbo", "attention_distance"), blank)
        return columns | missing
    here = comparison.isel(position=row).transpose("layer", "head", ...)
    after = columns["before"] + here["own_rank_difference"].values.ravel()
    columns |= {"after": after, "rbo": here["rbo"].values.ravel()}
    moved = here["attention_distance"].values.ravel() if "attention_distance" in here else blank
    columns["attention_distance"] = moved
    columns["value"] = np.log10(after / columns["before"]) if measure == "own_rank" else columns[measure]
    return columns


def difference_map(
    comparison: xr.Dataset,
    own_rank: xr.DataArray,
    row: int | None,
    *,
    measure: str = "own_rank",
    layer: int | None = None,
    head: int | None = None,
    dark: bool = False,
) -> hv.Overlay:
    """Map over layers and heads of what changed for one token.

    Parameters
    ----------
    comparison, own_rank, row, measure
        As of `difference_columns`.
    layer, head : int, optional
        The cell to outline; none is outlined unless both are given.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        A ``HeatMap`` under a ``Rectangles`` that outlines the chosen cell.
    """
    columns = difference_columns(comparison, own_rank, row, measure)
    label = hv.Dimension("value", label=DIFFERENCES[measure])
    cells = grids.over_layers_and_heads(
        columns, [label, "number", "before", "after", "rbo", "attention_distance"]
    ).opts(
        cmap=difference_palette(measure, dark),
        clim=(-_MOST_CHANGE, _MOST_CHANGE) if measure == "own_rank" else (0, 1),
        clipping_colors={"NaN": MISSING},
        colorbar=True,
        colorbar_position="top",
        colorbar_opts=_colorbar(measure),
        line_color="gray",
        line_alpha=0.25,
        tools=["hover"],
        hover_tooltips=[
            ("Layer, head", "@number, @head"),
            ("Own rank", "@before{0,0} → @after{0,0}"),
            ("Overlap of neighbours", "@rbo{0.00}"),
            ("Attention moved", "@attention_distance{0.00}"),
        ],
    )
    return grids.over_heads(cells, comparison, layer, head)


def _colorbar(measure: str) -> dict[str, Any]:
    if measure != "own_rank":
        return {"height": 10, "ticker": FixedTicker(ticks=[0, 0.25, 0.5, 0.75, 1])}
    names = {-2: "100 ×", -1: "10 × nearer", 0: "same", 1: "10 × farther", 2: "100 ×"}
    return {"height": 10, "ticker": FixedTicker(ticks=list(names)), "major_label_overrides": names}
