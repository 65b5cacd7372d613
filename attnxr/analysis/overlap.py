"""Overlap: how many of the nearest tokens do two layers, or two heads, have in common?"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.arrays import by_blocks, counts, is_lazy, share
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.given import Given, attribute, neighbors
from attnxr.checking import choice, same_labels, whole_number
from attnxr.errors import InputError
from attnxr.schema import CONSECUTIVE_OVERLAP, HEAD_OVERLAP, LAYER_OVERLAP, Spec, describe
from attnxr.texts import each

Between = Literal["consecutive", "layers", "heads"]


@on_corpora
def overlap(
    near: xr.Dataset, *, between: Between = "consecutive", n: int | None = None, baseline: xr.Dataset | None = None
) -> xr.Dataset:
    """Share of the n nearest tokens that two layers, or two heads, have in common at a position.

    ``|A ∩ B| / n``, for the sets A and B of the n nearest tokens of both. All sets have n tokens, so that the mean over
    positions (or heads, or layers) is the share of common tokens among all those compared; their Jaccard index is
    s / (2 − s). Of several texts, ``result.groupby("text_id").mean()`` comes first where each should count the same.

    Parameters
    ----------
    near : xr.Dataset or xr.DataTree
        What `Model.neighbors` returns, of one text or of many, or a selection from it; or a corpus, of which overlaps
        are computed when they are asked for, chunk by chunk.
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

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> attnxr.overlap(near, between="layers", n=5).overlap.dims
    ('layer', 'other_layer', 'head', 'position')
    """
    choice("between", between, get_args(Between))
    given = neighbors(near, "neighbor_id")
    k = given.near.sizes["rank"]
    n = k if n is None else whole_number("n", n, 1, k, "how many neighbours the Dataset has")
    ids = given.near["neighbor_id"].data[..., :n]
    others = None if baseline is None else _others(given, baseline, n)
    pairs: list[tuple[Any, Any]]
    result = given.bare()
    result.attrs |= {"between": between, "n": n, "chance": n / int(attribute(near, "vocab_size"))}
    dims = given.dims
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
    shares = [by_blocks(share, ids[here], ids[there]) for here, there in pairs]
    result["overlap"] = dims, np.stack(shares, axis=stacked) if stacked else shares[0]
    if others is not None:
        shares = [_unrelated(ids[here], others[0][there], others[1]) for here, there in pairs]
        result["baseline"] = dims, np.stack(shares, axis=stacked) if stacked else shares[0]
        meaning = "share of them that other texts have in the layer or head it is compared with"
        specs = specs | {"baseline": Spec(specs["overlap"].dims, "float64", "overlap by chance", meaning)}
    dropped = [dim for dim in given.dropped if dim != "layer" or between == "heads"]
    return describe(result, given.described(specs)).isel(dict.fromkeys(dropped, 0))


def _others(given: Given, baseline: xr.Dataset, n: int) -> tuple[NDArray, int]:
    """How often each entry is among the n nearest of other texts, once it is known that they can be compared.

    Returns
    -------
    int array (layer, head, V)
    int
        How many positions they have.
    """
    other = neighbors(baseline, "neighbor_id", name="baseline")
    for key in ("fingerprint", "metric", "of", "space", "vocab_layer", "positional"):
        here, there = attribute(given.near, key), attribute(other.near, key, "baseline")
        if here != there:
            raise InputError(
                f"near and baseline differ in attrs[{key!r}]: {here!s:.80} and {there!s:.80}. Expected neighbours of "
                "other texts that were asked for in the same way, of the same model."
            )
    advice = "Ask for neighbours of the same layers and heads of the other texts."
    same_labels(given.near, other.near, given.dims[:-1], ("near", "baseline"), advice)
    theirs = {digest for digest, _ in _texts(other.near, "baseline")}
    same = next((ids for digest, ids in _texts(given.near, "near") if digest in theirs), None)
    if same is not None:
        raise InputError(
            f"near and baseline have a text in common, of the token ids {same.tolist()!s:.80}. Expected other texts: "
            "what a text shares with itself is no chance."
        )
    if other.near.sizes["rank"] < n:
        raise InputError(
            f"baseline has {other.near.sizes['rank']} neighbours, and n={n} are compared. Expected as many or more."
        )
    size = int(attribute(given.near, "vocab_size"))
    return counts(other.near["neighbor_id"].data[..., :n], size), other.near.sizes["position"]


def _texts(near: xr.Dataset, name: str) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
    """The texts, one after the other, and a hash by which to know them again."""
    for ids in each(near, name):
        yield blake2b(ids.tobytes(), digest_size=16).digest(), ids


def _unrelated(a: Any, occurrence: NDArray, positions: int) -> Any:
    """Mean share of the ids (…, position, n) among those of so many other lists, of how often each is there (…, V)."""
    if is_lazy(a):
        a = a.rechunk(dict.fromkeys(range(a.ndim - 2), -1))  # so that a block has all layers and heads

    def of_block(a: NDArray[np.int32]) -> NDArray[np.float64]:
        there = np.broadcast_to(occurrence, (*a.shape[:-2], occurrence.shape[-1]))
        found = np.empty(a.shape[:-1])
        for at in np.ndindex(a.shape[:-2]):  # an id is in a list once at most
            found[at] = there[at][a[at]].sum(axis=-1) / (positions * a.shape[-1])
        return found

    return by_blocks(of_block, a)
