"""Both ends of the vocabulary: the entries whose products with a vector are the largest, and the smallest.

Products in float32, a tile of the vocabulary at a time, of which a few more than asked for are kept at either end while
they are in the cache. These are computed again in float64. What was not kept is off by no more than the rounding of a
float32 product, ``(d + 2) 2⁻²⁴ |x| |w|`` whatever the order of its sum: a vector whose last kept entry is nearer to the
k-th than that goes through all of the vocabulary once more, in float64.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr.search.compiled import compiled
from attnxr.search.nearest import Progress

_UNIT = 2.0**-24  # unit roundoff of float32
_MORE = 8  # kept beyond what was asked for
_VECTORS, _ENTRIES = 512, 2048  # whose products are made at once

Ends = tuple[NDArray, NDArray, NDArray, NDArray]


def ends(rows: NDArray[np.float32], vectors: NDArray[np.float64], k: int, progress: Progress) -> Ends:
    """Find the k largest and the k smallest products of each vector with the rows.

    Parameters
    ----------
    rows : float32 array (V, d)
    vectors : float64 array (m, d)
    k : int
        1 … V.
    progress : callable
        Told the fraction done now and then; what it raises ends the search.

    Returns
    -------
    int32 and float64 array (m, k), twice
        Ids and products of the largest, descending, then of the smallest, ascending. Of equal ones the lower id first.
    """
    m = len(vectors)
    found = tuple(np.empty((m, k), dtype) for dtype in (np.int32, np.float64) * 2)
    longest = float(np.sqrt(np.einsum("vd,vd->v", rows, rows).max()))
    for start in range(0, m, _VECTORS):
        batch = vectors[start : start + _VECTORS]
        kept = min(k + _MORE, len(rows))
        reach = (rows.shape[1] + 2) * _UNIT * longest * np.linalg.norm(batch, axis=1)
        high, low = _kept(rows, batch.astype(np.float32), kept)
        sure = np.ones(len(batch), bool)
        for first, (ids, last), sign in ((0, high, 1), (2, low, -1)):
            here = found[first][start : start + _VECTORS], found[first + 1][start : start + _VECTORS]
            here[0][:], here[1][:] = _ordered(rows, batch, ids, k, sign)
            if kept < len(rows):
                sure &= sign * here[1][:, -1] > sign * last + reach
        again = np.flatnonzero(~sure)
        if len(again):
            for first, (ids, _), sign in zip((0, 2), _kept(rows, batch[again], k), (1, -1), strict=True):
                found[first][start + again], found[first + 1][start + again] = _ordered(
                    rows, batch[again], ids, k, sign
                )
        progress(min(1.0, (start + len(batch)) / m))
    return found  # type: ignore[return-value]


def _tiles(rows: NDArray[np.float32], vectors: NDArray[np.floating]) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Products (m, entries) in the precision of the vectors, some entries at a time, and the first of these."""
    given = torch.from_numpy(vectors)
    for start in range(0, len(rows), _ENTRIES):
        tile = torch.from_numpy(rows[start : start + _ENTRIES]).to(given.dtype)
        yield start, torch.mm(given, tile.T).numpy()


def _kept(rows: NDArray[np.float32], vectors: NDArray[np.floating], count: int) -> list[tuple[NDArray, NDArray]]:
    """For either end, ids (m, count) of the most extreme products, unordered, and the least extreme of these (m,)."""
    shape = len(vectors), count
    ids = np.full((2, *shape), -1, np.int32)
    values = np.full((2, *shape), -np.inf)
    for start, products in _tiles(rows, vectors):
        _keep(products, start, ids[0], values[0], ids[1], values[1])
    return [(ids[0], values[0].min(axis=1)), (ids[1], -values[1].min(axis=1))]


def _ordered(
    rows: NDArray[np.float32], vectors: NDArray[np.float64], ids: NDArray[np.int32], k: int, sign: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The first k of some entries (m, count), by their products in float64, then by id."""
    products = np.stack([rows[each].astype(np.float64) @ x for each, x in zip(ids, vectors, strict=True)])
    order = np.lexsort((ids, -sign * products), axis=-1)[:, :k]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(products, order, 1)


@compiled()
def _keep(products, start, high_ids, high, low_ids, low):
    """Let products (m, entries) take the places of less extreme ones; `low` holds them with the sign turned."""
    m, entries = products.shape
    for q in range(m):
        at_high, at_low = _least(high, high_ids, q), _least(low, low_ids, q)
        above, below = high[q, at_high], -low[q, at_low]
        for v in range(entries):
            x = products[q, v]
            if x > above:
                high[q, at_high], high_ids[q, at_high] = x, start + v
                at_high = _least(high, high_ids, q)
                above = high[q, at_high]
            if x < below:
                low[q, at_low], low_ids[q, at_low] = -x, start + v
                at_low = _least(low, low_ids, q)
                below = -low[q, at_low]


@compiled()
def _least(values, ids, q):
    """Which of the kept ones of q is to go first: the least, of equal ones that with the highest id."""
    at = 0
    for i in range(1, values.shape[1]):
        if values[q, i] < values[q, at] or (values[q, i] == values[q, at] and ids[q, i] > ids[q, at]):
            at = i
    return at
