"""Which parts of a model make one logit: a cell for each head and feed-forward."""

from __future__ import annotations

import holoviews as hv
import holoviews.plotting.bokeh
import numpy as np
import xarray as xr

from attnxr.checking import whole_number
from attnxr.errors import InputError
from attnxr.plots import grids
from attnxr.plots.colors import MISSING_BETWEEN, diverging
from attnxr.tokens import label

_PARTS = ("head_logit", "feed_forward_logit", "embedding_logit", "bias_logit", "remainder", "logit")


def attribution_columns(attribution: xr.Dataset, position: int | None = None) -> dict[str, np.ndarray]:
    """What the map shows of each head and feed-forward, a flat column for each quantity.

    Parameters
    ----------
    attribution, position
        As of `attribution_plot`.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``head`` and ``layer`` (indices; the feed-forward comes after the last head), ``part`` (its name),
        ``value`` (float64, what it adds to the logit; NaN where there is no target) and ``written`` (the value in
        words), one entry a head or feed-forward.

    Raises
    ------
    InputError
        As in `attribution_plot`.
    """
    return _columns(_one(attribution, position))


def attribution_totals(attribution: xr.Dataset, position: int | None = None) -> dict[str, float]:
    """What the parts add to one logit, and the logit, in the order of the title.

    Parameters
    ----------
    attribution, position
        As of `attribution_plot`.

    Returns
    -------
    dict of str to float
        ``logit``, and what adds up to it: ``heads``, ``feed-forwards``, ``embedding``, ``biases``, ``not shown`` (heads
        and feed-forwards that are not in the Dataset) and ``remainder``.

    Raises
    ------
    InputError
        As in `attribution_plot`.
    """
    return _totals(_one(attribution, position))


def attribution_plot(attribution: xr.Dataset, position: int | None = None, *, dark: bool = False) -> hv.Overlay:
    """Map of what every head and feed-forward adds to one logit, and the sums of all parts above it.

    Parameters
    ----------
    attribution : xarray.Dataset
        What ``attnxr.attribute`` returns, of one target: ``attribution.isel(entry=0)``, or a selection from it.
    position : int, optional
        Index along ``position``; not needed where there is one.
    dark : bool
        Whether the map will stand on a dark background.

    Returns
    -------
    holoviews.Overlay
        A ``HeatMap`` whose last column, ``ff``, is of the feed-forwards, and a line before it. Blue speaks for the
        target, red against it; the largest number, of either sign, has the last colour.

    Raises
    ------
    InputError
        If there are several targets, no such position, or the Dataset is another one.
    """
    one = _one(attribution, position)
    columns = _columns(one)
    there = columns["value"][~np.isnan(columns["value"])]
    most = float(np.abs(there).max(initial=0)) or 1.0
    n_layers, n_heads = one.sizes["layer"], one.sizes["head"]
    cells = grids.over_layers_and_heads(
        columns, [hv.Dimension("value", label="Added to the logit"), "part", "written"]
    ).opts(
        cmap=diverging(dark)[::-1],
        clim=(-most, most),
        clipping_colors={"NaN": MISSING_BETWEEN},
        colorbar=True,
        colorbar_position="top",
        colorbar_opts={"height": 10},
        line_color="gray",
        line_alpha=0.25,
        tools=["hover"],
        hover_tooltips=[("Part", "@part"), ("Adds", "@written")],
    )
    line = hv.Segments([(n_heads - 0.5, -1, n_heads - 0.5, n_layers)]).opts(color="gray", line_width=2)
    return (cells * line).opts(
        **grids.BARE,
        **grids.FRAME,
        title=_title(one),
        xlabel="Head, and feed-forward (ff)",
        xlim=(-0.5 - grids.EDGE, n_heads + 0.5 + grids.EDGE),
        ylim=(-0.5 - grids.EDGE, n_layers - 0.5 + grids.EDGE),
        xticks=[*grids.ticks(one, "head"), (n_heads, "ff")],
        yticks=grids.ticks(one, "layer"),
    )


def _one(attribution: xr.Dataset, position: int | None) -> xr.Dataset:
    """Of one target at one position: (layer, head) and (layer,)."""
    missing = [name for name in (*_PARTS, "target", "target_text") if name not in attribution.variables]
    if missing:
        raise InputError(f"The Dataset has no {missing[0]!r}; expected what attnxr.attribute returns, or a selection.")
    one = attribution
    if one.sizes.get("entry") == 1:
        one = one.isel(entry=0)
    if position is None and one.sizes.get("position") == 1:
        position = 0
    if position is not None:
        if "position" not in one.dims:
            raise InputError(f"position={position!r} was given, and one was selected before. Leave it out.")
        one = one.isel(position=whole_number("position", position, 0, one.sizes["position"] - 1, "an index"))
    if one["logit"].dims:
        raise InputError(
            f"The logits of {dict(one['logit'].sizes)} were given; expected one: give position, and of several targets "
            "select one, attribution.isel(entry=0)."
        )
    heads = one["head_logit"].expand_dims([dim for dim in ("layer", "head") if dim not in one["head_logit"].dims])
    feed_forward = one["feed_forward_logit"]
    if "layer" not in feed_forward.dims:
        feed_forward = feed_forward.expand_dims("layer")
    return one.drop_vars(("head_logit", "feed_forward_logit", "layer", "head"), errors="ignore").assign(
        head_logit=heads.transpose("layer", "head"), feed_forward_logit=feed_forward
    )


def _columns(one: xr.Dataset) -> dict[str, np.ndarray]:
    values = np.column_stack([one["head_logit"].values, one["feed_forward_logit"].values])
    layers, heads = np.indices(values.shape)
    names = [*(f"head {head}" for head in one["head"].values), "feed-forward"]
    parts = [f"layer {layer}, {name}" for layer in one["layer"].values for name in names]
    return {
        "head": heads.ravel(),
        "layer": layers.ravel(),
        "part": np.array(parts, dtype=object),
        "value": values.ravel(),
        "written": np.array([_number(value, "+.3f") for value in values.ravel()], dtype=object),
    }


def _totals(one: xr.Dataset) -> dict[str, float]:
    totals = {
        "heads": float(one["head_logit"].values.sum()),
        "feed-forwards": float(one["feed_forward_logit"].values.sum()),
        "embedding": float(one["embedding_logit"]),
        "biases": float(one["bias_logit"]),
    }
    logit, remainder = float(one["logit"]), float(one["remainder"])
    # Not rest_logit: more may have been left out since.
    return {"logit": logit} | totals | {"not shown": logit - remainder - sum(totals.values()), "remainder": remainder}


def _title(one: xr.Dataset) -> str:
    """The target and where, and what adds up to its logit; parts that round to nothing are left out."""
    target = label(str(one["target"].values), str(one["target_text"].values))
    place = f" at {label(str(one['token'].values), str(one['text'].values))}" if "token" in one.coords else ""
    totals = _totals(one)
    logit = totals.pop("logit")
    if np.isnan(logit):
        return f"No logit{place}: no token follows"
    parts = [f"{name} {_number(value, '+.2f')}" for name, value in totals.items() if abs(value) >= 0.005]
    lines = ["   ".join(parts[i : i + 3]) for i in range(0, len(parts), 3)]
    return "\n".join([f"Logit of {target}{place}: {_number(logit, '.2f')}", *lines])


def _number(value: float, form: str) -> str:
    return "–" if np.isnan(value) else format(value, form).replace("-", "−")
