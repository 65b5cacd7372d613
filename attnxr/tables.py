"""Tables as large as the vocabulary, kept while there is room for them."""

import threading
from collections.abc import Callable, Hashable

from cachetools import LRUCache
from numpy.typing import NDArray


class Tables:
    """Arrays that are made on demand and kept within a budget: the one not used for longest goes first.

    Parameters
    ----------
    budget : int
        Bytes that they may take together. A larger one is made each time it is asked for.
    """

    def __init__(self, budget: int):
        self._kept: LRUCache[Hashable, NDArray] = LRUCache(budget, getsizeof=lambda table: table.nbytes)
        self._lock = threading.RLock()

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return int(self._kept.currsize)

    def get(self, key: Hashable, make: Callable[[], NDArray]) -> NDArray:
        """Get a table, made by the first who asks for it while the others wait."""
        with self._lock:
            table = self._kept.get(key)
            if table is None:
                table = make()
                if table.nbytes <= self._kept.maxsize:
                    self._kept[key] = table
            return table
