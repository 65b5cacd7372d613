"""Overlap: how many of the nearest tokens do two layers, or two heads, have in common?"""

import json
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.given import Given, attribute, count, neighbors
from attnxr.errors import InputError, choice
from attnxr.schema import CONSECUTIVE_OVERLAP, HEAD_OVERLAP, LAYER_OVERLAP, Spec, describe

Between = Literal["consecutive", "layers", "heads"]


def overlap(
    near: xr.Dataset, between: Between = "consecutive", n: int | None = None, *, baseline: xr.Dataset | None = None
) -> xr.Dataset:
    """Share of the n nearest tokens that two layers, or two heads, have in common at a position.

    |A ∩ B| / n, for the sets A and B of the n nearest tokens of both. All sets have n tokens, so that the mean over
    positions (or heads, or layers) is the share of common tokens among all those compared; their Jaccard index is
    s / (2 − s). Of several texts, ``result.groupby("text_id").mean()`` comes first where each should count the same.

    Parameters
    ----------
    near : xr.Dataset
        What `Model.neighbors` returns, of one text or of many, or a selection from it.
    between : {"consecutive", "layers", "heads"}
        Each layer and the one before it, of those that are there; every two layers; or every two heads of a layer.
    n : int, optional
        How many of the nearest, 1 … k; by default all k.
    baseline : xr.Dataset, optional
        Neighbours of other texts, of the same model and asked for in the same way, at the same layers and heads. Some
        entries are near to everything, so that lists which have nothing to do with each other share more than random
        entries would: what is common to a list here and one of another text is the chance to hold an overlap against.

    Returns
    -------
    xr.Dataset
        ``overlap`` float64, 0 … 1, with dims (layer, head, position), from the second layer on and with the coord
        ``previous_layer`` (layer); or (layer, other_layer, head, position); or (layer, head, other_head, position).
        attrs ``n`` and ``chance``, n / V: the mean overlap of n entries drawn at random with any n, which knows nothing
        of hubs. With `baseline` also ``baseline`` (the same dims) float64: the mean overlap of the list at that layer,
        head and position with those of all positions of the other texts, at the layer or head it is compared with.

    Raises
    ------
    InputError
        If a Dataset is not what is expected, an option is out of range, there are not two layers or no heads, or the
        baseline is of another model, asked for in another way, or of the same text.
    """
    choice("between", between, get_args(Between))
    given = neighbors(near, "neighbor_id")
    k = given.near.sizes["rank"]
    n = k if n is None else count("n", n, k, "how many neighbours the Dataset has")
    ids = given.near["neighbor_id"].values[..., :n]
    others = None if baseline is None else _others(given, baseline, n)
    pairs: list[tuple[Any, Any]]
    result = given.bare()
    result.attrs |= {"between": between, "n": n, "chance": n / int(attribute(near, "vocab_size"))}
    dims = tuple(dim for dim in ("layer", given.head, "position") if dim)
    if between == "heads":
        if not given.head:
            raise InputError("between='heads' was asked of neighbours without heads. Expected those of head vectors.")
        pairs = [(slice(None), (slice(None), [head])) for head in range(ids.shape[1])]
        other = f"other_{given.head}"
        result = result.assign_coords({other: given.near[given.head].values})
        dims, stacked = ("layer", given.head, other, "position"), 2
        specs = HEAD_OVERLAP
    elif between == "layers":
        pairs = [(slice(None), [layer]) for layer in range(len(ids))]
        result = result.assign_coords(other_layer=given.near["layer"].values)
        dims, stacked = ("layer", "other_layer", *dims[1:]), 1
        specs = LAYER_OVERLAP
    else:
        if len(ids) < 2:
            raise InputError(
                f"between='consecutive' was asked of the layer {given.near['layer'].values.tolist()}; expected two "
                "layers or more. Select less narrowly."
            )
        previous = given.near["layer"].values[:-1]
        result = result.isel(layer=slice(1, None)).assign_coords(previous_layer=("layer", previous))
        pairs, stacked = [(slice(1, None), slice(-1))], 0
        specs = CONSECUTIVE_OVERLAP
    shares = [_share(ids[here], ids[there]) for here, there in pairs]
    result["overlap"] = dims, np.stack(shares, axis=stacked) if stacked else shares[0]
    if others is not None:
        size = int(attribute(near, "vocab_size"))
        shares = [_unrelated(ids[here], others[there], size) for here, there in pairs]
        result["baseline"] = dims, np.stack(shares, axis=stacked) if stacked else shares[0]
        meaning = "share of them that other texts have in the layer or head it is compared with"
        specs = specs | {"baseline": Spec(specs["overlap"].dims, "float64", meaning)}
    dropped = [dim for dim in given.dropped if dim != "layer" or between == "heads"]
    return describe(result, given.described(specs)).isel(dict.fromkeys(dropped, 0))


def _share(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.float64]:
    """Share of the ids (…, n) of `a` that are among those of `b`; leading dimensions are broadcast."""
    n = b.shape[-1]
    return sum(((a == b[..., [rank]]).any(axis=-1) for rank in range(n)), np.zeros(())) / n


def _others(given: Given, baseline: xr.Dataset, n: int) -> NDArray[np.int32]:
    """The n nearest of other texts, (layer, head, position, n), once it is known that they can be compared."""
    other = neighbors(baseline, "neighbor_id", name="baseline")
    for key in ("fingerprint", "metric", "of", "space", "vocab_layer", "positional"):
        here, there = attribute(given.near, key), attribute(other.near, key, "baseline")
        if here != there:
            raise InputError(
                f"near and baseline differ in attrs[{key!r}]: {here!s:.80} and {there!s:.80}. Expected neighbours of "
                "other texts that were asked for in the same way, of the same model."
            )
    for dim in ("layer", given.head):
        if dim and not np.array_equal(given.near[dim].values, other.near[dim].values):
            raise InputError(
                f"near and baseline differ in {dim}: {given.near[dim].values.tolist()!s:.80} and "
                f"{other.near[dim].values.tolist()!s:.80}. Expected the same."
            )
    same = _texts(given.near, "near") & _texts(other.near, "baseline")
    if same:
        raise InputError(
            f"near and baseline have a text in common, of the token ids {min(same):.80}. Expected other texts: what a "
            "text shares with itself is no chance."
        )
    if other.near.sizes["rank"] < n:
        raise InputError(
            f"baseline has {other.near.sizes['rank']} neighbours, and n={n} are compared. Expected as many or more."
        )
    return other.near["neighbor_id"].values[..., :n]


def _texts(near: xr.Dataset, name: str) -> set[str]:
    return set(map(str, json.loads(attribute(near, "token_ids", name))))


def _unrelated(a: NDArray[np.int32], b: NDArray[np.int32], size: int) -> NDArray[np.float64]:
    """Mean share of the ids (…, position, n) of `a` among those of all positions of `b`; dimensions are broadcast."""
    n = b.shape[-1]
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (np.broadcast_to(each, (*shape, *each.shape[-2:])) for each in (a, b))
    found = np.empty(a.shape[:-1])
    for at in np.ndindex(shape):
        frequency = np.bincount(b[at].ravel(), minlength=size) / b.shape[-2]  # an id is in a list once at most
        found[at] = frequency[a[at]].sum(axis=-1) / n
    return found
