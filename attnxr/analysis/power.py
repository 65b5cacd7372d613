"""Power: how near to a word must a vector be for `significance` to find it?"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis import nulls
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.significance import significance
from attnxr.analysis.stacks import meant
from attnxr.checking import fraction, whole_number, with_all_dims
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.options import Metric, VocabLayer
from attnxr.schema import POWER, describe
from attnxr.search.nearest import Progress, told_to, within

COSINES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
WANTED = 0.8
"""The power at which a test is usually called strong enough."""


@on_corpora
def significance_power(
    model: Model,
    encodings: xr.Dataset,
    *,
    cosines: Sequence[float] = COSINES,
    alpha: float = 0.05,
    draws: int = 99,
    seed: int = 0,
    metric: Metric = "cosine",
    vocab_layer: VocabLayer = "input",
    positional: bool = True,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Share of vectors at a given cosine to a word that `significance` finds with the ``rotation`` null.

    "No nearer than chance" means little where a vector that does lie near a word would not have been found either. In
    place of each encoding stands one that is made for it: a vocabulary entry drawn at random, encoded at that head and
    position, mixed with a random vector of the null hypothesis (the encoding, turned) so that their cosine is the given
    one and the length that of the turned vector. Found is what has p ≤ alpha, without a correction for many tests,
    which leaves less.

    Parameters
    ----------
    model : Model
    encodings : xr.Dataset
        What `Model.encode` returns, or a selection from it. Each head and position is one trial of each layer and
        cosine, so that a power of 0.8 is known to within ± 0.4 / sqrt(trials).
    cosines : sequence of float
        Ascending, each between −1 and 1.
    alpha : float
        Between 0 and 1.
    draws, seed, metric, vocab_layer, positional, progress
        As in `significance`.

    Returns
    -------
    xr.Dataset
        ``power`` (layer, cosine) float64, of the nearest distance; ``cosine_found`` (layer), the cosine at which 80 %
        are found, between two that were tried: NaN where even the largest leaves more out, and the smallest where it
        finds as many. attrs: those of `significance`; alpha, ``wanted_power`` and ``trials``.

    Raises
    ------
    InputError
        If `cosines` or `alpha` are not what is expected, or as in `significance`.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> few = enc.isel(layer=[0], head=[3], position=[2, 3])
    >>> attnxr.significance_power(model, few, cosines=[0.5, 0.95], draws=19).power.dims
    ('layer', 'cosine')
    """
    tried = np.asarray(cosines)
    is_listed = tried.ndim == 1 and tried.size > 0 and tried.dtype.kind in "iuf"
    if not is_listed or not (np.abs(tried) <= 1).all() or not (np.diff(tried) > 0).all():
        raise InputError(f"cosines={cosines!r} was given; expected ascending numbers from -1 to 1.")
    tried = tried.astype(np.float64)
    alpha = fraction("alpha", alpha, 0.05)
    if whole_number("draws", draws, 1) + 1 < 1 / alpha:
        raise InputError(
            f"draws={draws} cannot give a p-value of {alpha} or less. Expected {1 / alpha - 1:.0f} or more."
        )
    compared: dict[str, Any] = {"vocab_layer": vocab_layer, "positional": positional}
    options = {"metric": metric, "of": "encoding", "space": "value", **compared}
    whole = with_all_dims(encodings, "head_encoding")[0]
    turned, word = _parts(meant(model, whole), whole, seed, options)
    unit = word / np.linalg.norm(word, axis=-1, keepdims=True)
    length = np.linalg.norm(turned, axis=-1, keepdims=True)
    across = turned - (turned * unit).sum(axis=-1, keepdims=True) * unit
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    found = []
    for number, cosine in enumerate(tried):
        mixed = length * (cosine * unit + np.sqrt(1 - cosine**2) * across)
        given = whole.assign(head_encoding=(whole["head_encoding"].dims, mixed.astype(np.float32)))
        result = significance(
            model,
            given,
            k=1,
            draws=draws,
            seed=seed,
            metric=metric,
            progress=within(told_to(progress), number / len(tried), 1 / len(tried)),
            **compared,
        )
        found.append((result["nearest_p"].values <= alpha).mean(axis=(1, 2)))
    power = np.stack(found, axis=1)
    out = xr.Dataset(
        {
            "power": (("layer", "cosine"), power),
            "cosine_found": ("layer", np.array([_reached(tried, of_layer) for of_layer in power])),
        },
        coords={"layer": whole["layer"].values, "cosine": tried},
        attrs={**result.attrs, "alpha": alpha, "wanted_power": WANTED, "trials": mixed[0, ..., 0].size},
    )
    return describe(out, POWER)


def _parts(
    model: Model, encodings: xr.Dataset, seed: int, options: dict[str, Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each encoding turned at random, and a vocabulary entry at its place, (layer, head, position, feature) both."""
    generator = np.random.default_rng([seed, 1])  # not the draws that they are then held against
    ids = generator.integers(model.vocab_size, size=encodings.sizes["position"])
    compared = {name: value for name, value in options.items() if name != "metric"}
    entries = xr.DataArray(ids, {"position": encodings["position"].values}, ("position",))
    both = model.vocabulary_encodings(encodings, entries, **compared)
    moments = model.moments(encodings, **compared)
    root, inverse, inside = nulls.roots(moments["covariance"].values)
    deviation = (both["vector"] - moments["vocabulary_mean"]).values[..., None, :]
    normal = generator.standard_normal(deviation.shape)
    radius, length = (np.linalg.norm(each, axis=-1, keepdims=True) for each in (deviation @ inverse, normal @ inside))
    kept = deviation - deviation @ inside
    turned = moments["vocabulary_mean"].values + (kept + radius / length * (normal @ root))[..., 0, :]
    return turned, both["vocabulary_encoding"].values


def _reached(cosines: NDArray[np.float64], power: NDArray[np.float64]) -> float:
    """Where the power first reaches what is wanted, on the line between the two cosines around it."""
    enough = np.flatnonzero(power >= WANTED)
    if not enough.size:
        return np.nan
    first = enough[0]
    around = slice(max(first - 1, 0), first + 1)
    return float(np.interp(WANTED, power[around], cosines[around]))
