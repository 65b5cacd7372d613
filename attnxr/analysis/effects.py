"""Does what a head wrote matter, and would a word do in its place? z replaced, and the output compared."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.arrays import unit
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.stacks import meant
from attnxr.checking import choices, head_vectors, whole_number, with_all_dims
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.options import Metric, Together, VocabLayer
from attnxr.query.request import Options
from attnxr.schema import EFFECTS, describe
from attnxr.search.nearest import Progress, told_to, within
from attnxr.texts import token_ids

By = Literal["zero", "mean", "neighbor", "own", "random"]

_SEARCH = 0.1  # share of the work that the search for neighbours counts as


@on_corpora
def effects(
    model: Model,
    encodings: xr.Dataset,
    *,
    by: Sequence[By | xr.DataArray] | By | xr.DataArray = ("zero", "mean", "neighbor", "own"),
    k: int = 1,
    draws: int = 1,
    seed: int = 0,
    metric: Metric = "centered_cosine",
    vocab_layer: VocabLayer = "same",
    mean: xr.DataArray | None = None,
    together: Sequence[Together] | xr.DataArray = (),
    progress: Progress | None = None,
) -> xr.Dataset:
    """Replace what heads wrote, and measure how the model's output changes: does it matter, and would a word do?

    Each head encoding z is replaced, in a forward pass of its own, by

    - ``zero``: nothing;
    - ``mean``: what the head writes on average, over all positions that are there (texts together), or `mean`;
    - ``neighbor``: its 1st … k-th nearest vocabulary entry;
    - ``own``: the token that stands at the position;
    - ``random``: entries drawn at random, all with equal weights, others for each layer, head and position.

    Words are brought to the length of z along the vocabulary's centre, as a value is longer than a mean of values: with
    ū the mean of the vocabulary's encodings of that head and position, ``z' = ū + |z − ū| (u − ū) / |u − ū|``. An
    entry that equals z, to within the error to which the model's vocabulary was verified, *is* z: a head of layer 0
    that attends only to itself wrote its own token, and to put that in its place changes exactly nothing.

    How the output changes is measured as `Model.replace` says. What a head wrote is more than its mean only where
    taking the mean instead matters: the *recovered* share of a measure is ``1 − effect / effect of the mean``. It is 1
    where the replacement says all that the head said, 0 where it says no more than the mean, negative where it
    misleads: no bound holds it from below, so medians describe many of them better than means do.

    Ablation studies [1]_ [2]_ put zero or a mean there, and ask whether a head matters; words ask what it said.

    Parameters
    ----------
    model : Model
    encodings : xr.Dataset
        What `Model.encode` returns, or a selection from it. Special tokens are replaced like others: leave them out
        with ``enc.isel(position=~enc.is_special.values)``, which also leaves them out of the mean.
    by : list of {"zero", "mean", "neighbor", "own", "random"} or xr.DataArray
        What to put in place of z. An array has the dimension ``feature``, and what `Model.replace` says besides, with
        at most one dimension of another name, whose labels then name the replacements; it is put there as it is.
    k : int
        How many neighbours.
    draws : int
        How many entries at random.
    seed : int
        Not negative. The same seed gives the same draws, for a selection too.
    metric, vocab_layer
        By what, and among which encodings, neighbours are found: see `Model.neighbors`. By default those that are
        nearest once they are brought to the length of z, among each layer's own encodings, the only ones that a head of
        that layer could have written. A model whose layers are not one block each needs ``vocab_layer="input"``.
    mean : xr.DataArray, optional
        The heads' means, such as those over a corpus, (layer, head, feature), with labels, or as `by`.
    together : list of {"layer", "head", "position"}, or xr.DataArray of bool
        What is replaced in one pass: see `Model.replace`. Unless told each z by itself.
    progress : callable, optional
        Told the fraction done, 0 … 1, now and then; what it raises ends the work.

    Returns
    -------
    xr.Dataset
        float64: the measures of `Model.replace` (layer, head, position, replacement), and ``recovered``
        (layer, head, position, replacement, measure) of all of them but ``logit_change``: NaN where the mean's effect
        is 0. The mean's effects are computed for that also where they are not asked for. ``replacement`` has the labels
        ``zero``, ``mean``, ``neighbor 1`` …, ``own``, ``random 1`` …. Which entry was put there is in
        ``replacement_id`` (int32, −1 for none, and for arrays), ``replacement_token`` and ``replacement_text``, unless
        several z are replaced together. attrs: those of the encodings, ``together``, ``metric``, ``vocab_layer``,
        ``seed``.

    Raises
    ------
    InputError
        If an option is unknown or out of range, or as in `Model.replace` and `Model.neighbors`.
    UnsupportedModelError
        As in `Model.replace` and `Model.neighbors`.

    References
    ----------
    .. [1] Michel, Levy & Neubig, Are Sixteen Heads Really Better than One?, NeurIPS 2019 (zero).
    .. [2] Wang et al., Interpretability in the Wild, ICLR 2023 (mean over a reference distribution).

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies.").isel(layer=[0, 5])
    >>> found = attnxr.effects(model, enc, by=["mean", "neighbor"], k=2)
    >>> found["replacement"].values.tolist()
    ['mean', 'neighbor 1', 'neighbor 2']
    """
    told = told_to(progress)
    Options("encoding", "value", vocab_layer, True, metric).check()
    model = meant(model, encodings)
    counts = {"neighbor": whole_number("k", k, 1, model.vocab_size), "random": whole_number("draws", draws, 1)}
    seed = whole_number("seed", seed, 0)
    whole, dropped = with_all_dims(encodings, "head_encoding")
    labels = {dim: whole[dim].values for dim in ("layer", "head", "position")}
    size = whole.sizes["feature"]
    z = head_vectors(whole["head_encoding"], labels, size, "head_encoding")
    reference = head_vectors(z.mean("position") if mean is None else mean, labels, size, "mean")
    if set(reference.dims) != set(z.dims):
        raise InputError(f"mean has dimensions {reference.dims}; expected none but layer, head, position and feature.")
    options: dict[str, Any] = {"metric": metric, "vocab_layer": vocab_layer}
    names: list[str] = []
    parts: list[tuple[NDArray[np.int32], NDArray[np.float64]]] = []
    ids: NDArray[np.int32]
    place_of_mean: int | None = None
    for each in _asked(by):
        if isinstance(each, xr.DataArray):
            named, vectors = _given(head_vectors(each, labels, size, "by"))
            ids = np.full(vectors.shape[:-1], -1, np.int32)
        else:
            ids = _ids(each, model, whole, counts, seed, options, within(told, 0, _SEARCH))
            named = [f"{each} {i + 1}" for i in range(ids.shape[-1])] if each in counts else [each]
            if each == "zero":
                vectors = np.zeros((*z.shape[:-1], 1, size))
            elif each == "mean":
                place_of_mean, vectors = len(names), reference.values[..., None, :]
            else:
                vectors = _words(model, whole, z.values, ids, vocab_layer)
        names += named
        parts.append((ids, vectors))
    ids = np.concatenate([of_each for of_each, _ in parts], axis=3)
    vectors = np.concatenate([of_each for _, of_each in parts], axis=3)
    put = vectors
    if place_of_mean is None:  # the shares are of its effects all the same
        put = np.concatenate([vectors, reference.values[..., None, :]], axis=3)
    there = [*names, *[""] * (put.shape[3] - len(names))]
    made = xr.DataArray(put, dims=(*labels, "replacement", "feature"), coords={**labels, "replacement": there})
    found = model.replace(whole, made, together=together, progress=within(told, _SEARCH, 1 - _SEARCH))
    of_mean = found.isel(replacement=-1 if place_of_mean is None else place_of_mean, drop=True)
    result = found.isel(replacement=slice(len(names)))
    measures = [str(name) for name in found.data_vars if name != "logit_change"]
    shares = [1 - result[name] / of_mean[name].where(of_mean[name] > 0) for name in measures]
    result["recovered"] = xr.concat(shares, xr.Variable("measure", measures)).transpose(..., "measure")
    result.attrs |= options | {"seed": seed}
    if not result.attrs["together"]:
        entries = model.vocabulary
        result["replacement_id"] = (*labels, "replacement"), ids
        for name, table in (("token", entries.token), ("text", entries.text)):
            result[f"replacement_{name}"] = (*labels, "replacement"), np.where(ids >= 0, table[ids], "")
    specs = {str(name): replace(EFFECTS[str(name)], dims=tuple(map(str, each.dims))) for name, each in result.items()}
    return describe(result, specs).isel({dim: 0 for dim in dropped if dim in result.dims})


def _asked(by: object) -> list[By | xr.DataArray]:
    """What to put in place of z, in the order that was asked for; a kind that is there twice counts once."""
    several = isinstance(by, Iterable) and not isinstance(by, str | xr.DataArray)
    given: list[Any] = list(by) if several else [by]  # type: ignore[call-overload]
    kinds = choices("by", [each for each in given if not isinstance(each, xr.DataArray)], get_args(By))
    if not given:
        raise InputError(f"by={by!r} was given; expected one or more of {', '.join(map(repr, get_args(By)))}.")
    named = dict.fromkeys(kinds)
    return [each for each in given if isinstance(each, xr.DataArray) or named.pop(each, "gone") is None]


def _given(by: xr.DataArray) -> tuple[list[str], NDArray[np.float64]]:
    """Labels of the replacements that an array (layer, head, position, …, feature) gives, and their vectors."""
    others = by.dims[3:-1]
    if len(others) > 1:
        raise InputError(
            f"by has the dimensions {others} besides; expected at most one, of which each is a replacement."
        )
    if not others:
        return ["given"], by.values[..., None, :]
    return [str(label) for label in by[others[0]].values], by.values


def _ids(
    kind: By,
    model: Model,
    encodings: xr.Dataset,
    counts: dict[str, int],
    seed: int,
    options: dict[str, Any],
    progress: Progress,
) -> NDArray[np.int32]:
    """Which vocabulary entries one kind of replacement puts there, (layer, head, position, m); -1 for none."""
    shape = [encodings.sizes[dim] for dim in ("layer", "head", "position")]
    if kind == "neighbor":
        return model.neighbors(encodings, k=counts[kind], progress=progress, **options)["neighbor_id"].values
    if kind == "own":
        return np.broadcast_to(encodings["token_id"].values.astype(np.int32)[:, None], (*shape, 1))
    if kind == "random":
        found = np.empty((*shape, counts[kind]), np.int32)
        total, at = sum(map(len, token_ids(encodings))), encodings["position"].values
        for i, layer in enumerate(encodings["layer"].values.tolist()):
            for j, head in enumerate(encodings["head"].values.tolist()):
                draws = np.random.default_rng([seed, layer, head]).integers(
                    model.vocab_size, size=(counts[kind], total)
                )
                found[i, j] = draws[:, at].T
        return found
    return np.full((*shape, 1), -1, np.int32)


def _words(
    model: Model, encodings: xr.Dataset, z: NDArray[np.float64], ids: NDArray[np.int32], vocab_layer: VocabLayer
) -> NDArray[np.float64]:
    """Encodings of entries (layer, head, position, m), brought to the length of z along the vocabulary's centre."""
    dims = ("layer", "head", "position")
    asked = xr.DataArray(ids, dims=(*dims, "replacement"), coords={dim: encodings[dim].values for dim in dims})
    u = model.vocabulary_encodings(encodings, asked, vocab_layer=vocab_layer)["vocabulary_encoding"].values
    moments = model.moments(encodings, include=["vocabulary_mean"], vocab_layer=vocab_layer)
    centre, z = moments["vocabulary_mean"].values[..., None, :], z[..., None, :]
    length = np.linalg.norm(z, axis=-1, keepdims=True)
    is_z = np.linalg.norm(u - z, axis=-1, keepdims=True) <= model.verification.tolerance * length
    scaled = centre + np.linalg.norm(z - centre, axis=-1, keepdims=True) * unit(u - centre)
    return np.where(is_z, z, scaled)
