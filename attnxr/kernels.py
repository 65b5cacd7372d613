"""Array kernels of the exact search: screen a tile of the vocabulary, then settle what the screen left open.

One query ``z`` (centred with its vocabulary for ``centered_cosine``) is compared with one entry
``u = (a + s)·scale + c`` by a *score*, a number that grows with the distance:

    euclidean   |u|² − 2 z·u          (the squared distance less |z|²)
    dot         −z·u
    cosine      −z·u / |u|

A float32 matrix product gives ``g = z·a``; with B, C and E that do not depend on the query, every score is
``B − C (g + z·s) − E z·c``, which the screen evaluates in float32 and knows to within ``|z|·R + S`` (see `tables`).
Each query keeps the k smallest *upper* ends; an entry whose *lower* end is above the k-th of them cannot be among
the k nearest. What remains, and what cannot be told apart from the own token, is computed again in float64 by
`distance`, directly from ``z`` and ``u``. Nothing here knows of xarray or transformers.
"""

import math

import numba
import numpy as np

COSINE, EUCLIDEAN, DOT = 0, 1, 2

RUN = 64  # entries that share one error bound; a whole run is passed over when none of them can matter

_UNIT = 2.0**-24  # unit roundoff of float32
# Sizes between which no float32 product, sum or table of the screen can overflow, or lose bits to underflow that the
# error bound does not cover. What lies outside stays open, and is computed in float64.
SMALL, LARGE = 1e-12, 1e12


@numba.njit(nogil=True, cache=True, inline="always")
def _moments(z, centre, row, shift, scale, offset):
    """Inner product, squared norms and squared difference of z and u, both less the centre, from the definitions."""
    product = 0.0
    z_square = 0.0
    u_square = 0.0
    difference = 0.0
    for f in range(z.shape[0]):
        x = z[f] - centre[f]
        y = (row[f] + shift[f]) * scale + offset[f] - centre[f]
        product += x * y
        z_square += x * x
        u_square += y * y
        difference += (x - y) * (x - y)
    return product, z_square, u_square, difference


@numba.njit(nogil=True, cache=True)
def distance(kind, z, centre, row, shift, scale, offset):
    """Distance of one query and one entry, float64. A zero vector has cosine 0 to everything."""
    product, z_square, u_square, difference = _moments(z, centre, row, shift, scale, offset)
    if kind == EUCLIDEAN:
        return math.sqrt(difference)
    if kind == DOT:
        return -product
    if z_square == 0.0 or u_square == 0.0:
        return 1.0
    return max(0.0, 1.0 - product / math.sqrt(z_square * u_square))


@numba.njit(nogil=True, cache=True)
def score(kind, z, centre, row, shift, scale, offset):
    """Score of one query and one entry as the screen means it, float64."""
    product, _, u_square, _ = _moments(z, centre, row, shift, scale, offset)
    if kind == EUCLIDEAN:
        return u_square - 2.0 * product
    if kind == DOT:
        return -product
    return -product / math.sqrt(u_square) if u_square > 0.0 else 0.0


@numba.njit(nogil=True, cache=True)
def distances(kind, z, centre, rows, shift, scale, offset, out):
    """Distances of one query to many entries: rows (V, d), scale (V,), out float32 (V,)."""
    for v in range(rows.shape[0]):
        out[v] = distance(kind, z, centre, rows[v], shift, scale[v], offset)


@numba.njit(nogil=True, cache=True)
def _sift_down(heap, item):
    """Put an item in place of the largest of a max-heap."""
    size = heap.shape[0]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= item:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = item


@numba.njit(nogil=True, cache=True)
def _compact(ids, lows, count, threshold):
    """Drop the candidates that a smaller threshold has ruled out."""
    kept = 0
    for i in range(count):
        if not lows[i] > threshold:
            ids[kept], lows[kept] = ids[i], lows[i]
            kept += 1
    return kept


@numba.njit(nogil=True, cache=True)
def compact(ids, lows, count, heap):
    """Drop every query's candidates that its final threshold rules out."""
    for q in range(ids.shape[0]):
        count[q] = _compact(ids[q], lows[q], count[q], heap[q, 0])


@numba.njit(nogil=True, cache=True)
def squares(rows):
    """Squared norm of each row, float64, in a fixed order: equal rows give equal bits."""
    out = np.empty(rows.shape[0])
    for i in range(rows.shape[0]):
        total = 0.0
        for f in range(rows.shape[1]):
            total += np.float64(rows[i, f]) * rows[i, f]
        out[i] = total
    return out


@numba.njit(nogil=True, cache=True)
def pair_products(words, places, entries, where):
    """Inner products words[entries[i]]·places[where[i]], float64, in a fixed order: equal rows give equal bits."""
    out = np.empty(entries.shape[0])
    for i in range(entries.shape[0]):
        total = 0.0
        for f in range(words.shape[1]):
            total += words[entries[i], f] * places[where[i], f]
        out[i] = total
    return out


@numba.njit(nogil=True, cache=True)
def tables(
    kind, features, rows_square, cross, rows_offset, scale, shift_square, shift_offset, offset_square, B, C, E, R, S
):  # fmt: skip
    """Fill the tables of `screen` for one head and one tile.

    A float32 inner product of d terms is off by at most ``γ |z||a|`` in any order of summation, with
    ``γ = d·2⁻²⁴ / (1 − d·2⁻²⁴)`` (Higham, Accuracy and Stability of Numerical Algorithms, 2002, eq. 3.5); two more
    terms are for rounding ``z`` itself. The float32 evaluation around it rounds six times, and each of its terms is
    at most ``|z|`` times ``C (|a| + |s|) + E |c|``, or ``B``. The squared norm ``|u|²``, summed in float64 from
    parts that may cancel, is off by at most ``4 (d + 16) 2⁻⁵² (scale (|a| + |s|) + |c|)²``, which bounds the
    relative error of its root. Entries so small or large that float32 fails them get an infinite bound.

    Parameters
    ----------
    kind : int
        COSINE, EUCLIDEAN or DOT.
    features : int
        d.
    rows_square : float64 (T,)
        |a|² of the tile's rows.
    cross, rows_offset, scale : float64 (P, T)
        a·s, a·c and the scale.
    shift_square, shift_offset, offset_square : float64 (P,)
        |s|², s·c, |c|².
    B, C, E : float32 (P, T), to be filled
    R, S : float64 (P, ⌈T / RUN⌉), to be filled
        For each run of entries, the largest of their error bounds.
    """
    product_error = (features + 2) * _UNIT / (1 - (features + 2) * _UNIT)
    double_error = 4 * (features + 16) * 2.0**-52
    R[:] = 0.0
    S[:] = 0.0
    for p in range(scale.shape[0]):
        s = math.sqrt(shift_square[p])
        c = math.sqrt(offset_square[p])
        for j in range(scale.shape[1]):
            t = scale[p, j]
            a = math.sqrt(rows_square[j])
            size = t * (a + s) + c  # bounds |u|
            square_error = double_error * size * size
            square = t * t * (rows_square[j] + 2.0 * cross[p, j] + shift_square[p])
            square = max(0.0, square + 2.0 * t * (rows_offset[p, j] + shift_offset[p]) + offset_square[p])
            b = 0.0
            e = 1.0
            relative = 0.0
            if kind == EUCLIDEAN:
                b = square
                e = 2.0
            elif kind == COSINE:
                # A square that cancellation may have eaten is worth nothing.
                e = 1.0 / math.sqrt(square) if square > 8.0 * square_error else math.inf
                relative = square_error / square if square > 0.0 else math.inf
            if size == 0.0:
                b, e, bound = 0.0, 0.0, 0.0  # a zero vector has score 0 by every metric
            elif (
                SMALL < e < LARGE
                and SMALL < t * e < LARGE
                and size * e < LARGE
                and b < LARGE * LARGE
                and (a == 0.0 or SMALL < a < LARGE)
            ):
                bound = product_error * t * e * a + 8.0 * _UNIT * size * e + relative
            else:
                b, e, bound = 0.0, 0.0, math.inf
            B[p, j], C[p, j], E[p, j] = b, t * e, e
            run = j // RUN
            R[p, run] = max(R[p, run], bound)
            if kind == EUCLIDEAN:
                S[p, run] = max(S[p, run], square_error + 8.0 * _UNIT * b)


@numba.njit(nogil=True, cache=True)
def _scan(b, c, e, g, zs, zc, low_own, high_own, reach):
    """Count the entries of a run that are certainly nearer than the own token, or −1 where any entry is open.

    A loop that the compiler turns into vector instructions. Every comparison is written so that a NaN, from a number
    beyond float32, leaves its entry open.
    """
    certain = 0
    settled = 0
    for j in range(b.shape[0]):
        value = b[j] - c[j] * (g[j] + zs) - e[j] * zc
        nearer = value < low_own
        certain += nearer
        settled += (value > reach) & (nearer | (value > high_own))
    return certain if settled == b.shape[0] else -1


@numba.njit(nogil=True, cache=True)
def screen(
    start, products, place, B, C, E, R, S,
    z_shift, z_offset, z_norm, own_score,
    heap, ids, lows, count, nearer, tied_ids, tied, overflow,
):  # fmt: skip
    """Screen the queries of one head against one tile of the vocabulary, updating their state.

    Parameters
    ----------
    start : int
        Vocabulary id of the tile's first entry.
    products : float32 (Q, T)
        Inner products of the queries with the tile's rows.
    place : int (Q,)
        Row of the tables that belongs to a query: its position.
    B, C, E, R, S
        See `tables`.
    z_shift, z_offset : float32 (Q,)
        z·s and z·c.
    z_norm, own_score : float64 (Q,)
        |z|, and the own token's score.
    heap : float64 (Q, k), starting at inf
        The k smallest upper ends so far, as a max-heap.
    ids, lows : (Q, capacity) and count : (Q,)
        The candidates so far.
    nearer : int64 (Q,)
        Entries certainly nearer than the own token.
    tied_ids : (Q, capacity) and tied : (Q,)
        Entries that cannot be told apart from the own token.
    overflow : bool (Q,)
        Set where a buffer is full: that query is left to the direct computation.
    """
    width = products.shape[1]
    capacity = ids.shape[1]
    for q in range(products.shape[0]):
        if overflow[q]:
            continue
        p = place[q]
        own = own_score[q]
        threshold = heap[q, 0]
        zs = z_shift[q]
        zc = z_offset[q]
        for run in range(R.shape[1]):
            left = run * RUN
            right = min(left + RUN, width)
            error = (z_norm[q] * R[p, run] + S[p, run]) * (1.0 + 2.0**-20)
            own_error = error + 2.0 * _UNIT * abs(own)
            low_own = np.float32(own - own_error)
            high_own = np.float32(own + own_error)
            reach = np.float32(threshold + error + (2.0 * _UNIT * abs(threshold) if threshold < math.inf else 0.0))
            certain = _scan(
                B[p][left:right], C[p][left:right], E[p][left:right], products[q][left:right], zs, zc,
                low_own, high_own, reach,
            )  # fmt: skip
            if certain >= 0:
                nearer[q] += certain
                continue
            for j in range(left, right):
                value = B[p, j] - C[p, j] * (products[q, j] + zs) - E[p, j] * zc
                if value < low_own:
                    nearer[q] += 1
                elif not value > high_own:
                    if tied[q] == tied_ids.shape[1]:
                        overflow[q] = True
                        break
                    tied_ids[q, tied[q]] = start + j
                    tied[q] += 1
                low = np.float64(value) - error
                if not low > threshold:
                    if count[q] == capacity:
                        count[q] = _compact(ids[q], lows[q], count[q], threshold)
                        if count[q] == capacity:
                            overflow[q] = True
                            break
                    ids[q, count[q]] = start + j
                    lows[q, count[q]] = low
                    count[q] += 1
                    high = np.float64(value) + error
                    if high < threshold:
                        _sift_down(heap[q], high)
                        threshold = heap[q, 0]
            if overflow[q]:
                break


@numba.njit(nogil=True, cache=True)
def _insert(found_ids, found, filled, v, d):
    """Insertion sort by (distance, id) into the k best; returns how many are filled."""
    k = found.shape[0]
    if filled == k and not (d < found[k - 1] or (d == found[k - 1] and v < found_ids[k - 1])):
        return filled
    i = min(filled, k - 1)
    while i > 0 and (d < found[i - 1] or (d == found[i - 1] and v < found_ids[i - 1])):
        found[i], found_ids[i] = found[i - 1], found_ids[i - 1]
        i -= 1
    found[i], found_ids[i] = d, v
    return min(filled + 1, k)


@numba.njit(nogil=True, cache=True)
def settle(
    kind, z, centre, place, rows, shift, offset, own_distance,
    ids, scales, count, nearer, tied_ids, tied_scales, tied, found_ids, found, own_rank,
):  # fmt: skip
    """Give one head's queries their exact neighbours and own ranks, from what the screen left open.

    ``scales`` and ``tied_scales`` hold the scales of all candidates and of all ties, query after query. Writes
    ``found_ids`` and ``found`` (Q, k), ascending by (distance, id), and ``own_rank`` (Q,).
    """
    candidate = 0
    tie = 0
    for q in range(z.shape[0]):
        p = place[q]
        filled = 0
        rank = 1 + nearer[q]
        for i in range(count[q]):
            v = ids[q, i]
            d = distance(kind, z[q], centre[p], rows[v], shift[p], scales[candidate], offset)
            candidate += 1
            filled = _insert(found_ids[q], found[q], filled, v, d)
        for i in range(tied[q]):
            v = tied_ids[q, i]
            d = distance(kind, z[q], centre[p], rows[v], shift[p], tied_scales[tie], offset)
            tie += 1
            rank += d < own_distance[q]
        own_rank[q] = rank


@numba.njit(nogil=True, cache=True)
def search_directly(kind, z, centre, rows, shift, scale, offset, own_distance, found_ids, found):
    """Neighbours and own rank of one query by going through the whole vocabulary in float64; returns the rank."""
    filled = 0
    rank = 1
    for v in range(rows.shape[0]):
        d = distance(kind, z, centre, rows[v], shift, scale[v], offset)
        rank += d < own_distance
        filled = _insert(found_ids, found, filled, v, d)
    return rank
