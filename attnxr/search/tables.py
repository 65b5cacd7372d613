"""Tables as large as the vocabulary, kept while there is room for them."""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol, TypeVar

from cachetools import LRUCache


class Sized(Protocol):
    """What takes a number of bytes, such as an array."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""


_T = TypeVar("_T", bound=Sized)


class Tables:
    """Arrays that are made on demand and kept within a budget: the one not used for longest goes first.

    Parameters
    ----------
    budget : int
        Bytes that they may take together. A larger one is made each time it is asked for.
    """

    def __init__(self, budget: int):
        self._kept: LRUCache[Hashable, Sized] = LRUCache(budget, getsizeof=lambda table: table.nbytes)
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return int(self._kept.currsize)

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Get a table, made by the first who asks for it while the others wait."""
        return self.get_all([key], lambda missing: [make()])[0]

    def get_all(self, keys: Sequence[Hashable], make: Callable[[list[int]], Iterable[_T]]) -> list[_T]:
        """Get several tables; those that are missing, by their places among the keys, are made in one call."""
        with self._lock:
            found = {key: self._kept.get(key) for key in keys}
            places = {key: i for i, key in enumerate(keys) if found[key] is None}
            if places:
                for key, table in zip(places, make(list(places.values())), strict=True):
                    found[key] = table
                    if table.nbytes <= self._kept.maxsize:
                        self._kept[key] = table
            return [found[key] for key in keys]  # type: ignore[misc]
