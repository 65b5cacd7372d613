"""Non-negative least squares, many small problems at once, each continued from the fit with one vector fewer.

The active-set method of Lawson & Hanson (Solving Least Squares Problems, 1974, chapter 23). The vectors in use are made
orthogonal by Gram & Schmidt's way, twice over, which leaves them so to rounding; no squares of condition numbers.
"""

import math

import numpy as np

from attnxr.search.compiled import compiled
from attnxr.search.simd import dot

ROUNDING = 1e-9
"""A cosine to what a fit leaves that is no larger than this is what rounding makes of 0."""
_DEPENDENT = 1e-12  # of a vector's length: what is left of one that others make up
_TURNS = 10  # for each vector: more than any fit takes, unless rounding sends it in circles


@compiled()
def refit(targets, vectors, count, going, weights, rest):
    """Fit each target y by its first vectors: the weights, none negative, for which ``|y − Σ w_i a_i|`` is smallest.

    Parameters
    ----------
    targets : float64 array (B, d)
    vectors : float64 array (B, m, d)
    count : int
        How many of the vectors.
    going : bool array (B,)
        Which of them to fit; the others stay as they are.
    weights : float64 array (B, m), to be filled
        Those of the best fit by one vector fewer, then 0; to be those of the best fit by all.
    rest : float64 array (B, d), to be filled
        ``y − Σ w_i a_i``.
    """
    d = vectors.shape[2]
    basis, upper = np.empty((count, d)), np.empty((count, count))
    fitted, order, used = np.empty(count), np.empty(count, np.int64), np.empty(count, np.bool_)
    for b in range(len(targets)):
        if not going[b]:
            continue
        a, w, r = vectors[b], weights[b], rest[b]
        for i in range(count):
            used[i] = w[i] > 0.0 or i == count - 1
        for _ in range(_TURNS * count):
            m = _least_squares(targets[b], a, used, basis, upper, fitted, order, r)
            step, stopped = 1.0, -1
            for i in range(m):
                if fitted[i] <= 0.0:
                    here = w[order[i]] / (w[order[i]] - fitted[i]) if w[order[i]] > 0.0 else 0.0
                    if here < step:
                        step, stopped = here, order[i]
            for i in range(m):
                w[order[i]] += step * (fitted[i] - w[order[i]])
            if stopped >= 0:  # as far as all stay positive; who would be negative first is left out
                w[stopped] = 0.0
                used[stopped] = False
                continue
            best, most = -1, ROUNDING * _length(r)
            for i in range(count):
                if not used[i]:
                    w[i] = 0.0
                    size = _length(a[i])
                    along = _product(a[i], r) / size if size > 0.0 else 0.0
                    if along > most:
                        best, most = i, along
            if best < 0:
                break
            used[best] = True  # left out before, and now it would help
        _copy(targets[b], r)
        for i in range(count):
            _less(r, w[i], a[i])


@compiled()
def _least_squares(y, a, used, basis, upper, fitted, order, r):
    """Weights of the vectors in use, of any sign: ``fitted[i]`` is that of vector ``order[i]``; returns how many.

    What the fit leaves is in ``r``. A vector that others in use make up is not in use any more.
    """
    m = 0
    _copy(y, r)
    for i in range(len(used)):
        if not used[i]:
            continue
        q = basis[m]
        _copy(a[i], q)
        for j in range(m):
            upper[j, m] = 0.0
        for _ in range(2):
            for j in range(m):
                part = _product(basis[j], q)
                upper[j, m] += part
                _less(q, part, basis[j])
        left = _length(q)
        if left <= _DEPENDENT * _length(a[i]):
            used[i] = False
            continue
        for f in range(len(q)):
            q[f] /= left
        upper[m, m] = left
        fitted[m] = _product(q, r)
        _less(r, fitted[m], q)
        order[m] = i
        m += 1
    for i in range(m - 1, -1, -1):
        for j in range(i + 1, m):
            fitted[i] -= upper[i, j] * fitted[j]
        fitted[i] /= upper[i, i]
    return m


@compiled()
def _copy(a, b):
    """Write the numbers of a to b."""
    for f in range(len(a)):
        b[f] = a[f]


@compiled()
def _less(a, weight, b):
    """Take a multiple of b from a."""
    for f in range(len(a)):
        a[f] -= weight * b[f]


@compiled()
def _product(a, b):
    return dot(a, 0, b, 0, len(a))


@compiled()
def _length(a):
    return math.sqrt(_product(a, a))
