"""A measure over layers and heads, and over layers and positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr

from attnxr.plots import grids
from attnxr.plots.colors import MISSING
from attnxr.plots.measures import MEASURES, measure_values
from attnxr.tokens import label


def head_columns(
    near: xr.Dataset,
    position: int,
    *,
    measure: str = "own_rank",
    significance: Sequence[xr.Dataset] = (),
    overlaps: xr.Dataset | None = None,
    effects: Sequence[xr.Dataset] = (),
) -> dict[str, np.ndarray]:
    """What the map over layers and heads shows of one position, a flat column for each quantity.

    Parameters
    ----------
    near : xarray.Dataset
        What ``model.neighbors`` returns.
    position : int
        Index along ``position``.
    measure : str
        A key of `MEASURES`.
    significance : sequence of xarray.Dataset
        What `attnxr.significance` returned for some of the layers.
    overlaps : xarray.Dataset, optional
        What `attnxr.overlap` returned for the neighbours, for the measure of that name; without it, it is computed.
    effects : sequence of xarray.Dataset
        What `attnxr.effects` returned for some of the positions, for the measure ``recovered``.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``head`` and ``layer`` (indices), ``number`` (of the layer, in the model), ``value`` (float64),
        ``written`` (the value in words), ``own_rank``, ``nearest`` and ``distance`` (of the nearest token), one entry a
        cell.
    """
    values = measure_values(
        measure, near, significance=significance, overlaps=overlaps, effects=effects, position=position
    )
    layers, heads = np.indices(values.shape)
    return {
        "head": heads.ravel(),
        "layer": layers.ravel(),
        "number": near["layer"].values[layers.ravel()],
        "value": values.ravel(),
        "written": np.array([MEASURES[measure].write(value) for value in values.ravel()], dtype=object),
        "own_rank": _at(near, "own_rank", position=position).ravel(),
        "nearest": _nearest(near, position=position).ravel(),
        "distance": _at(near, "distance", position=position, rank=0).ravel(),
    }


def head_map(
    near: xr.Dataset,
    position: int,
    *,
    measure: str = "own_rank",
    significance: Sequence[xr.Dataset] = (),
    overlaps: xr.Dataset | None = None,
    effects: Sequence[xr.Dataset] = (),
    layer: int | None = None,
    head: int | None = None,
    dark: bool = False,
) -> hv.Overlay:
    """Map of a measure over layers and heads, for the token at one position.

    Colours have the same limits for all positions of a text, so two maps of it can be compared.

    Parameters
    ----------
    near : xarray.Dataset
        What ``model.neighbors`` returns.
    position : int
        Index along ``position``.
    measure : str
        A key of `MEASURES`; the own rank is 1 where, of the whole vocabulary, the token that stands at the position
        is nearest to what the head wrote there.
    significance : sequence of xarray.Dataset
        What `attnxr.significance` returned for some of the layers.
    overlaps : xarray.Dataset, optional
        What `attnxr.overlap` returned for the neighbours, for the measure of that name; without it, it is computed.
    effects : sequence of xarray.Dataset
        What `attnxr.effects` returned for some of the positions, for the measure ``recovered``.
    layer, head : int, optional
        The cell to outline; none is outlined unless both are given.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        A ``HeatMap`` under a ``Rectangles`` that outlines the chosen cell.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> from attnxr import plots
    >>> element = plots.head_map(near, position=2, measure="own_rank")
    """
    shown, limits = MEASURES[measure], MEASURES[measure].limits(near)
    columns = head_columns(
        near, position, measure=measure, significance=significance, overlaps=overlaps, effects=effects
    )
    names = [name for name in columns if name not in ("head", "layer", "value")]
    cells = grids.over_layers_and_heads(columns, [hv.Dimension("value", label=shown.title), *names]).opts(
        **grids.color_options(shown, limits, dark),
        **grids.color_bar(shown, limits),
        clipping_colors={"NaN": MISSING},
        line_color="gray",
        line_alpha=0.25,
        tools=["hover"],
        hover_tooltips=[
            ("Layer, head", "@number, @head"),
            *([] if measure == "own_rank" else [(shown.label, "@written")]),
            ("Own rank", "@own_rank{0,0}"),
            ("Nearest token", "@nearest"),
            ("Its distance", "@distance{0.000}"),
        ],
    )
    return grids.over_heads(cells, near, layer, head)


def position_columns(
    near: xr.Dataset,
    head: int,
    *,
    measure: str = "own_rank",
    significance: Sequence[xr.Dataset] = (),
    overlaps: xr.Dataset | None = None,
    effects: Sequence[xr.Dataset] = (),
) -> dict[str, list[Any]]:
    """What the map over layers and positions shows of one head: one image.

    Parameters
    ----------
    near : xarray.Dataset
        What ``model.neighbors`` returns.
    head : int
        Index along ``head``.
    measure : str
        A key of `MEASURES`.
    significance : sequence of xarray.Dataset
        What `attnxr.significance` returned for some of the layers.
    overlaps : xarray.Dataset, optional
        What `attnxr.overlap` returned for the neighbours, for the measure of that name; without it, it is computed.
    effects : sequence of xarray.Dataset
        What `attnxr.effects` returned for some of the positions, for the measure ``recovered``.

    Returns
    -------
    dict of str to list
        Columns ``image`` (float32) and ``nearest`` (str), each one array (layer, position).
    """
    known: dict[str, Any] = {"significance": significance, "overlaps": overlaps, "effects": effects}
    values = measure_values(measure, near, **known, head=head)
    return {"image": [values.astype(np.float32)], "nearest": [_nearest(near, head=head)]}


def position_map(
    near: xr.Dataset,
    head: int,
    *,
    measure: str = "own_rank",
    significance: Sequence[xr.Dataset] = (),
    overlaps: xr.Dataset | None = None,
    effects: Sequence[xr.Dataset] = (),
    layer: int | None = None,
    position: int | None = None,
    dark: bool = False,
) -> hv.Overlay:
    """Map of a measure over layers and positions, for one head of each layer.

    Parameters
    ----------
    near : xarray.Dataset
        What ``model.neighbors`` returns.
    head : int
        Index along ``head``.
    measure : str
        A key of `MEASURES`.
    significance : sequence of xarray.Dataset
        What `attnxr.significance` returned for some of the layers.
    overlaps : xarray.Dataset, optional
        What `attnxr.overlap` returned for the neighbours, for the measure of that name; without it, it is computed.
    effects : sequence of xarray.Dataset
        What `attnxr.effects` returned for some of the positions, for the measure ``recovered``.
    layer, position : int, optional
        The cell to outline, and its column; none is outlined unless both are given.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        An ``Image`` under a ``Rectangles`` that outlines the chosen cell and its column. Its colours are those of
        `head_map`.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> from attnxr import plots
    >>> element = plots.position_map(near, head=3, measure="origin")
    """
    shown, limits = MEASURES[measure], MEASURES[measure].limits(near)
    columns = position_columns(
        near, head, measure=measure, significance=significance, overlaps=overlaps, effects=effects
    )
    n_layers, n = columns["image"][0].shape
    names = grids.token_names(near)
    values = columns["image"][0]
    if np.isnan(values).all():  # HoloViews looks for the range of what it is given; the hook puts the NaN back
        values = np.full_like(values, limits[0])
    cells = hv.Image(
        values[::-1],  # from the top row to the bottom one
        bounds=(-0.5, -0.5, n - 0.5, n_layers - 0.5),
        kdims=[hv.Dimension("position", label="Position"), grids.LAYER],
        vdims=[hv.Dimension("value", label=shown.title)],
    ).opts(
        **grids.color_options(shown, limits, dark),
        colorbar=False,
        clipping_colors={"NaN": MISSING},
        tools=["hover"],
        hover_tooltips=[
            ("Token", "$x{token}"),
            ("Layer", "$y{layer}"),
            (shown.label, "@image{0,0.[000]}"),
            ("Nearest token", "@nearest"),
        ],
        hooks=[
            grids.set_columns(columns),
            lambda plot, _element: grids.name_positions(plot, names, "x"),
            grids.name_layers(near),
            grids.name_categories(shown),
        ],
    )
    chosen = [] if layer is None or position is None else position_outlines(n_layers, layer, position)
    return (cells * hv.Rectangles(chosen).opts(**grids.OUTLINE, line_width=2)).opts(
        **grids.BARE,
        xlim=(-0.5 - grids.EDGE, n - 0.5 + grids.EDGE),
        ylim=(-0.5 - grids.EDGE, n_layers - 0.5 + grids.EDGE),
        xticks=grids.thinned(n),
        yticks=grids.ticks(near, "layer"),
    )


def position_outlines(n_layers: int, layer: int, position: int) -> list[grids.Corners]:
    """Edges of a position's column and of its cell of one layer."""
    return [(position - 0.5, -0.5, position + 0.5, n_layers - 0.5), grids.cell(position, layer)]


def _at(near: xr.Dataset, name: str, **at: int) -> np.ndarray:
    """Values of one variable at indices; selecting in the Dataset selects all there is, which takes longer by far."""
    return near.variables[name].isel(at).values


def _nearest(near: xr.Dataset, **at: int) -> np.ndarray:
    """How the nearest tokens are shown."""
    tokens, texts = (_at(near, name, rank=0, **at) for name in ("neighbor", "neighbor_text"))
    shown = [label(*pair) for pair in zip(tokens.ravel(), texts.ravel(), strict=True)]
    return np.array(shown, dtype=object).reshape(tokens.shape)
