"""Overlap: how many of the nearest tokens do two layers, or two heads, have in common?"""

from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.given import attribute, count, neighbors
from attnxr.errors import InputError, choice
from attnxr.schema import CONSECUTIVE_OVERLAP, HEAD_OVERLAP, LAYER_OVERLAP, describe

Between = Literal["consecutive", "layers", "heads"]


def overlap(near: xr.Dataset, between: Between = "consecutive", n: int | None = None) -> xr.Dataset:
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

    Returns
    -------
    xr.Dataset
        ``overlap`` float64, 0 … 1, with dims (layer, head, position), from the second layer on and with the coord
        ``previous_layer`` (layer); or (layer, other_layer, head, position); or (layer, head, other_head, position).
        attrs ``n`` and ``chance``, n / V: the mean overlap of n entries drawn at random with any n.

    Raises
    ------
    InputError
        If the Dataset is not what is expected, an option is out of range, or there are not two layers or no heads.
    """
    choice("between", between, get_args(Between))
    given = neighbors(near, "neighbor_id")
    k = given.near.sizes["rank"]
    n = k if n is None else count("n", n, k, "how many neighbours the Dataset has")
    ids = given.near["neighbor_id"].values[..., :n]
    result = given.bare()
    result.attrs |= {"between": between, "n": n, "chance": n / int(attribute(near, "vocab_size"))}
    dims = tuple(dim for dim in ("layer", given.head, "position") if dim)
    if between == "heads":
        if not given.head:
            raise InputError("between='heads' was asked of neighbours without heads. Expected those of head vectors.")
        shares = [_share(ids, ids[:, [head]]) for head in range(ids.shape[1])]
        other = f"other_{given.head}"
        result = result.assign_coords({other: given.near[given.head].values})
        result["overlap"] = ("layer", given.head, other, "position"), np.stack(shares, axis=2)
        specs = HEAD_OVERLAP
    elif between == "layers":
        shares = [_share(ids, ids[[layer]]) for layer in range(len(ids))]
        result = result.assign_coords(other_layer=given.near["layer"].values)
        result["overlap"] = ("layer", "other_layer", *dims[1:]), np.stack(shares, axis=1)
        specs = LAYER_OVERLAP
    else:
        if len(ids) < 2:
            raise InputError(
                f"between='consecutive' was asked of the layer {given.near['layer'].values.tolist()}; expected two "
                "layers or more. Select less narrowly."
            )
        previous = given.near["layer"].values[:-1]
        result = result.isel(layer=slice(1, None)).assign_coords(previous_layer=("layer", previous))
        result["overlap"] = dims, _share(ids[1:], ids[:-1])
        specs = CONSECUTIVE_OVERLAP
    dropped = [dim for dim in given.dropped if dim != "layer" or between == "heads"]
    return describe(result, given.described(specs)).isel(dict.fromkeys(dropped, 0))


def _share(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.float64]:
    """Share of the ids (…, n) of `a` that are among those of `b`; leading dimensions are broadcast."""
    n = b.shape[-1]
    return sum(((a == b[..., [rank]]).any(axis=-1) for rank in range(n)), np.zeros(())) / n
