"""The entries that a head has most of, and those that it has more of than other heads do."""

import numpy as np
from numpy.typing import NDArray

LENGTH = 20
"""Entries in a list of the atlas."""
SHRINKAGE = 5
"""What is added to a count and to the count expected, so that a lift of few is near 1."""


def most(ids: NDArray[np.int64], score: NDArray[np.float64], *columns: NDArray, length: int = LENGTH) -> list[NDArray]:
    """Ids of the largest scores, of equal ones the smaller id first, and other columns of theirs.

    Parameters
    ----------
    ids, score, *columns : array (m,)
        All scores are above 0.
    length : int
        Entries in the list; filled up with id −1, and NaN or 0 in the columns.

    Returns
    -------
    list of array (length,)
        Ids and columns.
    """
    first = np.lexsort((ids, -score))[:length]
    out = []
    for i, column in enumerate((ids, *columns)):
        filler = -1 if i == 0 else np.nan if column.dtype.kind == "f" else 0
        filled = np.full(length, filler, column.dtype)
        filled[: len(first)] = column[first]
        out.append(filled)
    return out


def lift(own: NDArray, own_total: float, all_heads: NDArray, all_total: float) -> NDArray[np.float64]:
    """How many times as much of each entry a head has as the other heads do: ``(own + 5) / (expected + 5)``.

    What is expected is the head's total times the entry's share among the other heads. The 5 holds what rests on a few
    counts near 1 (it is the mean of a gamma prior of ratios, of 5 expected counts). NaN where there is no other head.

    Parameters
    ----------
    own, all_heads : array (m,)
        Of each entry, what the head has and what all heads have, it included.
    own_total, all_total : float
        Of all entries.
    """
    others = all_total - own_total
    expected = own_total * (all_heads - own) / (others if others > 0 else np.nan)
    return (own + SHRINKAGE) / (expected + SHRINKAGE)
