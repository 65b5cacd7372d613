"""The few vocabulary entries that add up to a question's vectors, named."""

from collections.abc import Collection
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema
from attnxr.checking import whole_number
from attnxr.options import OfPursuit
from attnxr.query.question import Question
from attnxr.search.blocks import serving
from attnxr.search.nearest import Progress, within
from attnxr.search.pursuit import pursue

_BYTES = 1 << 27  # what the entries may take that are at hand at once


def answer(question: Question, n: int, include: Collection[OfPursuit], progress: Progress) -> xr.Dataset:
    """Up to n entries for each vector, their weights, and what they explain; see `Model.pursuit`.

    Parameters
    ----------
    question : Question
    n : int
    include : collection of str
    progress : callable

    Raises
    ------
    InputError
        If so many entries are more than the vectors have numbers.
    """
    vectors = question.vectors()
    n = whole_number("n", n, 1, vectors.shape[-1], "as so many add up to any vector of that length")
    ids = np.empty((*question.shape, n), np.int32)
    weights, explained = np.empty((2, *ids.shape))
    sums = np.empty((*ids.shape, vectors.shape[-1]), np.float32) if "approximation" in include else None
    spaces = list(question.spaces())
    for s, space in enumerate(spaces):
        # From positions to where the blocks are, where they are not there already.
        queries = vectors[space.chosen]
        if space.turns is not None:
            queries = np.einsum("lhnf,nfg->lhng", queries, space.turns)
        each = 8 * n * queries[:, :, 0].size
        parts = _parts(space.blocks, space.place, max(1, _BYTES // each))
        for i, (here, place, load) in enumerate(parts):
            share = 1 / len(spaces) / len(parts)
            told = within(progress, s / len(spaces) + i * share, share)
            found = pursue(load(), queries[:, :, here], space.heads, place, n, told)
            where = np.ix_(space.chosen, np.arange(len(space.heads)), here)
            ids[where], weights[where], explained[where] = found.ids, found.weights, found.explained
            if sums is not None:
                rest = found.rest
                if space.turns is not None:
                    rest = np.einsum("lhnsg,nfg->lhnsf", rest, space.turns[here])
                sums[where] = vectors[where][..., None, :] - rest
    variables: dict[str, NDArray[Any]] = {
        "entry_id": ids,
        "entry": np.where(ids < 0, "", question.names.token[ids]),
        "entry_text": np.where(ids < 0, "", question.names.text[ids]),
        "in_sequence": question.in_sequence(ids),
        "weight": weights,
        "explained": explained,
    }
    if sums is not None:
        variables["approximation"] = sums
    return question.frame.dataset(variables, schema.DECOMPOSITION, coords={"step": np.arange(1, n + 1)}, attrs={"n": n})


def _parts(blocks: Any, place: NDArray[np.intp], most: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp], Any]]:
    """What `serving` gives, with no more than so many positions at a time."""
    parts = []
    for here, at, load in serving(blocks, place):
        pieces = -(-len(here) // most)
        both = zip(np.array_split(here, pieces), np.array_split(at, pieces), strict=True)
        parts += [(some, some_at, load) for some, some_at in both]
    return parts
