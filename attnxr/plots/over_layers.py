"""How near tokens stay to themselves, layer by layer."""

from __future__ import annotations

from typing import Any, Literal

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr
from bokeh.models import NumeralTickFormatter
from numpy.typing import NDArray

from attnxr.plots import grids
from attnxr.plots.colors import CHOSEN, OWN, QUIET

Quantity = Literal["own_rank", "own_distance"]
QUANTITIES: dict[Quantity, str] = {"own_rank": "own rank", "own_distance": "own distance"}
OTHERS, STREAM, LINE = "Curve.All_tokens", "Curve.Stream", "Curve.Chosen"
POINTS, HERE = "Scatter.Chosen", "Scatter.Here"
"""Names of the layers of the figure, from below."""
_MARGIN = 0.04


def over_layers_columns(
    near: xr.Dataset,
    head: int,
    position: int,
    layer: int,
    *,
    quantity: Quantity = "own_rank",
    trajectories: xr.Dataset | None = None,
) -> dict[str, dict[str, Any]]:
    """What the figure shows of one head, columns for each of its layers.

    Parameters
    ----------
    near : xarray.Dataset
        What ``model.neighbors`` returns.
    head, position, layer : int
        Indices along ``head``, ``position`` and ``layer`` of what is chosen.
    quantity : {"own_rank", "own_distance"}
        What is drawn.
    trajectories : xarray.Dataset, optional
        What `attnxr.trajectories` returns of neighbours and the residual stream.

    Returns
    -------
    dict of str to dict
        By the names of the figure's layers columns ``layer`` and ``value``. The lines of all tokens are one, with NaN
        between them. What has points has ``token``, ``written`` (the value in words) and
        ``number`` (of the layer, in the model) too.
    """
    values = near[quantity].isel(head=head).transpose("position", "layer").values.astype(np.float32)
    layers = np.arange(values.shape[1], dtype=np.float32)
    gap = np.full((len(values), 1), np.nan, np.float32)
    token = grids.token_label(near, position)
    written = [_written(value, quantity) for value in values[position]]
    stream = (
        np.full(len(layers), np.nan, np.float32)
        if trajectories is None
        else _stream(trajectories, quantity)[:, position]
    )
    points = {"layer": layers, "value": values[position], "token": [token] * len(layers), "written": written}
    points["number"] = near["layer"].values
    return {
        OTHERS: {
            "layer": np.tile(np.append(layers, np.float32(np.nan)), len(values)),
            "value": np.hstack([values, gap]).ravel(),
        },
        STREAM: {"layer": layers, "value": stream},
        LINE: {"layer": layers, "value": values[position]},
        POINTS: points,
        HERE: {"layer": layers[[layer]], "value": values[position, [layer]]},
    }


def over_layers_limits(
    near: xr.Dataset, *, quantity: Quantity = "own_rank", trajectories: xr.Dataset | None = None
) -> tuple[float, float]:
    """Where the axis of values begins and ends, for all heads and tokens alike."""
    if quantity == "own_rank":
        return 0.8, 1.25 * float(near.attrs["vocab_size"])
    known = [near[quantity].values.ravel()]
    if trajectories is not None:
        known.append(_stream(trajectories, quantity).ravel())
    least, most = min(float(np.nanmin(each)) for each in known), max(float(np.nanmax(each)) for each in known)
    room = _MARGIN * (most - least) or 1.0
    return least - room, most + room


def over_layers_plot(
    near: xr.Dataset,
    head: int,
    position: int,
    *,
    layer: int = 0,
    quantity: Quantity = "own_rank",
    trajectories: xr.Dataset | None = None,
) -> hv.Overlay:
    """Own rank or own distance of every token over layers, in one head: the chosen token stands out.

    Parameters
    ----------
    near, head, position, layer, quantity, trajectories
        As of `over_layers_columns`.

    Returns
    -------
    holoviews.Overlay
        One ``Curve`` of all tokens, one of the residual stream at the chosen token, one of the chosen token with its
        points (``Scatter``), and a ring at the chosen layer.
    """
    columns = over_layers_columns(near, head, position, layer, quantity=quantity, trajectories=trajectories)
    dim = hv.Dimension("layer", label="Layer, from the input to the output")
    value = hv.Dimension("value", label=QUANTITIES[quantity].capitalize() + " (log scale)" * (quantity == "own_rank"))

    def curve(name: str) -> hv.Curve:
        return hv.Curve(columns[name], dim, value, label=name.partition(".")[2].replace("_", " "))

    few = near.sizes["position"] <= 60
    drawn = [
        curve(OTHERS).opts(color=QUIET, alpha=0.45 if few else 0.22, line_width=1),
        curve(STREAM).opts(color=OWN, line_width=2.5, line_dash="dashed"),
        curve(LINE).opts(color=CHOSEN, line_width=3.5),
        hv.Scatter(columns[POINTS], dim, [value, "token", "written", "number"], label="Chosen").opts(
            color=CHOSEN,
            size=7,
            tools=["hover"],
            hover_tooltips=[("Token", "@token"), ("Layer", "@number"), (QUANTITIES[quantity], "@written")],
        ),
        hv.Scatter(columns[HERE], dim, value, label="Here").opts(
            size=15, fill_alpha=0, line_color=CHOSEN, line_width=2.5
        ),
    ]
    return hv.Overlay(drawn).opts(
        **grids.BARE,
        logy=quantity == "own_rank",
        xlim=(-0.3, near.sizes["layer"] - 0.7),
        ylim=over_layers_limits(near, quantity=quantity, trajectories=trajectories),
        xticks=grids.ticks(near, "layer"),
        yformatter=NumeralTickFormatter(format="0,0" if quantity == "own_rank" else "0.[00]"),
        show_grid=True,
        gridstyle={"xgrid_line_alpha": 0.0, "ygrid_line_alpha": 0.4},
    )


def _stream(trajectories: xr.Dataset, quantity: Quantity) -> NDArray[np.float32]:
    """The residual stream's own rank or distance: (layer, position)."""
    if quantity == "own_rank":
        return trajectories["stream_own_rank"].transpose("layer", "position").values.astype(np.float32)
    one = np.float32(1 if "cosine" in trajectories.attrs["stream_metric"] else 0)
    return one - trajectories["stream_own_similarity"].transpose("layer", "position").values


def _written(value: float, quantity: Quantity) -> str:
    return f"{value:,.0f}" if quantity == "own_rank" else f"{value:.3f}"
