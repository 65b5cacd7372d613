"""Roles of heads: a map over layers and heads for each, and two of them against each other."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr
from bokeh.models import FixedTicker

from attnxr import schema
from attnxr.checking import choice
from attnxr.plots import grids
from attnxr.plots.colors import MISSING, ramp

ROLES = {name: spec.long_name.capitalize() for name, spec in schema.ROLES.items() if name != "n_positions"}
"""What can be drawn of roles, and what it is called."""
_SHARES = tuple(name for name in ROLES if name.endswith("_score"))
_FRAME = 420, 420  # pixels
_EARLY = 0.3  # of the palette: what the first layer has, which must be seen on the background


def role_columns(roles: xr.Dataset) -> dict[str, np.ndarray]:
    """What the plots show of each head, a flat column for each quantity.

    Parameters
    ----------
    roles : xarray.Dataset
        What ``attnxr.roles`` returns.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``head`` and ``layer`` (indices), ``layer_number`` and ``head_number`` (in the model), and one of every
        measure, float64, NaN where it has none; one entry a head.
    """
    roles = _whole(roles)
    layers, heads = np.indices((roles.sizes["layer"], roles.sizes["head"]))
    columns = {
        "head": heads.ravel(),
        "layer": layers.ravel(),
        "layer_number": roles["layer"].values[layers.ravel()],
        "head_number": roles["head"].values[heads.ravel()],
    }
    return columns | {name: roles[name].transpose("layer", "head").values.ravel() for name in ROLES}


def role_limits(roles: xr.Dataset, role: str) -> tuple[float, float]:
    """Values of the first and the last colour: 0 and 1 for a share of attention, else from 0 to the largest value."""
    if role in _SHARES:
        return 0.0, 1.0
    return 0.0, float(np.nanmax(roles[role].values)) or 1.0


def role_map(
    roles: xr.Dataset, role: str, *, layer: int | None = None, head: int | None = None, dark: bool = False
) -> hv.Overlay:
    """Map of one role over layers and heads: the heads that have it stand out.

    Shares of attention have the same colours in every map, so that maps of two models or texts can be compared.

    Parameters
    ----------
    roles : xarray.Dataset
        What ``attnxr.roles`` returns.
    role : str
        A key of `ROLES`, such as ``"induction_score"``.
    layer, head : int, optional
        The cell to outline, as indices; none is outlined unless both are given.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        A ``HeatMap`` under a ``Rectangles`` that outlines the chosen cell.

    Raises
    ------
    InputError
        If there is no such role.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> from attnxr import plots
    >>> element = plots.role_map(attnxr.roles(enc), "prev_token_score")
    """
    choice("role", role, tuple(ROLES))
    roles = _whole(roles)
    columns = role_columns(roles)
    others = [name for name in columns if name not in ("head", "layer", role)]
    share = {"ticker": FixedTicker(ticks=[0, 0.25, 0.5, 0.75, 1])} if role in _SHARES else {}
    cells = grids.over_layers_and_heads(columns, [hv.Dimension(role, label=ROLES[role]), *others]).opts(
        cmap=ramp(dark)[::-1],
        clim=role_limits(roles, role),
        clipping_colors={"NaN": MISSING},
        colorbar=True,
        colorbar_position="top",
        colorbar_opts={"height": 10, **share},
        line_color="gray",
        line_alpha=0.25,
        tools=["hover"],
        hover_tooltips=_tooltips(),
    )
    return grids.over_heads(cells, roles, layer, head)


def role_scatter(roles: xr.Dataset, x: str, y: str, *, dark: bool = False) -> hv.Scatter:
    """Two roles against each other, a point for each head.

    Parameters
    ----------
    roles : xarray.Dataset
        What ``attnxr.roles`` returns.
    x, y : str
        Two keys of `ROLES`.
    dark : bool
        Whether the plot will stand on a dark background.

    Returns
    -------
    holoviews.Scatter
        Colours go from the first layer to the last; heads that lack one of the two are left out.

    Raises
    ------
    InputError
        If there is no such role, or both are the same.
    """
    choice("x", x, tuple(ROLES))
    choice("y", y, tuple(name for name in ROLES if name != x))
    roles = _whole(roles)
    columns = role_columns(roles)
    there = ~np.isnan(columns[x]) & ~np.isnan(columns[y])
    columns = {name: values[there] for name, values in columns.items()}
    others = [grids.LAYER if name == "layer" else name for name in columns if name not in (x, y)]
    palette = ramp(dark)[::-1]
    options: dict[str, Any] = {
        f"{axis}lim": _with_room(role_limits(roles, name)) for axis, name in (("x", x), ("y", y))
    }
    return hv.Scatter(columns, hv.Dimension(x, label=ROLES[x]), [hv.Dimension(y, label=ROLES[y]), *others]).opts(
        **options,
        color="layer",
        cmap=palette[int(_EARLY * len(palette)) :],
        clim=(0, max(roles.sizes["layer"] - 1, 1)),
        colorbar=True,
        colorbar_position="top",
        colorbar_opts={
            "height": 10,
            "title": "Layer",
            "ticker": _layers(roles),
            "major_label_overrides": _names(roles),
        },
        size=8,
        line_color="gray",
        line_width=0.5,
        fill_alpha=0.85,
        tools=["hover"],
        hover_tooltips=_tooltips(),
        frame_width=_FRAME[0],
        frame_height=_FRAME[1],
        show_grid=True,
        default_tools=[],
        toolbar=None,
    )


def _whole(roles: xr.Dataset) -> xr.Dataset:
    """With the dimensions that selecting one layer or head has dropped."""
    return roles.expand_dims([dim for dim in ("layer", "head") if dim not in roles.dims])


def _tooltips() -> list[tuple[str, str]]:
    return [
        ("Layer, head", "@layer_number, @head_number"),
        *((label, f"@{name}{{0.00}}") for name, label in ROLES.items()),
    ]


def _with_room(limits: tuple[float, float]) -> tuple[float, float]:
    room = 0.04 * (limits[1] - limits[0])
    return limits[0] - room, limits[1] + room


def _layers(roles: xr.Dataset) -> FixedTicker:
    return FixedTicker(ticks=[index for index, _ in grids.ticks(roles, "layer")])


def _names(roles: xr.Dataset) -> dict[int, str]:
    return dict(grids.ticks(roles, "layer"))
