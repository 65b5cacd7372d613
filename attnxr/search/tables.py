"""Tables as large as the vocabulary, kept while there is room for them."""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

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
        # Never held while a table is made: whatever makes one may ask for others and take locks of its own, and so may
        # those who ask.
        self._lock = threading.Lock()
        self._being_made: dict[Hashable, Future[Any]] = {}  # with None as the result where that failed

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return int(self._kept.currsize)

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """Get a table, made by the first who asks for it while the others who ask for it wait."""
        return self.get_all([key], lambda missing: [make()])[0]

    def get_all(self, keys: Sequence[Hashable], make: Callable[[list[int]], Iterable[_T]]) -> list[_T]:
        """Get several tables; those that are missing, by their places among the keys, are made in one call.

        What another thread is making is waited for. Where that fails, it is made here.
        """
        found: dict[Hashable, _T] = {}
        while missing := {key: i for i, key in enumerate(keys) if key not in found}:
            mine: dict[Hashable, int] = {}
            others: dict[Hashable, Future[_T | None]] = {}
            with self._lock:
                for key, i in missing.items():
                    if (table := self._kept.get(key)) is not None:
                        found[key] = table  # type: ignore[assignment]
                    elif key in self._being_made:
                        others[key] = self._being_made[key]
                    else:
                        mine[key], self._being_made[key] = i, Future()
            if mine:  # before any wait, so that two who ask for the same ones do not wait for each other
                found |= self._make(mine, make)
            for key, future in others.items():
                if (made := future.result()) is not None:
                    found[key] = made
        return [found[key] for key in keys]

    def _make(self, places: dict[Hashable, int], make: Callable[[list[int]], Iterable[_T]]) -> dict[Hashable, _T]:
        made: dict[Hashable, _T] = {}
        try:
            made = dict(zip(places, make([*places.values()]), strict=True))
        finally:
            with self._lock:
                waited_for = {key: self._being_made.pop(key) for key in places}
                for key, table in made.items():
                    if table.nbytes <= self._kept.maxsize:
                        self._kept[key] = table
            for key, future in waited_for.items():
                future.set_result(made.get(key))
        return made
