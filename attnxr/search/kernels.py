"""Array kernels of the exact search: screen the vocabulary in integers, then settle in float64 what is left open.

Numbers in brackets are the equations of docs/exact-search.md, which has the proofs. Each pair of a query ``z`` and an
entry ``u`` (1) has a score (2), which the screen knows to within a proven bound (16). What that leaves open is computed
again in float64 (`attnxr.search.exact`), so the answer is the one that going through every pair in float64 gives.
Nothing here knows of xarray or transformers.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnxr.search.compiled import compiled
from attnxr.search.exact import COSINE, DOT, EUCLIDEAN, distances, far, put
from attnxr.search.simd import PANEL, QUERIES, dot, judge, judge_squared, lowest, products

_ROOT = 46340  # no more than √(2³¹ − 1): vectors of 16-bit numbers no longer than that have products within 32 bits (5)
_UNIT = 2.0**-24  # unit roundoff of float32
_DOUBLE = 2.0**-53  # and of float64
# Sizes between which nothing that the screen computes in float32 can overflow, or lose bits to underflow that its
# bound does not cover. What lies outside stays open, and is computed in float64.
_SMALL, _LARGE = 1e-12, 1e12


class Vectors(NamedTuple):
    """What a set of vectors is known as to the screen: ``unit`` times 16-bit numbers; see `quantise`."""

    numbers: NDArray[np.int32]  # (⌈m / width⌉, ⌈d / 2⌉, width)
    unit: NDArray[np.float64]  # (m,)
    size: NDArray[np.float64]  # (m,) length of the vector
    residual: NDArray[np.float64]  # (m,) length of what the numbers leave out of it


class Columns(NamedTuple):
    """Parts of ``u = t a + (t − r) s + b`` (7) that all entries share: P shifts ``s``, then ``b``, one or P of them."""

    vectors: Vectors  # of the s, then of the b
    inner: NDArray[np.float64]  # (P,) s · b
    rest: NDArray[np.float64]  # (P,) r
    shift_reach: NDArray[np.float64]  # (P,) lengths of all that makes the s, added up
    offset_reach: NDArray[np.float64]  # (P,) and of all else that makes the b


class Queries(NamedTuple):
    """Q queries of one head, with what the screen needs of each; all scores are in multiples of their ``unit``."""

    z: NDArray[np.float64]  # (Q, d), less the centre of the position
    place: NDArray[np.int64]  # (Q,) which of the positions
    own_distance: NDArray[np.float64]  # (Q,)
    numbers: NDArray[np.int32]  # (⌈Q / 12⌉, ⌈d / 2⌉, 12)
    size: NDArray[np.float32]  # (Q,)
    noise: NDArray[np.float32]  # (Q,) what float64 may have rounded off a score, whatever the entry (18)
    inverse: NDArray[np.float32]  # (Q,) 1 / unit
    shift: NDArray[np.float32]  # (Q,) z · shift
    offset: NDArray[np.float32]  # (Q,) z · offset
    own_low: NDArray[np.float32]  # (Q,) ends of the own token's score
    own_high: NDArray[np.float32]  # (Q,)


class Found(NamedTuple):
    """What is known so far of the neighbours and the own rank of Q queries."""

    heap: NDArray[np.float32]  # (Q, k) the smallest upper ends as a max-heap, starting at inf
    ids: NDArray[np.int32]  # (Q, capacity) the candidates, ascending
    lows: NDArray[np.float32]  # (Q, capacity) and their lower ends
    filled: NDArray[np.int64]  # (Q,) how many of them there are
    tied: NDArray[np.int32]  # (Q, capacity) entries that cannot be told apart from the own token
    ties: NDArray[np.int64]  # (Q,)
    rank: NDArray[np.int64]  # (Q,) the own rank, as far as it is settled


@compiled()
def quantise(vectors, centre, width, numbers, unit, size, residual):
    """Fill `Vectors` with vectors (m, d) less a centre (d,), in groups of `width`.

    A vector becomes whole numbers times a unit (3, 4), two of them to an int32, so that no sum of products of two such
    vectors leaves 32 bits (5).
    """
    m, d = vectors.shape
    for i in range(m):
        square, most = 0.0, 0.0
        for f in range(d):
            x = vectors[i, f] - centre[f]
            square += x * x
            most = max(most, abs(x))
        size[i] = math.sqrt(square) * (1 + 2 * (d + 4) * _DOUBLE)
        one = max(size[i] / (_ROOT - math.sqrt(d)), most / 32767)
        unit[i] = one
        group, place = i // width, i % width
        left = 0.0
        for pair in range((d + 1) // 2):
            both = 0
            for half in range(min(2, d - 2 * pair)):
                x = vectors[i, 2 * pair + half] - centre[2 * pair + half]
                number = int(np.rint(x / one)) if one > 0 else 0
                left += (x - number * one) ** 2
                both |= (number & 0xFFFF) << (16 * half)
            numbers[group, pair, place] = np.int32(np.uint32(both))
        residual[i] = math.sqrt(left) * (1 + 2 * (d + 4) * _DOUBLE) + 2 * _DOUBLE * size[i]


def quantised(vectors: NDArray[np.floating], centre: NDArray[np.float64], width: int = QUERIES) -> Vectors:
    """`Vectors` of vectors (m, d) less a centre (d,), in groups of `width`."""
    m, d = vectors.shape
    numbers = np.zeros((-(-m // width), (d + 1) // 2, width), np.int32)
    parts = Vectors(numbers, *(np.empty(m) for _ in range(3)))
    quantise(vectors, centre, width, *parts)
    return parts


@compiled()
def prepare(kind, entries, z, place, own, own_distance, own_score, own_error):
    """Compute the own tokens' distances, scores and what float64 may be off by in these (20), each (Q,)."""
    rows, shift, scale, offset, centre = entries
    d = z.shape[1]
    u, difference = np.empty(d), np.empty(d)
    for q in range(z.shape[0]):
        put(rows, shift, scale, offset, centre, place[q], own[q], u)
        product, square, z_square = dot(z, q * d, u, 0, d), dot(u, 0, u, 0, d), dot(z, q * d, z, q * d, d)
        norm = math.sqrt(z_square)
        size = math.sqrt(square)
        if kind == EUCLIDEAN:
            own_score[q] = square - 2 * product
            size = 2 * norm * size + square
        elif kind == DOT:
            own_score[q] = -product
            size = norm * size
        else:
            own_score[q] = -product / size if size > 0.0 else 0.0
            size = norm
        own_error[q] = 4 * (d + 16) * _DOUBLE * size
        own_distance[q] = far(kind, z, q, z_square, u, square, difference)


@compiled(error_model="numpy")
def tables(kind, features, kappa, panel, width, rows, columns, scale, sums, A, B, C, R, low, high):
    """Fill the tables of `screen` for one panel: what a score is made of, and how far it may be off.

    The square of an entry's length is (9), known to within (12); the bound of a score is (16). See (19) for what A, B
    and C are multiplied with.

    Parameters
    ----------
    kind : int
        COSINE, EUCLIDEAN or DOT.
    features : int
        d.
    kappa : float
        κ of the queries and columns.
    panel, width : int
        Which panel of the rows, and how many entries it has.
    rows : Vectors
        Of ``a`` (7).
    columns : Columns
        Of ``s`` and ``b``.
    scale : float64 (P, V)
        ``t``.
    sums : int32 (columns, 32)
        Products of the columns with the panel.
    A, B, C, R, low, high : float32 (P, 32), to be filled
        ``e t`` times the unit of ``a``; ``e τ``; ``e``; the bound (16) for ``|z| = 1``; for euclidean the ends
        of ``|u|²`` (17).
    """
    rounding = 8 * (features + 16) * _DOUBLE
    single, one = 16 * _UNIT, np.float32(1)
    row_unit, row_size, row_residual = rows.unit, rows.size, rows.residual
    start = np.uintp(panel * PANEL)  # unsigned: no index is counted from the end, so that they are read together
    size, factor, places = columns.vectors.size, 2 * columns.vectors.unit, scale.shape[0]
    several = size.shape[0] > places + 1
    for p in range(places):
        o = np.uintp(places + p if several else places)
        s, b, s_factor, b_factor, both = size[p], size[o], factor[p], factor[o], 2 * columns.inner[p]
        rest, shift_reach, offset_reach = columns.rest[p], columns.shift_reach[p], columns.offset_reach[p]
        in_reach = s < _LARGE
        for j in range(width):
            v = start + np.uintp(j)
            t, unit, a = scale[p, v], row_unit[v], row_size[v]
            tau = t - rest
            psi = kappa * (a + row_residual[v]) + row_residual[v]  # (6)
            inner = unit * s_factor * sums[p, j]
            outer = unit * b_factor * sums[o, j]
            square = t * (t * a * a + tau * inner + outer) + tau * (tau * s * s + both) + b * b  # (9)
            fixed = abs(tau) * s + b
            g = t * a + fixed  # (11)
            rounded = rounding * (t * (a + shift_reach) + offset_reach)
            wrong = 2 * t * fixed * psi + rounded * g  # (12)
            e = 1.0
            relative = 0.0
            if kind == EUCLIDEAN:
                e = 2.0
            elif kind == COSINE:
                e = np.float64(one / np.sqrt(np.float32(square)))
                relative = 0.65 * wrong * e * e if wrong <= 0.25 * square else math.inf
            bound = e * (t * psi + rounded) + relative + single * e * g  # (16)
            fits = (e > _SMALL) & (e < _LARGE) & (e * t > _SMALL) & (e * t < _LARGE) & (e * g < _LARGE)
            fits &= ((a == 0.0) | ((a > _SMALL) & (a < _LARGE))) & (e * g > _SMALL) & in_reach
            if g == 0.0:  # a zero vector has score 0 by every metric
                e, bound, wrong = 0.0, 0.0, 0.0
            elif not fits:
                e, bound = 0.0, math.inf
            A[p, j], B[p, j], C[p, j] = e * t * unit, e * tau, e
            R[p, j] = bound
            if kind == EUCLIDEAN:
                wrong += 8 * _UNIT * abs(square)
                low[p, j], high[p, j] = square - wrong, square + wrong
        for j in range(width, PANEL):  # nobody's entries: never settled, and passed over
            A[p, j], B[p, j], C[p, j], R[p, j], low[p, j], high[p, j] = 0.0, 0.0, 0.0, math.inf, 0.0, 0.0


@compiled()
def _sift_down(heap, q, item):
    """Put an item in place of the largest of a max-heap."""
    size = heap.shape[1]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and heap[q, child + 1] > heap[q, child]:
            child += 1
        if heap[q, child] <= item:
            break
        heap[q, i] = heap[q, child]
        i = child
    heap[q, i] = item


@compiled()
def _compact(found, q):
    """Drop the candidates that a smaller threshold has ruled out."""
    kept = 0
    for i in range(found.filled[q]):
        if not found.lows[q, i] > found.heap[q, 0]:
            found.ids[q, kept], found.lows[q, kept] = found.ids[q, i], found.lows[q, i]
            kept += 1
    found.filled[q] = kept


# NumPy's functions on arrays would say the next four in fewer lines. numba compiles what it has in their place anew for
# each of them, its sort above all: that was a third of the first search of a new installation.
@compiled()
def _sink(order, exact, i, size):
    """Put the i-th of a max-heap of indices where it belongs: by exact distance, then by index."""
    item = order[i]
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            exact[order[other]] > exact[order[child]]
            or (exact[order[other]] == exact[order[child]] and order[other] > order[child])
        ):
            child = other
        here = order[child]
        if exact[here] < exact[item] or (exact[here] == exact[item] and here < item):
            break
        order[i] = here
        i = child
    order[i] = item


@compiled()
def _order(kind, entries, queries, found, q):
    """Exact distances of the candidates, and the order of (distance, id), ids being there in ascending order."""
    size = found.filled[q]
    exact, order = np.empty(size), np.empty(size, np.int64)
    distances(kind, queries.z, q, entries, queries.place[q], found.ids[q], size, exact)
    for i in range(size):
        order[i] = i
    for i in range(size // 2 - 1, -1, -1):
        _sink(order, exact, i, size)
    for last in range(size - 1, 0, -1):
        order[0], order[last] = order[last], order[0]
        _sink(order, exact, 0, last)
    return exact, order


@compiled()
def _settle_ties(kind, entries, queries, found, q):
    """Count those of the undecided entries that are nearer than the own token."""
    exact = np.empty(found.ties[q])
    distances(kind, queries.z, q, entries, queries.place[q], found.tied[q], len(exact), exact)
    for i in range(len(exact)):
        if exact[i] < queries.own_distance[q]:
            found.rank[q] += 1
    found.ties[q] = 0


@compiled()
def _make_room(kind, entries, queries, found, q):
    """Make room for candidates: where more than fit are too close to tell, the k nearest of them will do."""
    _compact(found, q)
    size = found.filled[q]
    if size < found.ids.shape[1]:
        return
    _, order = _order(kind, entries, queries, found, q)
    keep = np.empty(size, np.bool_)
    for i in range(size):
        keep[order[i]] = i < found.heap.shape[1]
    kept = 0
    for i in range(size):
        if keep[i]:
            found.ids[q, kept], found.lows[q, kept] = found.ids[q, i], found.lows[q, i]
            kept += 1
    found.filled[q] = kept


@compiled()
def screen(kind, kappa, entries, rows, columns, queries, first, last, found):
    """Screen queries against the panels from first to last, updating what is found."""
    count, d = entries.rows.shape
    places, n = entries.scale.shape[0], queries.z.shape[0]
    A, B, C, R, low, high = (
        np.empty((places, PANEL), np.float32), np.empty((places, PANEL), np.float32),
        np.empty((places, PANEL), np.float32), np.empty((places, PANEL), np.float32),
        np.empty((places, PANEL), np.float32), np.empty((places, PANEL), np.float32),
    )  # fmt: skip
    column_numbers = columns.vectors.numbers
    sums = np.empty((column_numbers.shape[0] * QUERIES, PANEL), np.int32)
    g = np.empty((QUERIES, PANEL), np.int32)
    # Taken out of their tuples once: each time costs as much as a few products.
    place, size, noise, inverse, shift, offset, own_low, own_high = (
        queries.place, queries.size, queries.noise, queries.inverse, queries.shift, queries.offset,
        queries.own_low, queries.own_high,
    )  # fmt: skip
    row_numbers, numbers, heap, rank = rows.numbers, queries.numbers, found.heap, found.rank
    ids, lows, filled, tied, ties = found.ids, found.lows, found.filled, found.tied, found.ties
    for panel in range(first, last):
        for block in range(column_numbers.shape[0]):
            products(column_numbers, block, row_numbers, panel, sums, block)
        width = min(PANEL, count - panel * PANEL)
        tables(
            kind, d, kappa, panel, width, rows, columns, entries.scale, sums, A, B, C, R, low, high
        )  # fmt: skip
        for block in range(numbers.shape[0]):
            products(numbers, block, row_numbers, panel, g, 0)
            for i in range(min(QUERIES, n - block * QUERIES)):
                q = block * QUERIES + i
                p = place[q]
                each = size[q], noise[q], inverse[q], shift[q], offset[q], own_low[q], own_high[q]
                if kind == EUCLIDEAN:
                    nearer, unsure, near = judge_squared(g, i, A, B, C, R, low, high, p, each, heap[q, 0])
                else:
                    nearer, unsure, near = judge(g, i, A, B, C, R, low, high, p, each, heap[q, 0])
                rank[q] += nearer
                while unsure != 0:
                    j = lowest(unsure)
                    unsure &= unsure - 1
                    if j >= width:
                        break
                    if ties[q] == tied.shape[1]:
                        _settle_ties(kind, entries, queries, found, q)
                    tied[q, ties[q]] = panel * PANEL + j
                    ties[q] += 1
                while near != 0:
                    j = lowest(near)
                    near &= near - 1
                    if j >= width:
                        break
                    product = A[p, j] * np.float32(g[i, j]) + B[p, j] * shift[q] + C[p, j] * offset[q]
                    error = size[q] * R[p, j] + noise[q]
                    below, above = -product - error, error - product
                    if kind == EUCLIDEAN:
                        below += low[p, j] * inverse[q]
                        above += high[p, j] * inverse[q]
                    v = panel * PANEL + j
                    if not below > heap[q, 0]:
                        if filled[q] == ids.shape[1]:
                            _make_room(kind, entries, queries, found, q)
                        ids[q, filled[q]], lows[q, filled[q]] = v, below
                        filled[q] += 1
                        if above < heap[q, 0]:
                            _sift_down(heap, q, above)


@compiled()
def settle(kind, entries, queries, found, ids, exact):
    """Give the queries their exact neighbours: ids and distances (Q, k), ascending by (distance, id); and own ranks."""
    k = ids.shape[1]
    for q in range(queries.z.shape[0]):
        _settle_ties(kind, entries, queries, found, q)
        _compact(found, q)
        all_exact, order = _order(kind, entries, queries, found, q)
        for rank in range(k):
            ids[q, rank] = found.ids[q, order[rank]]
            exact[q, rank] = all_exact[order[rank]]


def nothing_found(k: int, n: int, size: int) -> Found:
    """`Found` of n queries that were compared with nothing yet, of a vocabulary of `size`."""
    capacity = min(2 * k + 64, size)
    return Found(
        heap=np.full((n, k), np.inf, np.float32),
        ids=np.empty((n, capacity), np.int32),
        lows=np.empty((n, capacity), np.float32),
        filled=np.zeros(n, np.int64),
        tied=np.empty((n, 128), np.int32),
        ties=np.zeros(n, np.int64),
        rank=np.ones(n, np.int64),
    )
