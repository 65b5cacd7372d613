"""HoloViews elements drawn from the Datasets; nothing here knows Panel or a server.

Each plot is a function of a Dataset. The columns it draws come from a function of their own, so that a page
which keeps a figure on screen can replace the data of its source instead of drawing the figure again.
"""

from __future__ import annotations

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr
from bokeh.models import FixedTicker, NumeralTickFormatter
from bokeh.palettes import YlGnBu9, interp_palette

from attnxr.tokens import label

# From dark blue to pale yellow, lightness rising evenly all the way: it reads the same without colour vision.
_RAMP = interp_palette(YlGnBu9, 256)
OUTLINE_COLOR = "#e8710a"
MISSING_COLOR = "#8080801f"
ENCODING_COLOR = "#e8710a"
_KINDS = {"own token": "#0f9d6e", "neighbour": "#7a8fa8"}
_FRAME = 560, 440  # pixels
_METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
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
    return list(reversed(_RAMP)) if dark else list(_RAMP)


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
        clipping_colors={"NaN": MISSING_COLOR},
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
    outline = hv.Rectangles(chosen).opts(fill_alpha=0, line_color=OUTLINE_COLOR, line_width=3, tools=[])
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


def map_columns(found: xr.Dataset) -> dict[str, np.ndarray]:
    """What the map shows of each point, a column for each quantity.

    Parameters
    ----------
    found : xarray.Dataset
        What ``attnxr.map_encodings`` returns, with two components or more.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``x``, ``y``, ``kind`` (encoding, own token or neighbour), ``token``, ``where`` (layer, head and
        position, as far as they are one) and ``label``, what is written beside the point, if anything.
    """
    vector = found["kind"].values == "encoding"
    token = [label(*pair) for pair in zip(found["token"].values, found["text"].values, strict=True)]
    dims = [dim for dim in ("layer", "head", "kv_head", "position") if dim in found.coords]
    at = {dim: found[dim].values for dim in dims}
    varying = [dim for dim in dims if len(set(at[dim][vector])) > 1]
    where, written = [], []
    named_entries: set[str] = set()
    for i in range(found.sizes["point"]):
        where.append(", ".join(f"{dim.replace('kv_', '')} {at[dim][i]}" for dim in dims if at[dim][i] >= 0))
        named = [token[i] if dim == "position" else f"{dim.removeprefix('kv_')} {at[dim][i]}" for dim in varying]
        outstanding = found["is_own"].values[i] or found["best_rank"].values[i] == 1
        if vector[i]:
            written.append(" · ".join(named))
        else:  # at several positions, an entry is several points close together: one of them is named
            written.append(token[i] if outstanding and token[i] not in named_entries else "")
            named_entries.add(written[-1])
    own = np.where(found["is_own"].values, *_KINDS)
    return {
        "x": found["coordinate"].values[:, 0],
        "y": found["coordinate"].values[:, 1],
        "kind": np.where(vector, "encoding", own).astype(object),
        "token": np.array(token, dtype=object),
        "where": np.array(where, dtype=object),
        "label": np.array(written, dtype=object),
    }


def map_plot(found: xr.Dataset, *, dark: bool = False) -> hv.Overlay:
    """Map of vectors and the vocabulary near them; a line leads through the layers of each head and position.

    Parameters
    ----------
    found : xarray.Dataset
        What ``attnxr.map_encodings`` returns, with two components or more.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        The line (``Path``), ``Points`` of neighbours, of own tokens and of vectors, and ``Labels`` of vectors, own
        tokens and nearest neighbours.
    """
    columns = map_columns(found)
    names = [name for name in columns if name not in ("x", "y")]
    quiet, loud = ("#9aa7b5", "#f0f0f0") if dark else ("#66727f", "#202020")

    def points(kind: str, **options: Any) -> hv.Points:
        here = columns["kind"] == kind
        data = {name: values[here] for name, values in columns.items()}
        return hv.Points(data, ["x", "y"], names, label=kind).opts(
            tools=["hover"],
            hover_tooltips=[("Token", "@token"), ("", "@kind"), ("At", "@where")],
            line_color="#101010" if dark else "#ffffff",
            **options,
        )

    def labels(here: np.ndarray, color: str, size: str) -> hv.Labels:
        data = {name: columns[name][here] for name in ("x", "y", "label")}
        return hv.Labels(data, ["x", "y"], "label").opts(
            text_color=color,
            text_font_size=size,
            text_align="left",
            backend_opts={"glyph.x_offset": 8},
        )

    vector = columns["kind"] == "encoding"
    drawn = [
        hv.Path(_lines(found, columns)).opts(color=ENCODING_COLOR, alpha=0.6, line_width=1.5),
        points("neighbour", color=_KINDS["neighbour"], size=6),
        points("own token", color=_KINDS["own token"], size=13, marker="diamond"),
        points("encoding", color=ENCODING_COLOR, size=9),
        labels(~vector, quiet, "8pt"),
        labels(vector, loud, "9pt"),
    ]
    name = _METHODS[found.attrs["method"]]
    axis = "PC" if name == "PCA" else name
    metric = found.attrs["metric"].replace("_", " ")
    shares = found.get("explained_variance_ratio")
    explained = ["" if shares is None else f" ({100 * float(shares[i]):.0f} % of variance)" for i in (0, 1)]
    return hv.Overlay(drawn).opts(
        title=f"{name} by {metric}, trustworthiness {float(found['trustworthiness']):.2f}",
        xlabel=f"{axis} 1{explained[0]}",
        ylabel=f"{axis} 2{explained[1]}",
        data_aspect=1,
        frame_width=_FRAME[0],
        frame_height=_FRAME[1],
        padding=0.12,
        legend_position="right",
        default_tools=["pan", "wheel_zoom", "reset"],
        active_tools=[],
    )


def _lines(found: xr.Dataset, columns: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Places of the vectors of one head and position, in the order of layers, where there are several."""
    vector = np.flatnonzero(found["kind"].values == "encoding")
    of_line = [found[dim].values[vector] for dim in ("head", "kv_head", "position") if dim in found.coords]
    lines: dict[tuple, list[int]] = {}
    for i, key in zip(vector, zip(*of_line, strict=True), strict=True):
        lines.setdefault(key, []).append(int(i))
    place = np.c_[columns["x"], columns["y"]]
    layer = found["layer"].values
    return [place[sorted(line, key=layer.__getitem__)] for line in lines.values() if len(line) > 1]


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
