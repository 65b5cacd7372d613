"""The lazily computed distance array: nothing is computed until a slice is asked for.

This is the only file that touches xarray's internals: a `BackendArray` is what xarray's own file formats use to
read a slice when, and only when, it is wanted.
"""

import shutil
import threading
import weakref
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from attnxr import schema
from attnxr.query.question import Question
from attnxr.search.slices import Slices


class LazyDistances(BackendArray):
    """An array (layer, head, position, vocab) of float32 that computes what is sliced out of it.

    Pickled, it is the name of a temporary folder, into which it writes what slices are computed from the first time;
    other processes of the machine share that through the file system, and it goes when the array does.

    Parameters
    ----------
    shape : tuple of int
        (L, H, n, V)
    slices : attnxr.search.slices.Slices
        Computes them.
    check : callable
        Called before a slice is computed; raises where none may be any more.
    folder : str, optional
        Where all that is needed lies already.
    """

    def __init__(self, shape: tuple[int, ...], slices: Slices, check: Callable[[], None], folder: str | None = None):
        self.shape = shape
        self.dtype = np.dtype(np.float32)
        self._slices = slices
        self._check = check
        self._folder = folder
        self._lock = threading.Lock()

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[np.float32]:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._slice)

    def _slice(self, key: tuple) -> NDArray[np.float32]:
        layers, heads, positions, entries = (
            np.atleast_1d(np.arange(size)[part]) for size, part in zip(self.shape, key, strict=True)
        )
        self._check()
        out = np.empty((len(layers), len(heads), len(positions), len(entries)), np.float32)
        for p, position in enumerate(positions):
            out[:, :, p] = self._slices.distances(layers, heads, int(position), entries)
        # Dimensions that were indexed by one number are dropped, as NumPy does.
        return out[tuple(0 if isinstance(part, int | np.integer) else slice(None) for part in key)]

    def __deepcopy__(self, memo: dict) -> "LazyDistances":
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Any, ...]:
        with self._lock:
            if self._folder is None:
                self._check()
                folder = mkdtemp(prefix="attnxr-distances-")
                weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
                self._slices.save(Path(folder))
                self._folder = folder
        return _opened, (self._folder, self.shape)


@lru_cache(maxsize=4)
def _opened(folder: str, shape: tuple[int, ...]) -> LazyDistances:
    """The array that was pickled as a folder: one for each process, so that its tasks open it once."""
    return LazyDistances(shape, Slices.open(Path(folder)), lambda: None, folder)


def answer(question: Question) -> xr.Dataset:
    """Distances to all entries of the vocabulary; see `Model.distances`."""
    vocabulary = question.names
    array = LazyDistances((*question.shape, vocabulary.size), question.slices, question.check)
    lazy = xr.Variable(("layer", "head", "position", "vocab"), indexing.LazilyIndexedArray(array))
    coords = {
        "vocab": np.arange(vocabulary.size),
        "vocab_token": ("vocab", vocabulary.token),
        "vocab_text": ("vocab", vocabulary.text),
    }
    attrs = {"metric": question.options.metric}
    result = question.frame.dataset({"distance": lazy}, schema.DISTANCES, coords=coords, attrs=attrs)
    return result.set_xindex("vocab_token")
