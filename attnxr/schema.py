"""The Datasets, declared as data: names, dimensions, dtypes and meanings, and the check that they hold."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from attnxr.errors import InputError


@dataclass(frozen=True)
class Spec:
    """One variable or coordinate of a Dataset.

    Attributes
    ----------
    dims : tuple of str
    dtype : str
        Its NumPy dtype; ``str`` for strings of any kind.
    meaning : str
        What it is; also its ``long_name``.
    """

    dims: tuple[str, ...]
    dtype: str
    meaning: str


def _head(*dims: str) -> tuple[str, ...]:
    return ("layer", "head", "position", *dims)


_ALIASES: dict[Any, str] = {"kv_head": "head", "other_kv_head": "other_head", "key_feature": "feature"}
_KV = ("layer", "kv_head", "position", "feature")

TOKEN_COORDS: dict[str, Spec] = {
    "position": Spec(("position",), "int64", "place in the text, 0-based; runs on where several texts lie end to end"),
    "token": Spec(("position",), "str", "the tokenizer's token"),
    "text": Spec(("position",), "str", "what the token stands for, a leading space marking a word start"),
    "token_id": Spec(("position",), "int64", "vocabulary id of the token"),
    "char_start": Spec(("position",), "int64", "first character of the token in the text; -1 where it has none"),
    "char_end": Spec(("position",), "int64", "one past its last character; -1 where it has none"),
    "word": Spec(("position",), "int64", "word of the text it belongs to, 0-based; -1 where it belongs to none"),
    "is_special": Spec(("position",), "bool", "whether it is one of the tokenizer's special tokens"),
}  # fmt: skip
SEVERAL_TEXTS: dict[str, Spec] = {
    "text_id": Spec(("position",), "int64", "which of the texts the position belongs to, 0-based"),
    "text_position": Spec(("position",), "int64", "place in that text, 0-based"),
}
ENCODINGS: dict[str, Spec] = {
    "encoding": Spec(_head("feature"), "float32", "head encoding: attention-weighted sum of the values"),
    "attention": Spec(_head("key_position"), "float32", "attention weights; rows sum to 1, less what a sink takes"),
    "query": Spec(_head("feature"), "float32", "query vectors, as the attention was handed them"),
    "key": Spec(_KV, "float32", "key vectors, as the attention was handed them"),
    "value": Spec(_KV, "float32", "value vectors, as the attention was handed them"),
    "residual": Spec(("layer", "position", "channel"), "float32", "input of the block plus what its attention writes"),
    "hidden": Spec(("layer", "position", "channel"), "float32", "output of the block"),
}  # fmt: skip
INCLUDE = ("query", "key", "value", "residual", "hidden")
CHECKS: dict[str, Spec] = {
    "reconstruction": Spec(("layer",), "float64", "relative error of W_O applied to the head encodings"),
    "identity": Spec(("space",), "float64", "relative error of the own tokens' vocabulary encodings"),
    "unchanged": Spec((), "float64", "relative difference of the model's output with and without capture"),
}  # fmt: skip
NEIGHBORS: dict[str, Spec] = {
    "neighbor_id": Spec(_head("rank"), "int32", "vocabulary id of the neighbour"),
    "neighbor": Spec(_head("rank"), "str", "its token"),
    "neighbor_text": Spec(_head("rank"), "str", "what its token stands for"),
    "distance": Spec(_head("rank"), "float32", "its distance, ascending with rank"),
    "in_sequence": Spec(_head("rank"), "bool", "whether it occurs in the text"),
    "own_rank": Spec(_head(), "int32", "1 + the number of vocabulary entries strictly nearer than the own token"),
    "own_distance": Spec(_head(), "float32", "distance of the own token"),
}
DISTANCES: dict[str, Spec] = {
    "distance": Spec(_head("vocab"), "float32", "distance of each vocabulary entry; computed when a slice is taken"),
    "vocab_token": Spec(("vocab",), "str", "token of the vocabulary entry"),
    "vocab_text": Spec(("vocab",), "str", "what it stands for"),
}
VOCABULARY_ENCODINGS: dict[str, Spec] = {
    "vocabulary_encoding": Spec(_head("entry", "feature"), "float64", "encoding of the vocabulary entry"),
    "vector": Spec(_head("feature"), "float64", "vector that is compared with it"),
}
MOMENTS: dict[str, Spec] = {
    "mean": Spec(_head("feature"), "float64", "mean of the vocabulary's encodings"),
    "covariance": Spec(_head("feature", "other_feature"), "float64", "their covariance, over all entries"),
    "direction": Spec(_head("feature"), "float64", "mean of the vocabulary's encodings, each of length 1"),
}
SIGNIFICANCE: dict[str, Spec] = {
    "nearest": Spec(_head(), "float32", "distance of the nearest vocabulary entry"),
    "nearest_null": Spec(_head(), "float64", "mean of that distance over the draws"),
    "nearest_p": Spec(_head(), "float64", "p-value of the nearest distance"),
    "nearest_q": Spec(_head(), "float64", "Benjamini-Hochberg q-value of the nearest distance"),
    "k_mean": Spec(_head(), "float64", "mean distance of the k nearest"),
    "k_mean_null": Spec(_head(), "float64", "mean of that mean over the draws"),
    "k_mean_p": Spec(_head(), "float64", "p-value of the mean of the k nearest"),
    "k_mean_q": Spec(_head(), "float64", "Benjamini-Hochberg q-value of the mean of the k nearest"),
    "nearest_far_p": Spec(_head(), "float64", "p-value of a nearest distance as large: the other tail"),
    "k_mean_far_p": Spec(_head(), "float64", "p-value of a mean of the k nearest as large: the other tail"),
    "nearest_layer_p": Spec(("layer",), "float64", "p-value of the nearest distance's mean over the layer"),
    "k_mean_layer_p": Spec(("layer",), "float64", "p-value of the mean of the k nearest, over the layer"),
    "own_p": Spec(_head(), "float64", "own rank / V: p-value of the own token among all entries"),
    "own_q": Spec(_head(), "float64", "Benjamini-Hochberg q-value of the own token among all entries"),
}
POWER: dict[str, Spec] = {
    "power": Spec(("layer", "cosine"), "float64", "share of vectors at that cosine to a word whose p is small enough"),
    "cosine_found": Spec(("layer",), "float64", "cosine to a word at which the wanted share is found"),
}
HUBNESS: dict[str, Spec] = {
    "occurrence": Spec(
        ("layer", "head", "position", "vocab"), "int32", "how many vectors have the entry as a neighbour"
    ),
    "skewness": Spec(_head(), "float64", "skewness of that number over the vocabulary"),
    "chance_skewness": Spec((), "float64", "skewness if neighbours were picked at random"),
    "hub_id": Spec(_head("hub_rank"), "int32", "vocabulary id of a most frequent neighbour; -1 where none is left"),
    "hub": Spec(_head("hub_rank"), "str", "its token"),
    "hub_text": Spec(_head("hub_rank"), "str", "what its token stands for"),
    "hub_occurrence": Spec(_head("hub_rank"), "int32", "how many vectors have it as a neighbour"),
}
REMEDIES: dict[str, Spec] = {
    "skewness": Spec(("metric", *_head()), "float64", "skewness of how often entries are neighbours"),
    "chance_skewness": Spec((), "float64", "skewness if neighbours were picked at random"),
    "largest_occurrence": Spec(("metric", *_head()), "int32", "how many vectors have the largest hub as a neighbour"),
    "overlap": Spec(("metric", *_head()), "float64", "share of the neighbours by cosine that stay neighbours"),
    "own_rank": Spec(("metric", *_head()), "int32", "1 + the number of entries strictly nearer than the own token"),
}
ROGUE: dict[str, Spec] = {
    "contribution": Spec(
        ("pairs", "layer", "head", "feature"), "float64", "what a feature adds to the expected cosine"
    ),
    "expected_cosine": Spec(("pairs", "layer", "head"), "float64", "mean cosine of such pairs"),
    "top_feature": Spec(("pairs", "layer", "head", "top_rank"), "int32", "feature that contributes most"),
    "top_share": Spec(("pairs", "layer", "head", "top_rank"), "float64", "its part of the expected cosine"),
}
SEQUENCE_DISTANCES: dict[str, Spec] = {
    "distance": Spec(_head("other_position"), "float32", "distance between the encodings of two positions"),
    "other_token": Spec(("other_position",), "str", "token at the other position"),
    "other_text": Spec(("other_position",), "str", "what it stands for"),
}
SEQUENCE_NEIGHBORS: dict[str, Spec] = {
    "neighbor_position": Spec(_head("rank"), "int64", "position of the neighbour"),
    "neighbor": Spec(_head("rank"), "str", "token that stands there"),
    "neighbor_text": Spec(_head("rank"), "str", "what it stands for"),
    "distance": Spec(_head("rank"), "float32", "its distance, ascending with rank"),
}
TRAJECTORIES: dict[str, Spec] = {
    "own_rank": Spec(_head(), "int32", "1 + the number of vocabulary entries strictly nearer than the own token"),
    "own_quantile": Spec(_head(), "float64", "share of the other vocabulary entries that are strictly nearer"),
    "own_similarity": Spec(_head(), "float32", "similarity to the own token: the larger, the nearer"),
    "best_head": Spec(("layer", "position"), "int64", "head with the smallest own rank"),
    "best_own_rank": Spec(("layer", "position"), "int32", "its own rank"),
    "median_own_rank": Spec(("layer", "position"), "float64", "median of the own rank over heads"),
    "stream_own_rank": Spec(("layer", "position"), "int32", "own rank in the residual stream"),
    "stream_own_quantile": Spec(("layer", "position"), "float64", "own quantile in the residual stream"),
    "stream_own_similarity": Spec(("layer", "position"), "float32", "own similarity in the residual stream"),
}
CONSECUTIVE_OVERLAP: dict[str, Spec] = {
    "overlap": Spec(_head(), "float64", "share of the nearest tokens that were among those one layer before"),
    "previous_layer": Spec(("layer",), "int64", "the layer before, of those that are there"),
}
LAYER_OVERLAP: dict[str, Spec] = {
    "overlap": Spec(
        ("layer", "other_layer", "head", "position"), "float64", "share of the nearest tokens that two layers have both"
    ),
}
HEAD_OVERLAP: dict[str, Spec] = {
    "overlap": Spec(
        ("layer", "head", "other_head", "position"), "float64", "share of the nearest tokens that two heads have both"
    ),
}
ORIGINS: dict[str, Spec] = {
    "origin": Spec(_head(), "str", "what the nearest token is: own, other (token of the text) or neither"),
    "origin_position": Spec(_head(), "int64", "position where the nearest token stands in the text; -1 for neither"),
    "origin_attention": Spec(_head(), "float32", "attention that the head paid there; NaN for neither"),
    "own_share": Spec(("layer", "head"), "float64", "share of positions whose nearest token is the own one"),
    "other_share": Spec(("layer", "head"), "float64", "share of positions whose nearest token is another of the text"),
    "neither_share": Spec(("layer", "head"), "float64", "share of positions whose nearest token is not in the text"),
}
WORD_COORDS: dict[str, Spec] = {
    "word": Spec(("word",), "int64", "place of the word, 0-based; runs on where several texts lie end to end"),
    "word_text": Spec(("word",), "str", "the word as the text writes it"),
    "char_start": Spec(("word",), "int64", "first character of the word in its text; -1 where it has none"),
    "char_end": Spec(("word",), "int64", "one past its last character; -1 where it has none"),
    "n_tokens": Spec(("word",), "int64", "how many tokens it has"),
    "text_id": Spec(("word",), "int64", "which of the texts the word belongs to, 0-based"),
    "text_word": Spec(("word",), "int64", "place of the word in its text, as the tokenizer counts"),
}
COMPARISON: dict[str, Spec] = {
    "other_position": Spec(("position",), "int64", "position in b of the token that is at `position` in a"),
    "own_rank_difference": Spec(_head(), "int32", "own rank in b less own rank in a"),
    "own_distance_difference": Spec(_head(), "float32", "own distance in b less own distance in a"),
    "overlap": Spec(_head(), "float64", "share of the n nearest tokens that a and b have both"),
    "rbo": Spec(_head(), "float64", "rank-biased overlap of the n nearest tokens, extrapolated"),
    "attention_difference": Spec(_head("key_position"), "float32", "attention in b less attention in a"),
    "attention_distance": Spec(_head(), "float64", "total variation between the attention in a and in b"),
    "key_token": Spec(("key_position",), "str", "token that is attended"),
    "other_key_position": Spec(("key_position",), "int64", "position in b of the token that is attended"),
}
_OF_POINT = "of the vector, or of those whose neighbour or own token the vocabulary entry is; -1 where they differ"
MAP: dict[str, Spec] = {
    "coordinate": Spec(("point", "component"), "float64", "where on the map the point is"),
    "trustworthiness": Spec(
        (), "float64", "1 less a penalty for neighbours on the map that are none among the vectors"
    ),
    "explained_variance_ratio": Spec(("component",), "float64", "share of the variance along the component"),
    "kind": Spec(("point",), "str", "encoding (a vector of the text) or vocabulary"),
    **{dim: Spec(("point",), "int64", f"{dim} {_OF_POINT}") for dim in ("layer", "head", "kv_head", "position")},
    **{name: Spec(("point",), "int64", f"{name} {_OF_POINT}") for name in SEVERAL_TEXTS},
    "token_id": Spec(("point",), "int64", "vocabulary id of the token at the position, or of the vocabulary entry"),
    "token": Spec(("point",), "str", "its token"),
    "text": Spec(("point",), "str", "what it stands for"),
    "is_own": Spec(("point",), "bool", "whether it is a vocabulary entry that is the own token of a vector"),
    "best_rank": Spec(("point",), "int64", "smallest rank of the vocabulary entry among a vector's neighbours, else 0"),
}


def without_heads(specs: dict[str, Spec]) -> dict[str, Spec]:
    """The same variables for vectors of the residual stream, which have no heads."""
    return only_dims(specs, ("layer", "position"))


def only_dims(specs: dict[str, Spec], dims: Iterable[Any]) -> dict[str, Spec]:
    """The same variables without those of a vector's dimensions (layer, head, position) that are not among `dims`."""
    kept = {_ALIASES.get(dim, dim) for dim in dims}
    return {
        name: Spec(tuple(dim for dim in spec.dims if dim in kept or dim not in _head()), spec.dtype, spec.meaning)
        for name, spec in specs.items()
    }


def _holds_the_same(variable: xr.Variable, dtype: str) -> bool:
    """Whether numbers are whole ones that the expected type holds too: files and arithmetic change widths."""
    expected = np.dtype(dtype)
    if expected.kind != "i" or variable.dtype.kind not in "iu":
        return False
    limits, values = np.iinfo(expected), variable.values
    return (
        np.can_cast(variable.dtype, expected)
        or not values.size
        or (limits.min <= int(values.min()) and int(values.max()) <= limits.max)
    )


def validate(dataset: xr.Dataset, specs: dict[str, Spec], required: tuple[str, ...] = ()) -> xr.Dataset:
    """Check a Dataset against its declaration, and give every variable its meaning as ``long_name``.

    Parameters
    ----------
    dataset : xr.Dataset
    specs : dict of Spec
        What its variables must look like. Head vectors of grouped-query models may have ``kv_head`` for ``head``, and
        queries and keys that are longer or shorter than values ``key_feature`` for ``feature``.
    required : tuple of str
        Names that must be there.

    Returns
    -------
    xr.Dataset
        The same Dataset.

    Raises
    ------
    InputError
        With the name, what was found and what was expected.
    """
    if not isinstance(dataset, xr.Dataset):
        raise InputError(
            f"A {type(dataset).__name__} was given; expected the xarray Dataset that Model.encode returns."
        )
    for name in required:
        if name not in dataset.variables:
            raise InputError(
                f"The Dataset has no {name!r}, only {sorted(map(str, dataset.variables))}. Expected what "
                "Model.encode returns, or a selection from it."
            )
    for name, spec in {**TOKEN_COORDS, **SEVERAL_TEXTS, **specs}.items():
        if name not in dataset.variables:
            continue
        variable = dataset.variables[name]
        if name not in specs and not variable.dims:
            continue  # the one coordinate of a single position
        found, expected = (tuple(_ALIASES.get(dim, dim) for dim in each.dims) for each in (variable, spec))
        if found != expected:
            raise InputError(
                f"{name!r} has dimensions {variable.dims}; expected {spec.dims}. Select with lists or slices, so that "
                "dimensions are kept: isel(layer=[3])."
            )
        if spec.dtype == "str" and variable.dtype.kind in "OUT":
            continue
        if spec.dtype != variable.dtype and not _holds_the_same(variable, spec.dtype):
            raise InputError(f"{name!r} has dtype {variable.dtype}; expected {spec.dtype}.")
    return dataset


def check_tokens(dataset: xr.Dataset, name: str) -> None:
    """Fail where a Dataset's tokens are not those that its attrs say, as after joining Datasets of two texts.

    Parameters
    ----------
    dataset : xr.Dataset
        With the coords ``position`` and ``token_id``. One without ``attrs["token_ids"]`` is known too little of.
    name : str
        What the caller's user knows the Dataset as.

    Raises
    ------
    InputError
        If a position is there that the texts do not have, or it has another token.
    """
    if "token_ids" not in dataset.attrs or "token_id" not in dataset.coords or "position" not in dataset.coords:
        return
    texts = json.loads(dataset.attrs["token_ids"])
    several = "text_id" in dataset.coords
    places = np.atleast_1d(dataset["text_position" if several else "position"].values)
    text_of = np.atleast_1d(dataset["text_id"].values) if several else np.zeros_like(places)
    known = {(text, place): token for text, ids in enumerate(texts) for place, token in enumerate(ids)}
    tokens = [known.get(each) for each in zip(text_of.tolist(), places.tolist(), strict=True)]
    if tokens != np.atleast_1d(dataset["token_id"].values).tolist():
        raise InputError(
            f"{name} has other tokens than its attrs['token_ids'] say, as where Datasets of two texts were joined. "
            "Expected what Model returns, or a selection from it: to have several texts in one Dataset, encode them "
            "together."
        )


def token_types(dataset: xr.Dataset) -> list[list[int]]:
    """Token types of each text of a Dataset; an empty list for a text whose model is given none.

    Raises
    ------
    InputError
        If they are not as long as the texts.
    """
    lengths = [len(ids) for ids in json.loads(dataset.attrs.get("token_ids", "[]"))]
    if "token_type_ids" not in dataset.attrs:
        return [[] for _ in lengths]
    try:
        types = json.loads(dataset.attrs["token_type_ids"])
        fits = len(types) == len(lengths) and all(
            len(of_text) in (0, length) and all(type(each) is int for each in of_text)
            for of_text, length in zip(types, lengths, strict=True)
        )
    except (ValueError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise InputError(
            f"The Dataset has attrs['token_type_ids'] {dataset.attrs['token_type_ids']!s:.80}, which are not those of "
            f"texts of {lengths} tokens. Expected what Model.encode returns, or a selection from it."
        )
    return types


def describe(dataset: xr.Dataset, specs: dict[str, Spec]) -> xr.Dataset:
    """Give every variable its meaning as ``long_name``, then `validate`."""
    for name, spec in {**TOKEN_COORDS, **SEVERAL_TEXTS, **specs}.items():
        if name in dataset.variables:
            dataset[name].attrs["long_name"] = spec.meaning
    return validate(dataset, specs)
