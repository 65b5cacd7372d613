"""Comparison of two Datasets, token by token and head by head: two texts, two models, or the mask on and off."""

from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.given import Given, attention, attribute, key_tokens, neighbors
from attnxr.checking import fraction, same_labels, whole_number
from attnxr.errors import InputError
from attnxr.schema import COMPARISON, describe
from attnxr.texts import places

_REQUIRED = ("neighbor_id", "neighbor", "own_rank", "own_distance")


@on_corpora
def comparison(
    near_a: xr.Dataset,
    near_b: xr.Dataset,
    encodings_a: xr.Dataset | None = None,
    encodings_b: xr.Dataset | None = None,
    *,
    n: int | None = None,
    persistence: float = 0.9,
) -> xr.Dataset:
    """Align two Datasets by their tokens, and say how own ranks, neighbours and attention differ, head by head.

    Tokens are aligned as by a text comparison: the longest run that both texts have, then the same to its left and to
    its right (Ratcliff and Metzener 1988, "Pattern matching: the gestalt approach"; `difflib.SequenceMatcher`). Texts
    with the same tokens are thus compared position by position. Of several texts, each is aligned with that of the same
    ``text_id``. Tokens and neighbours are the same where their strings are.

    Neighbours are compared by their *rank-biased overlap*, extrapolated (RBO_EXT of Webber, Moffat and Zobel 2010, "A
    similarity measure for indefinite rankings", ACM TOIS 28(4), for two lists of n)::

        RBO = X_n / n · p^n + (1 − p) / p · Σ_{d=1…n} X_d / d · p^d

    with X_d the number of tokens that the first d of both lists share. 0 for lists without a common token, 1 for equal
    ones; the overlap that was reached at n is taken to go on for ever.

    Parameters
    ----------
    near_a, near_b : xr.Dataset
        What `Model.neighbors` returns, or selections from it, with the same layers and heads.
    encodings_a, encodings_b : xr.Dataset, optional
        What `Model.encode` returned for them, whole, with ``attention``; both or neither.
    n : int, optional
        How many of the nearest tokens to compare; by default as many as both have.
    persistence : float
        p, between 0 and 1: the share of readers who, at each rank, read on to the next. With 0.9 the first 10 ranks
        have 86 % of the weight.

    Returns
    -------
    xr.Dataset
        Of the positions of a that have a counterpart in b, ``other_position`` (position):

        - ``own_rank_difference`` int32, b − a; ``own_distance_difference`` float32, b − a, left out where the metrics
          differ;
        - ``overlap``, the share of common tokens, X_n / n, and ``rbo``, float64 (layer, head, position);
        - with encodings, ``attention_difference`` float32, b − a, to the tokens of a that have a counterpart in b,
          ``other_key_position`` (key_position); and ``attention_distance`` float64 (layer, head, position), the total
          variation ``½ Σ |a − b|`` over all the tokens of both texts: how much of the attention goes elsewhere, 0 … 1.
          A token without counterpart has no attention from the other text; what a sink takes counts as one more token.

        attrs: those of both in which they differ, with the suffixes ``_a`` and ``_b``; ``n``, ``persistence``,
        ``aligned``, and how many positions of each were left out, ``left_out_a`` and ``left_out_b``.

    Raises
    ------
    InputError
        If a Dataset is not what is expected, layers or heads are not the same, no token is in both, or an option is out
        of range.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> other = model.encode("Time flies like a banana.")
    >>> found = attnxr.comparison(near, model.neighbors(other, k=5))
    >>> found.other_position.values.tolist()
    [0, 1, 2, 3, 6, 7]
    """
    a, b = neighbors(near_a, *_REQUIRED, name="near_a"), neighbors(near_b, *_REQUIRED, name="near_b")
    if (encodings_a is None) != (encodings_b is None):
        raise InputError("The encodings of one were given; expected those of both, or neither.")
    persistence = fraction("persistence", persistence, 0.9)
    _check_heads(a, b)
    most = min(a.near.sizes["rank"], b.near.sizes["rank"])
    n = most if n is None else whole_number("n", n, 1, most, "how many neighbours both have")
    rows_a, rows_b = _aligned(a.near, b.near)
    if not len(rows_a):
        raise InputError(
            f"near_a has the tokens {a.near['token'].values.tolist()!s:.80}, near_b "
            f"{b.near['token'].values.tolist()!s:.80}, and none is the same. Expected texts that share tokens, of "
            "models that share a tokenizer."
        )
    in_a, in_b = a.near.isel(position=rows_a), b.near.isel(position=rows_b)
    dims = in_a["own_rank"].dims
    common = _common(*_comparable_ids(in_a, in_b, n))
    result = a.bare().isel(position=rows_a).assign_coords(other_position=("position", in_b["position"].values))
    if "source" in b.near.coords and not ("source" in result.coords and b.near["source"].equals(result["source"])):
        result = result.assign_coords(other_source=("other_source_id", b.near["source"].values))
    result["own_rank_difference"] = dims, in_b["own_rank"].values - in_a["own_rank"].values
    if attribute(near_a, "metric", "near_a") == attribute(near_b, "metric", "near_b"):
        result["own_distance_difference"] = dims, in_b["own_distance"].values - in_a["own_distance"].values
    result["overlap"] = dims, common[..., -1] / n
    result["rbo"] = dims, _rank_biased_overlap(common, persistence)
    if encodings_a is not None and encodings_b is not None:
        aligned_a, aligned_b = replace(a, near=in_a), replace(b, near=in_b)
        result = _with_attention(result, (aligned_a, encodings_a), (aligned_b, encodings_b))
    result.attrs = _attrs(near_a.attrs, near_b.attrs) | {
        "n": n,
        "persistence": persistence,
        "aligned": len(rows_a),
        "left_out_a": a.near.sizes["position"] - len(rows_a),
        "left_out_b": b.near.sizes["position"] - len(rows_b),
    }
    dropped = [dim for dim in a.dropped if dim in b.dropped]
    return describe(result, a.described(COMPARISON)).isel(dict.fromkeys(dropped, 0))


def _check_heads(a: Given, b: Given) -> None:
    if a.head != b.head:
        raise InputError(
            f"near_a has the dimensions {tuple(a.near['own_rank'].dims)} and near_b {tuple(b.near['own_rank'].dims)}; "
            "expected the same. Ask both for the same vectors (of=…)."
        )
    advice = (
        "Select those to compare, and give them the same labels: "
        "near_b.sel({dim}=[…]).assign_coords({dim}=near_a.{dim})."
    )
    same_labels(a.near, b.near, a.dims[:-1], ("near_a", "near_b"), advice)


def _aligned(a: xr.Dataset, b: xr.Dataset) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Index along ``position`` of the tokens that have a counterpart, in both."""
    places_a, places_b = _by_text(a), _by_text(b)
    if places_a.keys() != places_b.keys():
        raise InputError(
            f"near_a has the texts {sorted(places_a)}, near_b {sorted(places_b)}; expected the same text_ids, as each "
            "text is aligned with that of the same number."
        )
    rows_a, rows_b = [np.array([], np.intp)], [np.array([], np.intp)]
    for text, here_a in places_a.items():
        here_b = places_b[text]
        tokens_a, tokens_b = a["token"].values[here_a].tolist(), b["token"].values[here_b].tolist()
        for block in SequenceMatcher(None, tokens_a, tokens_b, autojunk=False).get_matching_blocks():
            rows_a.append(here_a[block.a : block.a + block.size])
            rows_b.append(here_b[block.b : block.b + block.size])
    return np.concatenate(rows_a), np.concatenate(rows_b)


def _by_text(near: xr.Dataset) -> dict[int, NDArray[np.intp]]:
    texts, _ = places(near)
    return {int(text): np.flatnonzero(texts == text) for text in np.unique(texts)}


def _comparable_ids(a: xr.Dataset, b: xr.Dataset, n: int) -> tuple[NDArray, NDArray]:
    """Numbers (…, n) that are the same in both where the nearest tokens are."""
    if a.attrs.get("fingerprint") == b.attrs.get("fingerprint"):
        return a["neighbor_id"].values[..., :n], b["neighbor_id"].values[..., :n]
    both = np.stack([a["neighbor"].values[..., :n], b["neighbor"].values[..., :n]])
    numbers = np.unique(both, return_inverse=True)[1].reshape(both.shape)
    return numbers[0], numbers[1]


def _common(a: NDArray, b: NDArray) -> NDArray[np.int64]:
    """How many ids the first 1, 2, … n of two lists (…, n) share, each without repetition."""
    grows = np.empty(a.shape, np.int64)
    for last in range(a.shape[-1]):
        b_is_new = (a[..., : last + 1] == b[..., [last]]).any(axis=-1)
        a_is_new = (a[..., [last]] == b[..., :last]).any(axis=-1)
        grows[..., last] = b_is_new.astype(np.int64) + a_is_new
    return grows.cumsum(axis=-1)


def _rank_biased_overlap(common: NDArray[np.int64], p: float) -> NDArray[np.float64]:
    """Extrapolated rank-biased overlap, from the counts of common items (…, n) at each depth."""
    depth = np.arange(1, common.shape[-1] + 1)
    agreement = common / depth
    return (1 - p) / p * (agreement * p**depth).sum(axis=-1) + agreement[..., -1] * p ** depth[-1]


def _with_attention(result: xr.Dataset, a: tuple[Given, xr.Dataset], b: tuple[Given, xr.Dataset]) -> xr.Dataset:
    """Add the differences in attention of the aligned positions."""
    attention_a, attention_b = (
        attention(given, encodings, f"encodings_{side}").astype(np.float64)
        for side, (given, encodings) in (("a", a), ("b", b))
    )
    tokens_a, tokens_b = key_tokens(a[1], "encodings_a"), key_tokens(b[1], "encodings_b")
    keys_a, keys_b = _aligned(tokens_a, tokens_b)
    aligned_a, aligned_b = attention_a[..., keys_a], attention_b[..., keys_b]
    sums_a, sums_b = attention_a.sum(axis=-1), attention_b.sum(axis=-1)
    alone = sums_a - aligned_a.sum(axis=-1) + sums_b - aligned_b.sum(axis=-1)
    moved = np.abs(aligned_a - aligned_b).sum(axis=-1) + alone + np.abs(sums_a - sums_b)
    dims = ("layer", "head", "position")
    return result.assign(
        attention_difference=((*dims, "key_position"), (aligned_b - aligned_a).astype(np.float32)),
        attention_distance=(dims, moved / 2),
    ).assign_coords(
        key_position=keys_a,
        key_token=("key_position", tokens_a["token"].values[keys_a]),
        other_key_position=("key_position", keys_b),
    )


def _attrs(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Attrs that are the same, and both values of those that are not."""
    same = {key: a[key] for key in a if key in b and _are_equal(a[key], b[key])}
    of_a = {f"{key}_a": value for key, value in a.items() if key not in same}
    of_b = {f"{key}_b": value for key, value in b.items() if key not in same}
    return same | of_a | of_b


def _are_equal(one: Any, other: Any) -> bool:
    arrays = isinstance(one, np.ndarray) or isinstance(other, np.ndarray)
    # NumPy 2.0 cannot compare a word with a number as arrays, such as the layers "same" and 1.
    return np.array_equal(one, other) if arrays else bool(one == other)
