"""The floor: only the float32 products of all queries with all vocabulary entries, tile by tile.

Nothing is done with a product: each tile of them overwrites the last. Which tiles are fastest depends on the machine,
so several are tried, either matrix standing first, and the best counts.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.parts.shapes import Shape


@dataclass(frozen=True)
class Tiling:
    """How many entries and queries of a head meet at once, and which of the two matrices is the first factor."""

    entries: int
    queries: int
    entries_first: bool

    def __str__(self) -> str:
        first = "entries × queries" if self.entries_first else "queries × entries"
        return f"tiles of {self.entries} entries and {self.queries} queries, {first}"


class Products:
    """Random queries and vocabulary entries of a shape, and their products.

    Parameters
    ----------
    shape : Shape
    """

    def __init__(self, shape: Shape):
        generator = torch.Generator().manual_seed(0)
        self._heads = shape.heads
        self._shared = shape.heads // (shape.kv_heads or shape.heads)  # query heads that look into one vocabulary
        self._rows = torch.randn(
            shape.heads // self._shared, shape.vocabulary, shape.head_size, generator=generator
        )  # (H, V, d)
        self._queries = torch.randn(shape.heads, shape.layers * shape.tokens, shape.head_size, generator=generator)

    def tilings(self) -> list[Tiling]:
        """The tilings that are tried; few queries are not divided."""
        n = self._queries.shape[1]
        blocks = [n] if n <= 512 else [512, 2048]
        return [
            Tiling(entries, queries, first)
            for entries in (512, 1024, 2048, 4096)
            for queries in blocks
            for first in (True, False)
        ]

    def run(self, tiling: Tiling) -> None:
        """All products."""
        for _ in self._tiles(tiling):
            pass

    def by_tiling(self) -> dict[str, Callable[[], object]]:
        """What computes all products, by the tiling's name."""
        return {str(tiling): partial(self.run, tiling) for tiling in self.tilings()}

    def best_tiling(self, limit: float) -> Tiling:
        """The fastest, judged by at most `limit` seconds of each."""
        return min(self.tilings(), key=lambda tiling: min(self.estimate(tiling, limit / 3)[0] for _ in range(3)))

    def estimate(self, tiling: Tiling, limit: float) -> tuple[float, float]:
        """Seconds that all products take, and the share of them that was computed.

        After `limit` seconds the rest is extrapolated.
        """
        next(self._tiles(tiling))  # not counted
        done = 0
        start = time.perf_counter()
        for products in self._tiles(tiling):
            done += products
            took = time.perf_counter() - start
            if took > limit:
                break
        share = done / (self._rows.shape[1] * self._queries.shape[0] * self._queries.shape[1])
        return took / share, share

    def _tiles(self, tiling: Tiling) -> Iterator[int]:
        """Compute a tile, yield the number of its products, and go on."""
        held = torch.empty(tiling.entries * tiling.queries)
        for start in range(0, self._rows.shape[1], tiling.entries):
            for h in range(self._heads):
                rows = self._rows[h // self._shared, start : start + tiling.entries]
                for queries in self._queries[h].split(tiling.queries):
                    count = len(rows) * len(queries)
                    if tiling.entries_first:
                        torch.mm(rows, queries.T, out=held[:count].view(len(rows), -1))
                    else:
                        torch.mm(queries, rows.T, out=held[:count].view(len(queries), -1))
                    yield count
