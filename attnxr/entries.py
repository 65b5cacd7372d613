"""Encodings of chosen vocabulary entries, where a question's vectors are compared with them."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.blocks import Block
from attnxr.errors import InputError
from attnxr.question import Question


def ids_for(question: Question, ids: xr.DataArray | Sequence[int]) -> xr.DataArray:
    """Vocabulary ids for all of a question's layers, heads and positions, in the order of its dims, then others.

    Raises
    ------
    InputError
        If they are no whole numbers, or some are missing.
    """
    given = np.asarray(ids)
    if given.dtype.kind not in "iu" or not given.size or not (isinstance(ids, xr.DataArray) or given.ndim == 1):
        raise InputError(
            f"ids of shape {given.shape} and dtype {given.dtype} were given; expected vocabulary ids, whole numbers: a "
            "list of them, or a DataArray such as near.neighbor_id."
        )
    asked = ids if isinstance(ids, xr.DataArray) else xr.DataArray(given, dims="entry")
    for dim in question.dims:
        labels = np.asarray(question.coords[dim])
        if dim in asked.dims:
            there = asked[dim].values.tolist()
            missing = sorted(set(labels.tolist()) - set(there))
            if missing:
                raise InputError(
                    f"ids has {dim}s {there!s:.80}, and not {missing[0]}, which the encodings have. Expected ids for "
                    "all that the encodings have: select the same from both."
                )
            asked = asked.isel({dim: [there.index(label) for label in labels]})
        else:
            asked = asked.drop_vars(dim, errors="ignore").expand_dims({dim: labels})
    return asked.transpose(*question.dims, ...)


def encodings(question: Question, ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Encodings that a search compares its vectors with, each computed in float64 from the same parts.

    Parameters
    ----------
    question : Question
    ids : int array (L, H, n, m)
        Vocabulary ids for each of the question's layers, heads and positions.

    Returns
    -------
    float64 array (L, H, n, m, d)
    """
    out: NDArray[np.float64] | None = None
    for space in question.spaces():
        for rows, load in space.blocks:
            here = np.flatnonzero(np.isin(space.place, rows))
            place = np.searchsorted(rows, space.place[here])
            block = load()
            for head, block_head in enumerate(space.heads):
                wanted = np.ix_(space.chosen, np.array([head]), here)
                found = _of_block(block, int(block_head), place, ids[wanted][:, 0])
                if space.turns is not None:
                    found = found @ space.turns[here].transpose(0, 2, 1)
                if out is None:
                    out = np.empty((*ids.shape, found.shape[-1]))
                out[wanted] = found[:, None]
    assert out is not None  # a question has vectors
    return out


def _of_block(block: Block, head: int, place: NDArray[np.intp], ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Encodings of entries (layers, p, m) at some of a block's positions (p,): (layers, p, m, d)."""
    places = np.broadcast_to(place[:, None], ids.shape)
    some, at = np.unique(places, return_inverse=True)
    scale = block.scale(some)[at.reshape(places.shape), ids]
    rows = block.rows[head][ids].astype(np.float64)
    return (rows + block.shift[head, place][:, None]) * scale[..., None] + block.offset[head]
