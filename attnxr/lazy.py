"""The lazily computed distance array: nothing is computed until a slice is asked for.

This is the only file that touches xarray's internals: a `BackendArray` is what xarray's own file formats use to
read a slice when, and only when, it is wanted.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

Compute = Callable[[NDArray[np.intp], NDArray[np.intp], int, NDArray[np.intp]], NDArray[np.float32]]


class LazyDistances(BackendArray):
    """An array (layer, head, position, vocab) of float32 that computes what is sliced out of it.

    Parameters
    ----------
    shape : tuple of int
        (L, H, n, V)
    compute : callable
        ``compute(layers, heads, position, entries)`` returns float32 (layers, heads, entries): distances at one
        position, for some layers, heads and vocabulary entries.
    check : callable
        Called before a slice is computed; raises where none may be any more.
    """

    def __init__(self, shape: tuple[int, int, int, int], compute: Compute, check: Callable[[], None]):
        self.shape = shape
        self.dtype = np.dtype(np.float32)
        self._compute = compute
        self._check = check

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[np.float32]:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._slice)

    def _slice(self, key: tuple) -> NDArray[np.float32]:
        layers, heads, positions, entries = (
            np.atleast_1d(np.arange(size)[part]) for size, part in zip(self.shape, key, strict=True)
        )
        self._check()
        out = np.empty((len(layers), len(heads), len(positions), len(entries)), np.float32)
        for p, position in enumerate(positions):
            out[:, :, p] = self._compute(layers, heads, int(position), entries)
        # Dimensions that were indexed by one number are dropped, as NumPy does.
        return out[tuple(0 if isinstance(part, int | np.integer) else slice(None) for part in key)]


def lazy_variable(
    dims: tuple[str, ...], shape: tuple[int, int, int, int], compute: Compute, check: Callable[[], None]
) -> xr.Variable:
    """Build a lazily computed variable of distances; see `LazyDistances`."""
    return xr.Variable(dims, indexing.LazilyIndexedArray(LazyDistances(shape, compute, check)))
