"""The words that one head promotes and suppresses most, a bar for each."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import xarray as xr

from attnxr.errors import InputError
from attnxr.plots.colors import AGAINST, FOR
from attnxr.plots.grids import BARS
from attnxr.tokens import label

_HEIGHT = 24  # pixels for each bar


def promoted_columns(found: xr.Dataset) -> dict[str, list[Any]]:
    """What the figure shows of one head, from the most promoted to the most suppressed entry.

    Parameters
    ----------
    found : xarray.Dataset
        What `attnxr.promoted` returns, of one layer, head and position: ``found.sel(layer=0, head=3, position=2)``; or
        what `attnxr.vocabulary_map` returns, of one layer, head and vocabulary entry.

    Returns
    -------
    dict of str to list
        ``entry`` (its rank, + among the promoted, − among the suppressed, and token), ``logit`` (what the head adds to
        it) and ``color``.

    Raises
    ------
    InputError
        If there are several vectors.
    """
    if "promoted_logit" not in found or found["promoted_logit"].dims != ("rank",):
        raise InputError(
            f"A Dataset of sizes {dict(found.sizes)} was given; expected what attnxr.promoted returns, of one head at "
            "one position: found.sel(layer=0, head=3, position=2)."
        )
    bars = []
    for kind, sign in (("promoted", "+"), ("suppressed", "−")):
        tokens, texts, logits = (found[name].values for name in (kind, f"{kind}_text", f"{kind}_logit"))
        of_kind = [
            (f"{sign}{rank}  {label(str(token), str(text))}", float(logit))
            for rank, token, text, logit in zip(found["rank"].values, tokens, texts, logits, strict=True)
        ]
        bars += of_kind if kind == "promoted" else of_kind[::-1]
    return {
        "entry": [entry for entry, _ in bars],
        "logit": [logit for _, logit in bars],
        "color": [FOR if logit > 0 else AGAINST for _, logit in bars],
    }


def promoted_plot(found: xr.Dataset) -> hv.Bars:
    """What one head adds to the logits of the entries that it promotes most, on top, and suppresses most, below.

    Parameters
    ----------
    found : xarray.Dataset
        As of `promoted_columns`.

    Returns
    -------
    holoviews.Bars
        Across; blue where the head speaks for a word, red where it speaks against it.

    Raises
    ------
    InputError
        If there are several vectors.
    """
    columns = {name: values[::-1] for name, values in promoted_columns(found).items()}
    return hv.Bars(
        columns, hv.Dimension("entry", label="Word"), [hv.Dimension("logit", label="Added to the logit"), "color"]
    ).opts(
        **BARS,
        height=60 + _HEIGHT * len(columns["entry"]),
        hover_tooltips=[("Word", "@entry"), ("Added to its logit", "@logit{0.000}")],
    )
