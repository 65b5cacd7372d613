"""Distances in float64, from the definition, by arrays: what the search settles with, and what slices are made of.

Every sum is taken in one order, whatever surrounds it, so that equal vectors have equal distances to the bit.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attnxr.search.compiled import compiled
from attnxr.search.simd import dot

_TOGETHER = 512  # rows that stay in the first cache while they are read several times
COSINE, EUCLIDEAN, DOT = 0, 1, 2


class Entries(NamedTuple):
    """One head's vocabulary at P positions: ``u[p, v] = (rows[v] + shift[p])·scale[p, v] + offset − centre[p]``."""

    rows: NDArray[np.float32]  # (V, d)
    shift: NDArray[np.float64]  # (P, d)
    scale: NDArray[np.float64]  # (P, V)
    offset: NDArray[np.float64]  # (d,)
    centre: NDArray[np.float64]  # (P, d)


@compiled(inline="always")
def put(rows, shift, scale, offset, centre, p, v, u):
    """Compute one entry: ``u`` (d,)."""
    t = scale[p, v]
    for f in range(u.shape[0]):
        u[f] = (rows[v, f] + shift[p, f]) * t + offset[f] - centre[p, f]


@compiled(inline="always")
def far(kind, z, q, z_square, u, u_square, difference):
    """Distance of query q of z (Q, d) and an entry u (d,), given their squared norms and a (d,) to write in."""
    d = u.shape[0]
    if kind == EUCLIDEAN:
        for f in range(d):
            difference[f] = z[q, f] - u[f]
        return math.sqrt(dot(difference, 0, difference, 0, d))
    product = dot(z, q * d, u, 0, d)
    if kind == DOT:
        return -product
    squares = z_square * u_square
    return max(0.0, 1.0 - product / math.sqrt(squares)) if squares > 0.0 else 1.0


@compiled()
def distances(kind, z, q, entries, p, ids, count, out):
    """Distances of query q of z (Q, d), less the centre, to the first `count` of some entries at position p.

    In float64, from the definition; a zero vector has cosine 0 to everything.
    """
    rows, shift, scale, offset, centre = entries  # once: each time costs as much as a distance
    d = z.shape[1]
    z_square, u, difference = dot(z, q * d, z, q * d, d), np.empty(d), np.empty(d)
    for i in range(count):
        put(rows, shift, scale, offset, centre, p, ids[i], u)
        out[i] = far(kind, z, q, z_square, u, dot(u, 0, u, 0, d), difference)


@compiled()
def all_distances(kind, z, entries, p, ids, out):
    """The same of all queries (Q, d): (Q, count), each entry computed once."""
    rows, shift, scale, offset, centre = entries
    n, d = z.shape
    z_square, u, difference = np.empty(n), np.empty(d), np.empty(d)
    for q in range(n):
        z_square[q] = dot(z, q * d, z, q * d, d)
    for i in range(ids.shape[0]):
        put(rows, shift, scale, offset, centre, p, ids[i], u)
        u_square = dot(u, 0, u, 0, d)
        for q in range(n):
            out[q, i] = far(kind, z, q, z_square[q], u, u_square, difference)


@compiled()
def squares(rows):
    """Squared norm of each row, float64, in a fixed order: equal rows give equal bits."""
    out = np.empty(rows.shape[0])
    row = np.empty(rows.shape[1])
    for i in range(rows.shape[0]):
        row[:] = rows[i]
        out[i] = dot(row, 0, row, 0, row.shape[0])
    return out


@compiled()
def centred(rows, out):
    """Fill ``out`` with rows (m, D) less the mean of each, taken in float64 and in a fixed order."""
    m, d = rows.shape
    row, ones = np.empty(d), np.ones(d)
    for i in range(m):
        row[:] = rows[i]
        mean = dot(row, 0, ones, 0, d) / d
        for f in range(d):
            out[i, f] = row[f] - mean


@compiled()
def inner_products(words, places, start, stop, out):
    """Fill ``out[p, v] = places[p]·words[v]``, float64, for v from start to stop; equal rows give equal bits."""
    d = words.shape[1]
    word = np.empty(d)
    for v in range(start, min(stop, words.shape[0])):
        word[:] = words[v]
        for p in range(places.shape[0]):
            out[p, v] = dot(places, p * d, word, 0, d)


@compiled()
def weighted_sums(rows, weights, out):
    """Fill ``out[p] = Σ_v weights[p, v] rows[v]``, (P, d), float64, in an order that does not depend on P."""
    count, d = rows.shape
    part = np.empty(d)
    out[:] = 0.0
    for start in range(0, count, _TOGETHER):
        for p in range(weights.shape[0]):
            part[:] = 0.0
            for v in range(start, min(start + _TOGETHER, count)):
                weight = weights[p, v]
                for f in range(d):
                    part[f] += weight * rows[v, f]
            for f in range(d):
                out[p, f] += part[f]
