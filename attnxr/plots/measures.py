"""Numbers that can colour a map of layers: what each says, how it is scaled, and its values in a Dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.overlap import overlap
from attnxr.plots.colors import ramp

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a text beside its neighbours.

    Parameters
    ----------
    significance : sequence of xarray.Dataset
        What `attnxr.significance` returned for some of the layers.
    overlaps : xarray.Dataset, optional
        What `attnxr.overlap` returned for the neighbours.
    effects : sequence of xarray.Dataset
        What `attnxr.effects` returned for some of the positions.
    """

    significance: Sequence[xr.Dataset] = ()
    overlaps: xr.Dataset | None = None
    effects: Sequence[xr.Dataset] = ()


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
        From neighbours (layer, head, position, rank) and what is known besides to values (layer, head, position); NaN
        where there is none. Head or position may be dropped from the neighbours, significances and overlaps.
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
    values: Callable[[xr.Dataset, Known], Values]
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
    *,
    significance: Sequence[xr.Dataset] = (),
    overlaps: xr.Dataset | None = None,
    effects: Sequence[xr.Dataset] = (),
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
    overlaps : xarray.Dataset, optional
        What `attnxr.overlap` returned for the neighbours. Without it, it is computed of what is asked for.
    effects : sequence of xarray.Dataset
        What `attnxr.effects` returned for some of the positions, of one replacement or more, the first of which counts:
        only those have a recovered share.
    position, head : int, optional
        Index along ``position`` or ``head``: one of the two, or neither for all values.

    Returns
    -------
    numpy.ndarray
        float64 (layer, head), (layer, position) or (layer, head, position), NaN where there is no value.
    """
    at = {dim: index for dim, index in (("position", position), ("head", head)) if index is not None}
    here = near[["own_rank", "distance", "neighbor_id", "in_sequence"]].isel(at)
    known = Known([one.isel(at) for one in significance], None if overlaps is None else overlaps.isel(at), effects)
    return MEASURES[name].values(here, known)


def whole_text_measure(effects: xr.Dataset) -> str:
    """Which measure says what a replacement changes in a whole text: of the words where there is a head for them."""
    return "kl_anywhere" if "kl_anywhere" in effects else "hidden_change_anywhere"


def _cells(near: xr.Dataset, name: str) -> NDArray[np.generic]:
    """A variable with ``layer`` first and ``rank``, if it has it, last."""
    variable = near[name].variable
    return variable.transpose("layer", ..., *(dim for dim in variable.dims if dim == "rank")).values


def _own_rank(near: xr.Dataset, _known: Known) -> Values:
    return _cells(near, "own_rank").astype(float)


def _nearest_distance(near: xr.Dataset, _known: Known) -> Values:
    return _cells(near, "distance")[..., 0].astype(float)


def _origin(near: xr.Dataset, _known: Known) -> Values:
    """As the Dataset marks its neighbours; `attnxr.origins` differs, for which no head saw a later token of a text."""
    nearest = _cells(near, "neighbor_id")[..., 0]
    own = nearest == near["token_id"].values
    return np.where(own, 0.0, np.where(_cells(near, "in_sequence")[..., 0], 1.0, 2.0))


def _overlap(near: xr.Dataset, known: Known) -> Values:
    """With a row of NaN for the first layer, which has none before it."""
    shares = np.full(_cells(near, "own_rank").shape, np.nan)
    if len(shares) > 1:
        shares[1:] = _cells(overlap(near) if known.overlaps is None else known.overlaps, "overlap")
    return shares


def _q_values(near: xr.Dataset, known: Known) -> Values:
    layers = near["layer"].values.tolist()
    q = np.full(_cells(near, "own_rank").shape, np.nan)
    for one in known.significance:
        for layer, values in zip(one["layer"].values, _cells(one, "nearest_q"), strict=True):
            q[layers.index(layer)] = values
    return q


def _recovered(near: xr.Dataset, known: Known) -> Values:
    labels = {dim: np.atleast_1d(near[dim].values) for dim in ("layer", "head", "position")}
    shares = np.full([len(each) for each in labels.values()], np.nan)
    for one in known.effects:
        here = one["recovered"].isel(replacement=0, drop=True).sel(measure=whole_text_measure(one), drop=True)
        values = here.transpose(*labels).reindex(labels).values
        shares = np.where(np.isnan(values), shares, values)
    return shares.reshape([len(each) for dim, each in labels.items() if dim in near["own_rank"].dims])


def _distance_limits(near: xr.Dataset) -> tuple[float, float]:
    nearest = near["distance"].isel(rank=0).values
    return float(nearest.min()), float(nearest.max())


MEASURES = {
    "own_rank": Measure(
        "Own rank",
        "own rank",
        "1 = nearest",
        "How many vocabulary tokens are nearer than the token that stands there, plus 1.",
        _own_rank,
        lambda near: (1.0, float(near.attrs["vocab_size"])),
        log=True,
    ),
    "nearest_distance": Measure(
        "Nearest distance",
        "distance",
        "low = near",
        "How far the nearest vocabulary token is, whichever token that is.",
        _nearest_distance,
        _distance_limits,
    ),
    "origin": Measure(
        "Origin of the nearest token",
        "origin",
        "",
        "Whether the nearest vocabulary token is the one that stands there, another one of the text, or neither.",
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
        "How rare so near a neighbour would be if the vectors pointed nowhere in particular, adjusted for all "
        "heads and positions of the layer; each layer has values once it has been chosen.",
        _q_values,
        lambda _near: (0.01, 1.0),
        log=True,
    ),
    "recovered": Measure(
        "Recovered by the nearest word",
        "recovered",
        "1 = the word says all, 0 = no more than the mean",
        "If the head wrote the nearest word of its own layer's space instead, as long as what it wrote: which share of "
        "what its writing does to the model's output would stay? Each token has values once it has been chosen.",
        _recovered,
        lambda _near: (-1.0, 1.0),
        low=False,
    ),
}
