"""Maps of encodings and the vocabulary near them."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr

from attnxr.plots.colors import CHOSEN, OWN, QUIET
from attnxr.tokens import label

_KINDS = {"own token": OWN, "neighbour": QUIET}
_FRAME = 560, 440  # pixels
METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
VECTORS = "Points.Encoding"
"""Name of the layer of vectors in the map."""
_ROOM = 0.12


def map_columns(mapped: xr.Dataset) -> dict[str, np.ndarray]:
    """What the map shows of each point, a column for each quantity.

    Parameters
    ----------
    mapped : xarray.Dataset
        What ``attnxr.encoding_map`` returns, with two components or more.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``x``, ``y``, ``kind`` (encoding, own token or neighbour), ``token``, ``where`` (layer, head and
        position, as far as they are one) and ``label``, what is written beside the point, if anything.
    """
    vector = mapped["kind"].values == "encoding"
    # Points stand in no text: bytes of one character beside each other are none.
    token = [label(*pair) for pair in zip(mapped["token"].values, mapped["text"].values, strict=True)]
    dims = [dim for dim in ("layer", "head", "kv_head", "position") if dim in mapped.coords]
    at = {dim: mapped[dim].values for dim in dims}
    varying = [dim for dim in dims if len(set(at[dim][vector])) > 1]
    where, written = [], []
    named_entries: set[str] = set()
    for i in range(mapped.sizes["point"]):
        where.append(", ".join(f"{dim.replace('kv_', '')} {at[dim][i]}" for dim in dims if at[dim][i] >= 0))
        named = [token[i] if dim == "position" else f"{dim.removeprefix('kv_')} {at[dim][i]}" for dim in varying]
        outstanding = mapped["is_own"].values[i] or mapped["best_rank"].values[i] == 1
        if vector[i]:
            written.append(" · ".join(named))
        else:  # at several positions, an entry is several points close together: one of them is named
            written.append(token[i] if outstanding and token[i] not in named_entries else "")
            named_entries.add(written[-1])
    own = np.where(mapped["is_own"].values, *_KINDS)
    return {
        "x": mapped["coordinate"].values[:, 0],
        "y": mapped["coordinate"].values[:, 1],
        "kind": np.where(vector, "encoding", own).astype(object),
        "token": np.array(token, dtype=object),
        "where": np.array(where, dtype=object),
        "label": np.array(written, dtype=object),
    }


def map_plot(mapped: xr.Dataset, *, dark: bool = False) -> hv.Overlay:
    """Map of vectors and the vocabulary near them; a line leads through the layers of each head and position.

    Parameters
    ----------
    mapped : xarray.Dataset
        What ``attnxr.encoding_map`` returns, with two components or more.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        The line (``Path``), ``Points`` of neighbours, of own tokens and of vectors, and ``Labels`` of vectors, own
        tokens and nearest neighbours.
    """
    columns = map_columns(mapped)
    names = [name for name in columns if name not in ("x", "y")]
    quiet, loud = ("#9aa7b5", "#f0f0f0") if dark else ("#66727f", "#202020")

    layers = map_layers(mapped)

    def points(kind: str, **options: Any) -> hv.Points:
        return hv.Points(layers[f"Points.{_named(kind)}"], ["x", "y"], names, label=kind).opts(
            tools=["hover"],
            hover_tooltips=[("Token", "@token"), ("", "@kind"), ("At", "@where")],
            line_color="#101010" if dark else "#ffffff",
            **options,
        )

    def labels(kind: str, color: str, size: str) -> hv.Labels:
        return hv.Labels(layers[f"Labels.{_named(kind)}"], ["x", "y"], "label", label=kind).opts(
            text_color=color,
            text_font_size=size,
            text_align="left",
            backend_opts={"glyph.x_offset": 8},
        )

    here = hv.Scatter(layers["Scatter.Here"], "x", "y", label="here").opts(
        size=17, fill_alpha=0, line_color=CHOSEN, line_width=2.5, show_legend=False
    )
    drawn = [
        hv.Path(_lines(mapped, columns), label="line").opts(color=CHOSEN, alpha=0.6, line_width=1.5, show_legend=False),
        points("neighbour", color=_KINDS["neighbour"], size=6),
        points("own token", color=_KINDS["own token"], size=13, marker="diamond"),
        points("encoding", color=CHOSEN, size=9),
        labels("vocabulary", quiet, "8pt"),
        labels("encoding", loud, "9pt"),
        here,
    ]
    name = METHODS[mapped.attrs["method"]]
    axis = "PC" if name == "PCA" else name
    metric = mapped.attrs["metric"].replace("_", " ")
    shares = mapped.get("explained_variance_ratio")
    explained = ["" if shares is None else f" ({100 * float(shares[i]):.0f} % of variance)" for i in (0, 1)]
    return hv.Overlay(drawn).opts(
        title=f"{name} by {metric}, trustworthiness {float(mapped['trustworthiness']):.2f}",
        xlabel=f"{axis} 1{explained[0]}",
        ylabel=f"{axis} 2{explained[1]}",
        data_aspect=1,
        backend_opts={"plot.output_backend": "canvas"},
        frame_width=_FRAME[0],
        frame_height=_FRAME[1],
        padding=0.12,
        legend_position="right",
        default_tools=["pan", "wheel_zoom", "reset"],
        active_tools=[],
    )


def map_layers(
    mapped: xr.Dataset, *, layer: int | None = None, position: int | None = None
) -> dict[str, dict[str, Any]]:
    """What each layer of the map draws: columns by the layers' names.

    Parameters
    ----------
    mapped : xarray.Dataset
        What ``attnxr.encoding_map`` returns, with two components or more.
    layer, position : int, optional
        Of the vector that gets a ring.

    Returns
    -------
    dict of str to dict
        Columns of `map_columns` of the points of each kind, ``label`` of those that are named, ``xs`` and ``ys`` of
        the lines.
    """
    columns = map_columns(mapped)
    vector = columns["kind"] == "encoding"
    lines = _lines(mapped, columns)
    here = vector & (mapped["layer"].values == layer) & (mapped["position"].values == position)

    def chosen(where: np.ndarray, *names: str) -> dict[str, np.ndarray]:
        return {name: columns[name][where] for name in names or columns}

    return {
        "Path.Line": {"xs": [line[:, 0] for line in lines], "ys": [line[:, 1] for line in lines]},
        **{
            f"Points.{_named(kind)}": chosen(columns["kind"] == kind) for kind in ("neighbour", "own token", "encoding")
        },
        "Labels.Vocabulary": chosen(~vector, "x", "y", "label"),
        "Labels.Encoding": chosen(vector, "x", "y", "label"),
        "Scatter.Here": chosen(here, "x", "y"),
    }


def map_limits(mapped: xr.Dataset) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the axes begin and end, so that a unit is as long on both in a frame of the map's own shape."""
    coordinates = mapped["coordinate"].values[:, :2]
    middle = (coordinates.max(axis=0) + coordinates.min(axis=0)) / 2
    frame = np.array(_FRAME)
    half = (1 + 2 * _ROOM) * (np.ptp(coordinates, axis=0) / frame).max() * frame / 2
    (left, bottom), (right, top) = middle - half, middle + half
    return (float(left), float(right)), (float(bottom), float(top))


def _named(kind: str) -> str:
    return kind.replace(" ", "_").capitalize()


def _lines(mapped: xr.Dataset, columns: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Places of the vectors of one head and position, in the order of layers, where there are several."""
    vector = np.flatnonzero(mapped["kind"].values == "encoding")
    of_line = [mapped[dim].values[vector] for dim in ("head", "kv_head", "position") if dim in mapped.coords]
    lines: dict[tuple, list[int]] = {}
    for i, key in zip(vector, zip(*of_line, strict=True), strict=True):
        lines.setdefault(key, []).append(int(i))
    coordinates = np.c_[columns["x"], columns["y"]]
    layer = mapped["layer"].values
    return [coordinates[sorted(line, key=layer.__getitem__)] for line in lines.values() if len(line) > 1]
