"""Computations on arrays that several analyses make; the arrays of a corpus are those of dask."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnxr.options import Metric


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors (…, d) brought to length 1; those of length 0 stay."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)


def distances(vectors: NDArray[np.float64], others: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Distances of vectors (…, n, d) to others (…, m, d): (…, n, m); centred is what the others' mean is taken from."""
    if metric == "euclidean":
        # One of the others at a time, by differences: |a|² + |b|² − 2ab would cancel for near ones.
        columns = [np.linalg.norm(vectors - others[..., [i], :], axis=-1) for i in range(others.shape[-2])]
        return np.stack(columns, axis=-1)
    if metric == "dot":
        return -(vectors @ np.swapaxes(others, -1, -2))
    mean = others.mean(axis=-2, keepdims=True) if metric == "centered_cosine" else 0.0
    a = unit(vectors - mean)
    b = a if others is vectors else unit(others - mean)  # one array, whose products with itself are symmetric
    return np.maximum(0, 1 - a @ np.swapaxes(b, -1, -2))


def share(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.float64]:
    """Share of the ids (…, n) of `a` that are among those of `b`; leading dimensions are broadcast."""
    n = b.shape[-1]
    return sum(((a == b[..., [rank]]).any(axis=-1) for rank in range(n)), np.zeros(())) / n


def is_lazy(array: Any) -> bool:
    """Whether it is an array of dask, which has nothing computed yet."""
    return hasattr(array, "dask")


def by_blocks(function: Callable[..., Any], *arrays: Any) -> Any:
    """Apply a function of arrays (…, n) that gives float64 (…): at once, or lazily to the blocks of dask's arrays.

    Leading dimensions of size 1 are broadcast. Of what is lazy, blocks are along ``…`` as they were, and whole along n.
    """
    if not any(map(is_lazy, arrays)):
        return function(*arrays)
    import dask.array

    core = ",".join(["(n)"] * len(arrays))
    return dask.array.apply_gufunc(function, f"{core}->()", *arrays, output_dtypes=np.float64, allow_rechunk=True)


def counter(most: int) -> type[np.int32] | type[np.int64]:
    """What counts so far."""
    return np.int32 if most <= np.iinfo(np.int32).max else np.int64


def counts(ids: Any, size: int) -> NDArray[np.int32 | np.int64]:
    """How often each of `size` ids is in an array (…, m, n), over the last two dimensions: (…, size).

    An array of dask is read in its blocks along m, one after the other.
    """
    *shape, m, n = ids.shape
    found = np.zeros((int(np.prod(shape)), size), counter(m * n))
    steps = ids.chunks[-2] if is_lazy(ids) else (m,)
    for stop, step in zip(np.cumsum(steps), steps, strict=True):
        part = np.asarray(ids[..., stop - step : stop, :])
        for of_row, row in zip(found, part.reshape(len(found), -1), strict=True):
            of_row += np.bincount(row, minlength=size).astype(found.dtype)
    return found.reshape(*shape, size)
