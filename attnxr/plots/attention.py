"""Attention weights of one head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr
from bokeh.models import FixedTicker, NumeralTickFormatter

from attnxr.plots import grids
from attnxr.plots.colors import MISSING, ramp

MOST_NAMES = 40
"""Of so many tokens, the axes bear the names; of more, the positions."""


def attention_columns(encodings: xr.Dataset, layer: int, head: int) -> dict[str, list[Any]]:
    """What the attention matrix shows of one head: one image.

    Parameters
    ----------
    encodings : xarray.Dataset
        What ``model.encode`` returns, with its ``attention``.
    layer, head : int
        Indices along ``layer`` and ``head``.

    Returns
    -------
    dict of str to list
        Column ``image``, one float32 array (position, key position): the weights, NaN where there is none at all,
        as at the tokens that a causal mask hides.
    """
    weights = encodings["attention"].variable.isel(layer=layer, head=head).values
    return {"image": [np.where(weights > 0, weights, np.float32(np.nan))]}


def attention_limits(n: int) -> tuple[float, float]:
    """Weights of the first and the last colour for so many tokens; even attention, 1 / n, is well between them."""
    return float(10.0 ** np.floor(np.log10(0.1 / n))), 1.0


def attention_palette(dark: bool = False) -> list[str]:
    """Colours of weights from the lower limit to the upper one; what is attended most stands out."""
    return ramp(dark)[::-1]


def attention_row(n: int, position: int) -> list[grids.Corners]:
    """Edges of the row of one query."""
    return [(-0.5, position - 0.5, n - 0.5, position + 0.5)]


def name_tokens(plot: Any, names: Sequence[str]) -> None:
    """Have the drawn image of a map, and its axes, name other tokens; there must be as many as before."""
    grids.name_positions(plot, names, "x", "y")
    if len(names) <= MOST_NAMES:
        for axis in (*plot.state.xaxis, *plot.state.yaxis):
            axis.major_label_overrides = dict(enumerate(names))


def attention_map(
    encodings: xr.Dataset, layer: int, head: int, *, position: int | None = None, dark: bool = False
) -> hv.Overlay:
    """Attention weights of one head: each row says where the token at its position looked; it sums to 1.

    Parameters
    ----------
    encodings : xarray.Dataset
        What ``model.encode`` returns, with its ``attention``.
    layer, head : int
        Indices along ``layer`` and ``head``.
    position : int, optional
        The row to outline.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        An ``Image`` with logarithmic colours, the first token in the top row, under a ``Rectangles`` that outlines
        the chosen row.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> from attnxr import plots
    >>> element = plots.attention_map(enc, layer=1, head=3)
    """
    weights = attention_columns(encodings, layer, head)["image"][0]
    n = len(weights)
    names = grids.token_names(encodings)
    limits = attention_limits(n)
    powers = [10.0**power for power in range(int(np.log10(limits[0])), 1)]
    cells = hv.Image(
        weights[::-1],
        bounds=(-0.5, -0.5, n - 0.5, n - 0.5),
        kdims=[
            hv.Dimension("key", label="Key: the token looked at"),
            hv.Dimension("query", label="Query: the token that looks"),
        ],
        vdims=[hv.Dimension("weight", label="Attention weight (1 = all of it)")],
    ).opts(
        cmap=attention_palette(dark),
        logz=True,
        clim=limits,
        colorbar=True,
        colorbar_position="top",
        colorbar_opts={
            "height": 10,
            "ticker": FixedTicker(ticks=powers),
            "formatter": NumeralTickFormatter(format="0.[0000]"),
        },
        clipping_colors={"NaN": MISSING, "min": attention_palette(dark)[0]},
        tools=["hover"],
        hover_tooltips=[("Query", "$y{token}"), ("Key", "$x{token}"), ("Weight", "@image{0.0000}")],
        hooks=[lambda plot, _element: grids.name_positions(plot, names, "x", "y")],
    )
    ticks: list[Any] = list(enumerate(names)) if n <= MOST_NAMES else grids.thinned(n)
    chosen = [] if position is None else attention_row(n, position)
    return (cells * hv.Rectangles(chosen).opts(**grids.OUTLINE, line_width=2)).opts(
        **grids.BARE,
        xlim=(-0.5 - grids.EDGE, n - 0.5 + grids.EDGE),
        ylim=(-0.5 - grids.EDGE, n - 0.5 + grids.EDGE),
        xticks=ticks,
        yticks=ticks,
        xrotation=90 if n <= MOST_NAMES else 0,
        invert_yaxis=True,
    )
