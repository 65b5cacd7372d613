"""Own ranks over layers and heads."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr
from bokeh.models import FixedTicker, NumeralTickFormatter

from attnxr.plots.colors import CHOSEN, MISSING, RAMP
from attnxr.tokens import label

_MOST_TICKS = 16
_EDGE = 0.04  # room for the outline of a cell at the edge


def rank_palette(dark: bool = False) -> list[str]:
    """Colours of own ranks from 1 to V; rank 1 always stands out most from the background.

    Parameters
    ----------
    dark : bool
        Whether the background is dark.

    Returns
    -------
    list of str
        Colours in hex notation, that of rank 1 first.
    """
    return list(reversed(RAMP)) if dark else list(RAMP)


def rank_columns(neighbors: xr.Dataset, position: int) -> dict[str, np.ndarray]:
    """What the rank map shows of one position, a flat column for each quantity.

    Parameters
    ----------
    neighbors : xarray.Dataset
        What ``model.neighbors`` returns.
    position : int
        Index along ``position``.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``head``, ``layer``, ``own_rank``, ``own_distance`` and ``nearest``, one entry a cell.
    """
    here = neighbors[["own_rank", "own_distance", "neighbor", "neighbor_text"]].isel(position=position)
    shape = here.sizes["layer"], here.sizes["head"]
    layers, heads = np.indices(shape)
    tokens = here["neighbor"].isel(rank=0).values.ravel()
    texts = here["neighbor_text"].isel(rank=0).values.ravel()
    return {
        "head": heads.ravel(),
        "layer": layers.ravel(),
        "own_rank": here["own_rank"].values.ravel(),
        "own_distance": here["own_distance"].values.ravel(),
        "nearest": np.array([label(*pair) for pair in zip(tokens, texts, strict=True)], dtype=object),
    }


def cell_outline(layer: int, head: int) -> dict[str, list[float]]:
    """Edges of the rank map's cell of one layer and head, by the names Bokeh's quads give them."""
    return {
        "left": [head - 0.5],
        "bottom": [layer - 0.5],
        "right": [head + 0.5],
        "top": [layer + 0.5],
    }


def rank_map(
    neighbors: xr.Dataset,
    position: int,
    *,
    layer: int | None = None,
    head: int | None = None,
    dark: bool = False,
) -> hv.Overlay:
    """Map of own ranks over layers and heads, for the token at one position.

    The own rank is 1 where, of the whole vocabulary, the token that stands at the position is nearest to what
    the head wrote there, and V where it is farthest. Colours are logarithmic and always run from 1 to V, so
    two maps can be compared.

    Parameters
    ----------
    neighbors : xarray.Dataset
        What ``model.neighbors`` returns.
    position : int
        Index along ``position``.
    layer, head : int, optional
        The cell to outline; none is outlined unless both are given.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        A ``HeatMap`` under a ``Rectangles`` that outlines the chosen cell.
    """
    columns = rank_columns(neighbors, position)
    vocab_size = int(neighbors.attrs["vocab_size"])
    n_layers, n_heads = neighbors.sizes["layer"], neighbors.sizes["head"]
    cells = hv.HeatMap(
        tuple(columns.values()),
        kdims=[hv.Dimension("head", label="Head"), hv.Dimension("layer", label="Layer")],
        vdims=[hv.Dimension("own_rank", label="Own rank"), "own_distance", "nearest"],
    ).opts(
        cmap=rank_palette(dark),
        logz=True,
        clim=(1, vocab_size),
        clipping_colors={"NaN": MISSING},
        colorbar=True,
        colorbar_position="top",
        colorbar_opts=_colorbar(vocab_size),
        line_color="gray",
        line_alpha=0.25,
        tools=["hover"],
        hover_tooltips=[
            ("Layer, head", "@layer, @head"),
            ("Own rank", "@own_rank"),
            ("Own distance", "@own_distance"),
            ("Nearest token", "@nearest"),
        ],
    )
    chosen = [] if layer is None or head is None else [_corners(cell_outline(layer, head))]
    outline = hv.Rectangles(chosen).opts(fill_alpha=0, line_color=CHOSEN, line_width=3, tools=[])
    return (cells * outline).opts(
        xlim=(-0.5 - _EDGE, n_heads - 0.5 + _EDGE),
        ylim=(-0.5 - _EDGE, n_layers - 0.5 + _EDGE),
        xticks=_ticks(n_heads),
        yticks=_ticks(n_layers),
        ylabel="Layer (0 reads the input)",
        default_tools=[],
        toolbar=None,
        show_legend=False,
        backend_opts={"plot.output_backend": "canvas"},
    )


def _corners(edges: dict[str, list[float]]) -> tuple[float, ...]:
    return tuple(edges[name][0] for name in ("left", "bottom", "right", "top"))


def _ticks(count: int) -> list[int]:
    step = -(-count // _MOST_TICKS)
    return list(range(0, count, step))


def _colorbar(vocab_size: int) -> dict[str, Any]:
    powers = [10**power for power in range(len(str(vocab_size)))]
    return {
        "ticker": FixedTicker(ticks=powers),
        "formatter": NumeralTickFormatter(format="0,0"),
        "height": 10,
    }
