"""Exact search: head vectors and vocabulary encodings in; neighbours, own ranks and distances out.

The vocabulary passes by in tiles, so memory grows with the number of queries and with one tile, not with their
product. Per tile and head there is one float32 matrix product, and one kernel that screens it; what the screen
leaves open is computed in float64 (see `attnxr.kernels`). The answer is the exact one whatever the tile size and
the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr import kernels
from attnxr.blocks import Block

Metric = Literal["cosine", "euclidean", "dot", "centered_cosine"]
METRICS: tuple[Metric, ...] = ("cosine", "euclidean", "dot", "centered_cosine")
Progress = Callable[[float], None]

_KIND = {
    "cosine": kernels.COSINE,
    "centered_cosine": kernels.COSINE,
    "euclidean": kernels.EUCLIDEAN,
    "dot": kernels.DOT,
}
_TILE = 2048  # at most so many vocabulary entries are screened at once, and fewer where there are many queries:
_TILE_BYTES = 1 << 25  # what the products of a tile may take
# Entries that may be too close to the own token to tell, before a query is searched directly: so many, and one more for
# each feature. The longer the vectors, the wider the error bound, and the nearer to each other all cosines.
_TIED = 32


@dataclass(frozen=True, eq=False)
class Nearest:
    """Answer of a search over L layers, H heads and n positions.

    Attributes
    ----------
    ids : int32 array (L, H, n, k)
    distance : float32 array (L, H, n, k), ascending
    own_rank : int32 array (L, H, n), 1 is nearest
    own_distance : float32 array (L, H, n)
    """

    ids: NDArray[np.int32]
    distance: NDArray[np.float32]
    own_rank: NDArray[np.int32]
    own_distance: NDArray[np.float32]

    def mapped(self, function: Callable[[NDArray], NDArray]) -> "Nearest":
        """The same answer with a function applied to each of its arrays."""
        return Nearest(*map(function, (self.ids, self.distance, self.own_rank, self.own_distance)))


def search(
    block: Block,
    queries: NDArray[np.floating],
    block_heads: NDArray[np.intp],
    place: NDArray[np.intp],
    own: NDArray[np.int64],
    k: int,
    metric: Metric,
    progress: Progress = lambda fraction: None,
) -> Nearest:
    """Find each query's k nearest vocabulary entries, and the rank of its own token among all of them.

    Parameters
    ----------
    block : Block
        Vocabulary encodings.
    queries : float32 or float64 array (L, H, n, d)
    block_heads : int array (H,)
        Which of the block's heads each head of the queries looks into.
    place : int array (n,)
        Which of the block's positions each query position is at.
    own : int64 array (n,)
        Vocabulary id of the own token of each position.
    k : int
        1 … V.
    metric : str
        One of `METRICS`.
    progress : callable
        Told the fraction done after each tile; what it raises ends the search.

    Returns
    -------
    Nearest
        Exact: the k smallest of all V distances computed in float64, in the order of (distance, id), and
        1 + the number of entries strictly nearer than the own token.
    """
    layers, heads, positions, features = queries.shape
    size = block.rows.shape[1]
    n_queries = layers * positions
    # One head's queries lie together, and in it one position's, which share the tables.
    z = queries.transpose(1, 2, 0, 3).reshape(heads, n_queries, features).astype(np.float64)
    query_place = np.repeat(place, layers)
    own_ids = np.repeat(own, layers)
    centre = block.mean if metric == "centered_cosine" else np.zeros_like(block.shift)
    own_scale = block.scale_at(place, own)
    states = [
        _HeadState(
            _KIND[metric],
            z[h],
            query_place,
            own_ids,
            np.repeat(own_scale, layers),
            k,
            _HeadBlock(block.rows[b], block.shift[b], block.offset[b], centre[b]),
        )
        for h, b in enumerate(block_heads)
    ]
    single = torch.stack([state.single for state in states])
    n_places = block.shift.shape[1]
    sides = torch.from_numpy(np.stack([np.concatenate([state.block.shift, state.offset]) for state in states]))
    held = heads * (n_queries * 4 + 2 * n_places * 8)  # bytes for each entry of a tile
    tile = kernels.RUN * min(max(1, _TILE_BYTES // (held * kernels.RUN)), _TILE // kernels.RUN)
    buffer = torch.empty(heads, n_queries, tile)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, size, tile):
            stop = min(start + tile, size)
            scale = block.scale(slice(start, stop))
            rows = block.rows[block_heads, start:stop]
            turned = torch.from_numpy(rows).transpose(1, 2)
            # All heads' products in one call, whose threads meet once; then a head is one thread's work.
            out = buffer if stop - start == tile else None
            products = torch.bmm(single, turned, out=out).numpy()
            cross = torch.bmm(sides, turned.double()).numpy()
            jobs = [
                pool.submit(state.screen, start, rows[h], cross[h, :n_places], cross[h, n_places:], scale, products[h])
                for h, state in enumerate(states)
            ]
            for job in jobs:
                job.result()
            progress(stop / size)
        list(pool.map(lambda state: state.settle(block), states))

    def by_layer(parts: list[NDArray], dtype: type) -> NDArray:
        stacked = np.stack(parts).reshape(heads, positions, layers, *parts[0].shape[1:])
        return np.ascontiguousarray(np.moveaxis(stacked, 2, 0), dtype)

    return Nearest(
        ids=by_layer([state.found_ids for state in states], np.int32),
        distance=by_layer([state.found for state in states], np.float32),
        own_rank=by_layer([state.own_rank for state in states], np.int32),
        own_distance=by_layer([state.own_distance for state in states], np.float32),
    )


def distances(
    block: Block, metric: Metric, head: int, queries: NDArray[np.floating], place: int, entries: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Distances of some queries at one head and position to some vocabulary entries.

    Parameters
    ----------
    block : Block
    metric : str
        One of `METRICS`.
    head : int
        Head of the block.
    queries : float32 or float64 array (m, d)
    place : int
        Which of the block's positions.
    entries : int array (v,)

    Returns
    -------
    float32 array (m, v)
        Each the same number, to the bit, that `search` reports for it.
    """
    centre = np.zeros(queries.shape[1])
    if metric == "centered_cosine":
        centre = block.mean[head, place]
    rows, scale = block.rows[head, entries], block.scale_at(np.full_like(entries, place), entries)
    out = np.empty((len(queries), len(entries)), np.float32)
    for z, row in zip(queries.astype(np.float64), out, strict=True):
        kernels.distances(_KIND[metric], z, centre, rows, block.shift[head, place], scale, block.offset[head], row)
    return out


@dataclass(frozen=True, eq=False)
class _HeadBlock:
    """One head of a block."""

    rows: NDArray[np.float32]  # (V, d)
    shift: NDArray[np.float64]  # (P, d)
    offset: NDArray[np.float64]  # (d,)
    centre: NDArray[np.float64]  # (P, d)


class _HeadState:
    """One head's queries and what is known of their neighbours so far."""

    def __init__(
        self,
        kind: int,
        z: NDArray[np.float64],
        place: NDArray[np.intp],
        own_ids: NDArray[np.int64],
        own_scale: NDArray[np.float64],
        k: int,
        block: _HeadBlock,
    ):
        n = len(z)
        self.kind, self.z, self.place, self.block = kind, z, place, block
        centred = z - block.centre[place]
        self.offset = block.offset - block.centre  # (P, d)
        self.shift_square = np.einsum("pf,pf->p", block.shift, block.shift)
        self.shift_offset = np.einsum("pf,pf->p", block.shift, self.offset)
        self.offset_square = np.einsum("pf,pf->p", self.offset, self.offset)
        self.z_norm = np.linalg.norm(centred, axis=1)
        self.overflow = ~((self.z_norm > kernels.SMALL) & (self.z_norm < kernels.LARGE))
        centred[self.overflow] = 0  # these are searched directly
        self.single = torch.from_numpy(centred.astype(np.float32))
        with np.errstate(over="ignore"):  # the tables know how large s and c are
            self.z_shift = np.einsum("qf,qf->q", centred, block.shift[place]).astype(np.float32)
            self.z_offset = np.einsum("qf,qf->q", centred, self.offset[place]).astype(np.float32)
        own = [
            (kind, z[q], block.centre[p], block.rows[v], block.shift[p], own_scale[q], block.offset)
            for q, (p, v) in enumerate(zip(place, own_ids, strict=True))
        ]
        self.own_distance = np.array([kernels.distance(*arguments) for arguments in own])
        self.own_score = np.array([kernels.score(*arguments) for arguments in own])
        capacity = 4 * k + 64
        self.heap = np.full((n, k), np.inf)
        self.ids = np.empty((n, capacity), np.int32)
        self.lows = np.empty((n, capacity))
        self.count = np.zeros(n, np.int64)
        self.nearer = np.zeros(n, np.int64)
        self.tied_ids = np.empty((n, _TIED + z.shape[1]), np.int32)
        self.tied = np.zeros(n, np.int64)
        self.found_ids = np.empty((n, k), np.int64)
        self.found = np.empty((n, k))
        self.own_rank = np.empty(n, np.int64)

    def screen(
        self,
        start: int,
        rows: NDArray[np.float32],
        cross: NDArray[np.float64],
        rows_offset: NDArray[np.float64],
        scale: NDArray[np.float64],
        products: NDArray[np.float32],
    ) -> None:
        runs = -(-len(rows) // kernels.RUN)
        B, C, E = (np.empty(scale.shape, np.float32) for _ in range(3))
        R, S = (np.empty((len(scale), runs)) for _ in range(2))
        kernels.tables(
            self.kind, rows.shape[1], kernels.squares(rows), cross, rows_offset, scale,
            self.shift_square, self.shift_offset, self.offset_square, B, C, E, R, S,
        )  # fmt: skip
        kernels.screen(
            start, products, self.place, B, C, E, R, S,
            self.z_shift, self.z_offset, self.z_norm, self.own_score,
            self.heap, self.ids, self.lows, self.count, self.nearer, self.tied_ids, self.tied, self.overflow,
        )  # fmt: skip

    def settle(self, block: Block) -> None:
        here = self.block
        kernels.compact(self.ids, self.lows, self.count, self.heap)
        self.count[self.overflow] = self.tied[self.overflow] = 0
        kernels.settle(
            self.kind, self.z, here.centre, self.place, here.rows, here.shift, here.offset, self.own_distance,
            self.ids, self._scales(block, self.ids, self.count), self.count, self.nearer,
            self.tied_ids, self._scales(block, self.tied_ids, self.tied), self.tied,
            self.found_ids, self.found, self.own_rank,
        )  # fmt: skip
        everything = np.arange(len(here.rows))
        for q in np.flatnonzero(self.overflow):
            p = self.place[q]
            self.own_rank[q] = kernels.search_directly(
                self.kind, self.z[q], here.centre[p], here.rows, here.shift[p],
                block.scale_at(np.full_like(everything, p), everything), here.offset, self.own_distance[q],
                self.found_ids[q], self.found[q],
            )  # fmt: skip

    def _scales(self, block: Block, ids: NDArray[np.int32], count: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scales of the first `count` ids of each query, end to end."""
        held = np.arange(ids.shape[1]) < count[:, None]
        return block.scale_at(np.repeat(self.place, count), ids[held])
