"""Numbers that can colour a map of layers: what each says, how it is scaled, and its values in a Dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.plots.colors import ramp

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A number that every layer, head and position has.

    Parameters
    ----------
    label : str
        Its name, as written on a colour bar.
    short : str
        The same in a word or two, as written before a value.
    direction : str
        What its ends mean, in words; empty where its categories say it.
    help : str
        What the number says, in a sentence.
    values : callable
        From neighbours (layer, head, position, rank), and what `attnxr.significance` returned for some of the
        layers, to values (layer, head, position); NaN where there is none. Head or position may be dropped.
    limits : callable
        From all neighbours of a text to the values of the first and the last colour.
    low : bool
        Whether the low values, not the high ones, stand out from the background.
    log : bool
        Whether colours are logarithmic.
    categories : tuple of str
        What the values 0, 1, 2 … stand for, where they are no quantities.
    """

    label: str
    short: str
    direction: str
    help: str
    values: Callable[[xr.Dataset, Sequence[xr.Dataset]], Values]
    limits: Callable[[xr.Dataset], tuple[float, float]]
    low: bool = True
    log: bool = False
    categories: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its name, and what its ends mean."""
        return f"{self.label} ({self.direction})" if self.direction else self.label

    def palette(self, dark: bool = False) -> list[str]:
        """Colours from the lower limit to the upper one, in hex notation.

        Parameters
        ----------
        dark : bool
            Whether the background is dark.

        Returns
        -------
        list of str
            256 colours, or as many as there are categories. What stands out is dark on light, and light on dark.
        """
        if self.categories:
            return list(_CATEGORY_COLORS[dark])
        return ramp(dark) if self.low else ramp(dark)[::-1]

    def write(self, value: float) -> str:
        """A value as it is written for a reader.

        Parameters
        ----------
        value : float

        Returns
        -------
        str
            A few digits, or the name of the category; a dash for what is not there.
        """
        if np.isnan(value):
            return "–"
        if self.categories:
            return self.categories[int(value)]
        if abs(value) >= 100 or float(value).is_integer():
            return f"{value:,.0f}"
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"

    def colors(self, values: Values, limits: tuple[float, float], dark: bool = False) -> list[str | None]:
        """Colours of values, as the maps give them.

        Parameters
        ----------
        values : numpy.ndarray
            Values of this measure.
        limits : tuple of float
            Values of the first and the last colour.
        dark : bool
            Whether the background is dark.

        Returns
        -------
        list of str or None
            In hex notation; None where there is no value.
        """
        palette = self.palette(dark)
        lower, upper = np.log(limits) if self.log else np.asarray(limits, float)
        there = ~np.isnan(values)
        known = np.where(there, values, limits[0])
        scaled = ((np.log(known) if self.log else known) - lower) / ((upper - lower) or 1)
        index = np.clip(scaled * len(palette), 0, len(palette) - 1).astype(int)
        return [palette[i] if here else None for i, here in zip(index, there, strict=True)]


# Own, of the text, neither: so different in lightness that no colour vision is needed.
_CATEGORY_COLORS = {
    False: ("#173f86", "#3fae8d", "#e3e7ec"),
    True: ("#b4d2ff", "#2c8a70", "#2b313a"),
}


def measure_values(
    name: str,
    near: xr.Dataset,
    significance: Sequence[xr.Dataset] = (),
    *,
    position: int | None = None,
    head: int | None = None,
) -> Values:
    """Values of a measure over layers and heads, for one position, or over layers and positions, for one head.

    Parameters
    ----------
    name : str
        A key of `MEASURES`.
    near : xarray.Dataset
        What ``model.neighbors`` returns.
    significance : sequence of xarray.Dataset
        What `attnxr.significance` returned for some of the layers: only those have a q-value.
    position, head : int, optional
        Index along ``position`` or ``head``: just one of the two.

    Returns
    -------
    numpy.ndarray
        float64 (layer, head) or (layer, position), NaN where there is no value.
    """
    at = {"position": position} if head is None else {"head": head}
    here = near[["own_rank", "distance", "neighbor_id", "in_sequence"]].isel(at)
    return MEASURES[name].values(here, [one.isel(at) for one in significance])


def _cells(near: xr.Dataset, name: str) -> NDArray[np.generic]:
    """A variable with ``layer`` first and ``rank``, if it has it, last."""
    found = near[name].variable
    return found.transpose("layer", ..., *(dim for dim in found.dims if dim == "rank")).values


def _own_rank(near: xr.Dataset, _significance: Sequence[xr.Dataset]) -> Values:
    return _cells(near, "own_rank").astype(float)


def _nearest_distance(near: xr.Dataset, _significance: Sequence[xr.Dataset]) -> Values:
    return _cells(near, "distance")[..., 0].astype(float)


def _origin(near: xr.Dataset, _significance: Sequence[xr.Dataset]) -> Values:
    nearest = _cells(near, "neighbor_id")[..., 0]
    own = nearest == near["token_id"].values
    return np.where(own, 0.0, np.where(_cells(near, "in_sequence")[..., 0], 1.0, 2.0))


def _overlap(near: xr.Dataset, _significance: Sequence[xr.Dataset]) -> Values:
    """As `attnxr.overlap` between consecutive layers, with a row of NaN for the first, which has none before it."""
    ids = _cells(near, "neighbor_id")
    shares = np.full(ids.shape[:-1], np.nan)
    for layer in range(1, len(ids)):
        shares[layer] = (ids[layer][..., None] == ids[layer - 1][..., None, :]).any(axis=-1).mean(axis=-1)
    return shares


def _q_values(near: xr.Dataset, significance: Sequence[xr.Dataset]) -> Values:
    layers = near["layer"].values.tolist()
    found = np.full(_cells(near, "own_rank").shape, np.nan)
    for one in significance:
        for layer, values in zip(one["layer"].values, _cells(one, "nearest_q"), strict=True):
            found[layers.index(layer)] = values
    return found


def _distance_limits(near: xr.Dataset) -> tuple[float, float]:
    nearest = near["distance"].isel(rank=0).values
    return float(nearest.min()), float(nearest.max())


MEASURES = {
    "own_rank": Measure(
        "Own rank",
        "own rank",
        "1 = nearest",
        "How many vocabulary tokens are nearer to what the head wrote than the token that stands there, plus one: 1 is "
        "nearest of the whole vocabulary.",
        _own_rank,
        lambda near: (1.0, float(near.attrs["vocab_size"])),
        log=True,
    ),
    "nearest_distance": Measure(
        "Nearest distance",
        "distance",
        "low = near",
        "How far what the head wrote is from the nearest vocabulary token, whichever that is.",
        _nearest_distance,
        _distance_limits,
    ),
    "origin": Measure(
        "Origin of the nearest token",
        "origin",
        "",
        "Whether the vocabulary token nearest to what the head wrote is the one that stands there, another one of the "
        "text, or neither.",
        _origin,
        lambda _near: (-0.5, 2.5),
        categories=("own", "of the text", "neither"),
    ),
    "overlap": Measure(
        "Overlap with the layer before",
        "overlap",
        "1 = all",
        "Which share of the nearest vocabulary tokens the same head of the layer before has too; the first layer has "
        "none before it.",
        _overlap,
        lambda _near: (0.0, 1.0),
        low=False,
    ),
    "q_value": Measure(
        "q-value",
        "q-value",
        "low = hardly by chance",
        "How rare so near a neighbour would be if what the head wrote pointed nowhere in particular, adjusted for all "
        "heads and positions of the layer; each layer has values once it has been chosen.",
        _q_values,
        lambda _near: (0.01, 1.0),
        log=True,
    ),
}
