"""Exact search: head vectors and vocabulary encodings in; neighbours, own ranks and distances out.

The work is cut into jobs: some queries of one head of the vocabulary, against all of its entries. A job's queries are
few enough for its caches, and so for memory; a thread works on one job at a time, and jobs share nothing but what they
read. What happens to a pair of a query and an entry is told in `attnxr.search.kernels`. The answer is the exact one,
so it is the same to the bit whatever the jobs and the number of threads.
"""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr.options import Metric
from attnxr.search import exact, kernels
from attnxr.search.blocks import Block, Screened, in_threads
from attnxr.search.simd import PANEL, QUERIES

Progress = Callable[[float], None]


def told_to(progress: Progress | None) -> Progress:
    """Whom to tell the fraction that is done: nobody, where nobody wants to know."""
    return (lambda fraction: None) if progress is None else progress


def within(progress: Progress, start: float, share: float) -> Progress:
    """Told what fraction of a part is done, tells what fraction of the whole."""
    return lambda fraction: progress(start + share * fraction)


_KIND = {
    "cosine": exact.COSINE,
    "centered_cosine": exact.COSINE,
    "euclidean": exact.EUCLIDEAN,
    "dot": exact.DOT,
}
_JOB = 1 << 17  # numbers of the queries of a job, 2 bytes each: they stay in a core's second cache
_ENTRIES = 1 << 13  # distances that a thread computes at once
_STEP = 1 << 30  # multiplications, a few milliseconds' worth, between two looks at whether the search was cancelled


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

    @classmethod
    def empty(cls, shape: tuple[int, ...], k: int) -> "Nearest":
        """An answer of a shape (L, H, n), to be filled."""
        return cls(
            np.empty((*shape, k), np.int32),
            np.empty((*shape, k), np.float32),
            np.empty(shape, np.int32),
            np.empty(shape, np.float32),
        )

    @property
    def arrays(self) -> tuple[NDArray, ...]:
        """All of it."""
        return self.ids, self.distance, self.own_rank, self.own_distance


def search(
    block: Block,
    queries: NDArray[np.floating],
    block_heads: NDArray[np.intp],
    place: NDArray[np.intp],
    own: NDArray[np.int64],
    k: int,
    metric: Metric,
    progress: Progress | None = None,
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
        One of `attnxr.options.METRICS`.
    progress : callable, optional
        Told the fraction done now and then, in this thread; what it raises ends the search within a moment.

    Returns
    -------
    Nearest
        Exact: the k smallest of all V distances computed in float64, in the order of (distance, id), and
        1 + the number of entries strictly nearer than the own token.
    """
    layers, _, positions, features = queries.shape
    places = np.arange(block.shift.shape[1])
    centred = metric == "centered_cosine"
    centre = block.mean(np.arange(len(block.rows)), places) if centred else np.zeros_like(block.shift)
    found = Nearest.empty(queries.shape[:3], k)
    scale, rows = block.scale(places), block.screened
    task = _Task(block, scale, rows, centre, queries, place, own, _KIND[metric], centred, found)
    order = np.argsort(place, kind="stable")  # queries that share a position's tables lie together
    threads = torch.get_num_threads()
    heads = np.unique(block_heads)
    jobs = []
    for b in heads.tolist():
        sharing = np.flatnonzero(block_heads == b)
        shape = positions, layers, len(sharing)
        count = math.prod(shape)
        size = min(_JOB // features, -(-count * len(heads) // threads))
        size = QUERIES * max(1, -(-size // QUERIES))
        for start in range(0, count, size):
            position, layer, head = np.unravel_index(np.arange(start, min(start + size, count)), shape)
            jobs.append(partial(task.run, b, (layer, sharing[head], order[position])))
    _work(jobs, queries.size // features * block.rows.shape[1], threads, told_to(progress))
    return task.found


def _work(jobs: Sequence[Callable], pairs: int, threads: int, progress: Progress) -> None:
    """Run jobs in threads; each tells how many of all the pairs it has done, and ends early when that returns False."""
    cancelled = threading.Event()
    told: SimpleQueue[int | BaseException] = SimpleQueue()

    def tell(done: int) -> bool:
        told.put(done)
        return not cancelled.is_set()

    def run(job: Callable) -> None:
        try:
            if not cancelled.is_set():
                job(tell)
        except BaseException as error:  # raised again by the thread that waits
            told.put(error)

    with ThreadPoolExecutor(threads) as pool:
        for job in jobs:
            pool.submit(run, job)
        try:
            done = 0
            while done < pairs:
                news = told.get()
                if isinstance(news, BaseException):
                    raise news
                done += news
                progress(done / pairs)
        finally:
            cancelled.set()


@dataclass(frozen=True, eq=False)
class _Task:
    """What the jobs of a search have in common."""

    block: Block
    scale: NDArray[np.float64]  # (P, V)
    rows: Screened
    centre: NDArray[np.float64]  # (heads, P, d)
    queries: NDArray[np.floating]  # (L, H, n, d)
    place: NDArray[np.intp]  # (n,)
    own: NDArray[np.int64]  # (n,)
    kind: int
    centred: bool
    found: Nearest

    def run(self, head: int, which: tuple[NDArray[np.intp], ...], tell: Callable[[int], bool]) -> None:
        """Answer for some queries, by their layer, head and position, that look into one head of the block."""
        kind, k = self.kind, self.found.ids.shape[-1]
        places, place = np.unique(self.place[which[2]], return_inverse=True)
        entries = self._entries(head, places)
        queries, columns, kappa = self._screened(head, entries, which, place)
        found = kernels.nothing_found(k, len(place), len(entries.rows))
        rows = self.rows.heads[head]
        panels = len(rows.numbers)
        step = max(1, _STEP // (PANEL * queries.z.size))
        for first in range(0, panels, step):
            last = min(first + step, panels)
            kernels.screen(kind, kappa, entries, rows, columns, queries, first, last, found)
            if last < panels and not tell(len(place) * PANEL * step):
                return
        ids, far = np.empty((len(place), k), np.int32), np.empty((len(place), k))
        kernels.settle(kind, entries, queries, found, ids, far)
        for whole, part in zip(self.found.arrays, (ids, far, found.rank, queries.own_distance), strict=True):
            whole[which] = part
        tell(len(place) * (len(entries.rows) - PANEL * step * ((panels - 1) // step)))

    def _entries(self, head: int, places: NDArray[np.intp]) -> exact.Entries:
        block, scale = self.block, self.scale
        if len(places) < len(scale):
            scale = scale[places]
        return exact.Entries(
            block.rows[head], block.shift[head, places], scale, block.offset[head], self.centre[head, places]
        )

    def _screened(
        self, head: int, entries: exact.Entries, which: tuple[NDArray[np.intp], ...], place: NDArray[np.intp]
    ) -> tuple[kernels.Queries, kernels.Columns, float]:
        """The queries and columns as the screen knows them, and how much it leaves out of any: κ."""
        z = self.queries[which].astype(np.float64) - entries.centre[place]
        n, d = z.shape
        own = self.own[which[2]]
        own_distance, own_score, own_error = np.empty((3, n))
        kernels.prepare(self.kind, entries, z, place, own, own_distance, own_score, own_error)
        origin = np.zeros(d)
        row_mean = self.rows.mean[head]  # the screen's rows are less this
        shift, offset = entries.shift + row_mean, entries.offset[None]
        rest = np.zeros(len(shift))
        if self.centred:
            rest = entries.scale.mean(axis=1)
            offset = offset - entries.centre + rest[:, None] * shift
        vectors = kernels.quantised(z, origin)
        columns = kernels.Columns(
            kernels.quantised(np.concatenate([shift, offset]), origin),
            inner=np.einsum("pf,pf->p", shift, offset),
            rest=rest,
            shift_reach=_length(entries.shift) + 2 * _length(row_mean),
            offset_reach=_length(entries.offset) + _length(entries.centre),
        )
        with np.errstate(all="ignore"):  # what is beyond float32 stays open

            def scaled(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
                return (numbers / vectors.unit).astype(np.float32)

            def inner(column: NDArray[np.float64]) -> NDArray[np.float32]:
                return scaled(np.einsum("qf,qf->q", z, column[place if len(column) > 1 else np.zeros_like(place)]))

            rounded = 8 * (d + 16) * 2.0**-53 * vectors.size**2 if self.kind == exact.EUCLIDEAN else np.zeros(n)
            queries = kernels.Queries(
                z=z,
                place=place,
                own_distance=own_distance,
                numbers=vectors.numbers,
                size=scaled(vectors.size),
                noise=scaled(rounded),
                inverse=scaled(np.ones(n)),
                shift=inner(shift),
                offset=inner(offset),
                own_low=np.nextafter(scaled(own_score - own_error), np.float32(-np.inf)),
                own_high=np.nextafter(scaled(own_score + own_error), np.float32(np.inf)),
            )
        shares = [part.residual[part.size > 0] / part.size[part.size > 0] for part in (vectors, columns.vectors)]
        return queries, columns, float(np.concatenate(shares).max(initial=0))


def _length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.square(vectors).sum(axis=-1))


def distances(
    block: Block,
    metric: Metric,
    heads: NDArray[np.intp],
    queries: NDArray[np.floating],
    place: int,
    entries: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Distances of some queries at some heads and one position to some vocabulary entries.

    Parameters
    ----------
    block : Block
    metric : str
        One of `attnxr.options.METRICS`.
    heads : int array (H,)
        Which of the block's heads each head of the queries looks into.
    queries : float32 or float64 array (m, H, d)
    place : int
        Which of the block's positions.
    entries : int array (v,)

    Returns
    -------
    float32 array (m, H, v)
        Each the same number, to the bit, that `search` reports for it.
    """
    here = np.array([place])
    centre = np.zeros((len(heads), 1, queries.shape[2]))
    if metric == "centered_cosine":
        centre = block.mean(heads, here)
    z = queries.astype(np.float64) - centre[:, 0]
    scale = block.scale(here)
    out = np.empty((*queries.shape[:2], len(entries)), np.float32)
    threads = torch.get_num_threads()
    parts = np.array_split(np.arange(len(entries)), threads * max(1, -(-len(entries) // (threads * _ENTRIES))))

    def fill(job: tuple[int, NDArray[np.intp]]) -> None:
        h, part = job
        head, some = heads[h], slice(part[0], part[-1] + 1)
        whole = exact.Entries(block.rows[head], block.shift[head, here], scale, block.offset[head], centre[h])
        exact.all_distances(_KIND[metric], np.ascontiguousarray(z[:, h]), whole, 0, entries[some], out[:, h, some])

    in_threads(fill, [(h, part) for h in range(len(heads)) for part in parts if len(part)])
    return out
