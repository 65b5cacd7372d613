"""The words that add up to one vector, a bar for each."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import xarray as xr

from attnxr.errors import InputError
from attnxr.plots.colors import OWN, QUIET
from attnxr.plots.grids import BARS
from attnxr.tokens import label

_HEIGHT = 28  # pixels for each bar


def decomposition_columns(found: xr.Dataset) -> dict[str, Any]:
    """What the figure shows of one vector, in the order in which the entries were added.

    Parameters
    ----------
    found : xarray.Dataset
        What `attnxr.decompose` returns, of one layer, head and position: ``found.sel(layer=0, head=3, position=2)``.

    Returns
    -------
    dict of str to list
        ``entry`` (its step and token), ``weight``, ``explained`` (the share up to it, in words) and ``color``; empty
        where nothing was found.

    Raises
    ------
    InputError
        If there are several vectors.
    """
    if "entry_id" not in found or found["entry_id"].dims != ("step",):
        raise InputError(
            f"A Dataset of sizes {dict(found.sizes)} was given; expected what attnxr.decompose returns, of one vector: "
            "found.sel(layer=0, head=3, position=2)."
        )
    there = found.isel(step=found["entry_id"].values >= 0)
    tokens = zip(there["step"].values, there["entry"].values, there["entry_text"].values, strict=True)
    return {
        "entry": [f"{step}  {label(str(token), str(text))}" for step, token, text in tokens],
        "weight": there["weight"].values.tolist(),
        "explained": [f"{100 * share:.1f} %" for share in there["explained"].values],
        "color": [OWN if own else QUIET for own in there["in_sequence"].values],
    }


def decomposition_plot(found: xr.Dataset) -> hv.Bars:
    """Weights of the entries that add up to one vector, the first on top; those that the text has stand out.

    Parameters
    ----------
    found : xarray.Dataset
        As of `decomposition_columns`.

    Returns
    -------
    holoviews.Bars
        Across, with the share explained up to each entry where the pointer is.
    """
    columns = {name: values[::-1] for name, values in decomposition_columns(found).items()}
    entry = hv.Dimension("entry", label="Word")
    values = [hv.Dimension("weight", label="Weight"), hv.Dimension("explained", label="Explained"), "color"]
    return hv.Bars(columns, entry, values).opts(
        **BARS,
        height=60 + _HEIGHT * max(1, len(columns["entry"])),
        hover_tooltips=[("Word", "@entry"), ("Weight", "@weight{0.000}"), ("Explained so far", "@explained")],
        ylabel="Weight",
    )
