"""Is it signal or noise: what the panel says of a layer, as plain lists and strings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from attnxr.dashboard.rows.neighbors import number
from attnxr.plots import MEASURES
from attnxr.tokens import label

Q_LIMIT = 0.05
"""A q-value up to this counts as nearer than chance."""
POWER_SHOWN = 0.7
"""The cosine to a word that stands for "rather near"."""
COMPUTING = "computing…"
FAR_LIMIT = 0.05
"""A p-value of the far tail up to this counts as farther than chance; where there is only chance, so many do."""
VERDICTS = {True: "nearer than chance", False: "no nearer than chance"}


def signal_rows(near: xr.Dataset, significance: xr.Dataset | None, layer: int, position: int) -> list[list[str]]:
    """How the nearest distance of each head compares with chance, at one token.

    Parameters
    ----------
    near : xarray.Dataset
        What ``model.neighbors`` returns.
    significance : xarray.Dataset, optional
        What `attnxr.significance` returned for that layer; None while it is not there.
    layer, position : int
        Indices along ``layer`` and ``position``.

    Returns
    -------
    list of list of str
        For each head the nearest token, its distance, what chance gives on average, p-value, q-value and verdict; the
        last four are empty without `significance`.
    """
    first = near[["neighbor", "neighbor_text", "distance"]].isel(layer=layer, position=position, rank=0)
    names = [label(*pair) for pair in zip(first["neighbor"].values, first["neighbor_text"].values, strict=True)]
    distances = [number(distance) for distance in first["distance"].values]
    if significance is None:
        return [[name, distance, "", "", "", ""] for name, distance in zip(names, distances, strict=True)]
    here = significance.isel(layer=0, position=position)
    columns = [here[name].values for name in ("nearest_null", "nearest_p", "nearest_q")]
    write = MEASURES["q_value"].write
    return [
        [name, distance, number(null), write(p), write(q), VERDICTS[bool(q <= Q_LIMIT)]]
        for name, distance, null, p, q in zip(names, distances, *columns, strict=True)
    ]


def vector_line(near: xr.Dataset, significance: xr.Dataset, layer: int, column: int, position: int) -> str:
    """How the nearest distance of one vector compares with chance, in words.

    Parameters
    ----------
    near : xarray.Dataset
        What ``model.neighbors`` returns, with a dimension ``head``.
    significance : xarray.Dataset
        What `attnxr.significance` returned, of that vector alone.
    layer, column, position : int
        Indices of the vector in `near`.
    """
    first = near[["neighbor", "neighbor_text"]].isel(layer=layer, head=column, position=position, rank=0)
    p, draws = float(significance["nearest_p"]), int(significance.attrs["draws"])
    farther = 1 + draws - round(p * (1 + draws))
    among = f"all {draws}" if farther == draws else f"{farther} of {draws}"
    name = label(first["neighbor"].item(), first["neighbor_text"].item())
    return f"“{name}” is nearer than {among} random vectors (p {MEASURES['q_value'].write(p)})"


def signal_line(significance: xr.Dataset) -> str:
    """How many heads and positions of a layer are nearer than chance, in words."""
    q = significance["nearest_q"].values
    return (
        f"{int((q <= Q_LIMIT).sum()):,} of {q.size:,} head–positions are nearer than chance at q ≤ {Q_LIMIT:g}, "
        f"corrected over {significance.attrs['family']}"
    )


def far_line(significance: xr.Dataset) -> str:
    """How many heads and positions of a layer are farther than chance, in words."""
    share = float((significance["nearest_far_p"] <= FAR_LIMIT).mean())
    return f"{share:.0%} are farther than {1 - FAR_LIMIT:.0%} of the random ones (by chance {FAR_LIMIT:.0%} would be)"


def power_line(power: xr.Dataset) -> str:
    """How near to a word a vector must be to be found, in words, given `attnxr.significance_power` of a layer."""
    here = power.isel(layer=0)
    wanted, alpha = power.attrs["wanted_power"], power.attrs["alpha"]
    of_these = f"p ≤ {alpha:g}, before correction"
    cosine = float(here["cosine_found"])
    if np.isnan(cosine):
        most = here.isel(cosine=-1)
        return (
            f"even at cosine {float(most['cosine']):g} to a word only {float(most['power']):.0%} are found ({of_these})"
        )
    half = here["power"].sel(cosine=POWER_SHOWN)
    return (
        f"{wanted:.0%} of vectors are found at cosine {cosine:.2f} to a word, {float(half):.0%} at "
        f"{POWER_SHOWN:g} ({of_these})"
    )


def origin_line(origins: xr.Dataset) -> str:
    """Where the nearest tokens of a layer come from, in words, given what `attnxr.origins` returned for it."""
    shares = [float(origins[f"{kind}_share"].mean()) for kind in ("own", "other", "neither")]
    own, other, neither = (f"{share:.0%}" for share in shares)
    return f"own token {own} · another token of the text {other} · neither {neither}"


def overlap_line(overlap: xr.Dataset) -> str:
    """What a layer shares with the one before it, in words, given what `attnxr.overlap` returned for the two."""
    mean, before = float(overlap["overlap"].mean()), int(overlap["previous_layer"].values[0])
    n, chance = overlap.attrs["n"], float(overlap.attrs["chance"])
    return f"{mean:.0%} of the {n} nearest tokens are also among those of layer {before} (random tokens: {chance:.2%})"


def hub_line(hubness: xr.Dataset) -> str:
    """The most frequent neighbours of a layer by name, given what `attnxr.hubness` returned for it."""
    here = hubness.isel(layer=0)
    columns: Sequence[np.ndarray] = [here[name].values for name in ("hub", "hub_text", "hub_occurrence")]
    hubs = [f"“{label(token, text)}” {count:,}" for token, text, count in zip(*columns, strict=True) if count]
    return f"{' · '.join(hubs)}, each of {hubness.attrs['vectors']:,} neighbour lists"
