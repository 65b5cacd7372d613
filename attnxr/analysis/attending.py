"""Sums over attention that make the roles of heads, taken in one pass over the weights, in float64."""

import math

import numpy as np
from numpy.typing import NDArray

from attnxr.search.compiled import compiled

MEASURES = (
    "self_attention_score",
    "prev_token_score",
    "next_token_score",
    "duplicate_token_score",
    "induction_score",
    "first_token_score",
    "special_token_score",
    "pattern_entropy",
    "qk_distance",
    "qk_distance_variance",  # until `means` has it: the mean of squares
)
_LEAST = 0.01  # of weights that count as induction
_ROOT, _LOG_2 = math.sqrt(2), math.log(2)


def places_of_same(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the token of each place stands the time before, and the next time: int64 (2, …, n); −1 for nowhere.

    Parameters
    ----------
    ids : int64 array (…, n)
        Of texts of one length.
    """
    flat = ids.reshape(-1, ids.shape[-1])
    out = np.full((2, *flat.shape), -1)
    order = np.argsort(flat, axis=-1, kind="stable")
    along = np.take_along_axis(flat, order, axis=-1)
    text, at = np.nonzero(along[:, 1:] == along[:, :-1])
    out[0, text, order[text, at + 1]] = order[text, at]
    out[1, text, order[text, at]] = order[text, at + 1]
    return out.reshape(2, *ids.shape)


def counts(
    places: NDArray[np.int64], same: NDArray[np.int64], special: NDArray[np.bool_], causal: bool
) -> NDArray[np.int64]:
    """Over how many positions each of the measures is: int64 (measure,).

    Parameters
    ----------
    places : int64 array (r,)
        The positions that attend.
    same : int64 array (2, t, n)
        As of `places_of_same`.
    special : bool array (t, n)
    causal : bool
        Whether they see only themselves and what stands before them.
    """
    before, after = same[..., places]
    texts, n = special.shape
    sees_special = special.cumsum(axis=1)[:, places if causal else np.full(len(places), n - 1)] > 0
    has_next = np.zeros(len(places), bool) if causal else places < n - 1
    each = np.full(len(MEASURES), texts * len(places))
    each[1] = each[5] = texts * (places > 0).sum()
    each[2] = texts * has_next.sum()
    each[3] = ((before >= 0) | ((after >= 0) & (not causal))).sum()
    each[4] = (before >= 0).sum()
    each[6] = sees_special.sum()
    return each


def sums(
    weights: NDArray[np.float32],
    places: NDArray[np.int64],
    same: NDArray[np.int64],
    special: NDArray[np.bool_],
    causal: bool,
) -> NDArray[np.float64]:
    """Sums over the positions of each of the measures: float64 (head, measure).

    Parameters
    ----------
    weights : float32 array (t, head, r, n)
        Of texts of one length, in one layer.
    places, same, special, causal
        As of `counts`.
    """
    weights = np.ascontiguousarray(weights)
    out = np.zeros((weights.shape[1], len(MEASURES)))
    _add(weights, weights.view(np.int32), places, same[0], same[1], special, causal, out)
    return out


def means(total: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """The measures, of their sums (…, measure); NaN where they are over no positions."""
    found = total / np.where(count > 0, count, np.nan)
    found[..., -1] -= found[..., -2] ** 2
    return found


@compiled(error_model="numpy")
def _add(weights, bits, places, before, after, special, causal, out):
    """Add the sums of `weights` (t, head, r, n), whose bits are `bits`, to `out` (head, measure).

    Loops over keys add to a column each, so that they can be taken several at a time and no sum is regrouped.
    """
    texts, heads, rows, n = weights.shape
    ahead, column, entropy = np.empty(2 * n - 1), np.empty(n), np.empty(n)
    for t in range(texts):
        for h in range(heads):
            ahead[:], column[:], entropy[:] = 0, 0, 0  # by key − query + n − 1; by key
            duplicate, induction, first = 0.0, 0.0, 0.0
            for r in range(rows):
                place = places[r]
                row, end = weights[t, h, r], place + 1 if causal else n
                _add_row(row, bits[t, h, r], ahead[n - 1 - place :], column, entropy, end)
                if place > 0:
                    first += row[0]
                p = before[t, place]
                while p >= 0:
                    duplicate += row[p]
                    follower = np.float64(row[p + 1])
                    if follower >= _LEAST:
                        induction += follower
                    p = before[t, p]
                p = after[t, place]
                while p >= 0 and not causal:
                    duplicate += row[p]
                    p = after[t, p]
            out[h, 0] += ahead[n - 1]
            if n > 1:
                out[h, 1] += ahead[n - 2]
                out[h, 2] += ahead[n]
            out[h, 3] += duplicate
            out[h, 4] += induction
            out[h, 5] += first
            for k in range(n):
                if special[t, k]:
                    out[h, 6] += column[k]
            out[h, 7] += entropy.sum()
            for i in range(2 * n - 1):
                away = abs(i - (n - 1))
                out[h, 8] += ahead[i] * away
                out[h, 9] += ahead[i] * away * away


@compiled(error_model="numpy")
def _add_row(row, bits, ahead, column, entropy, end):
    """Add one row of weights w to the columns, and −w ln w.

    A float32 has its exponent and its mantissa one after the other, so that its bits, read as a whole number, tell its
    logarithm but for a part of the mantissa m: ln m = 2 artanh((m − 1) / (m + 1)), with m between √½ and √2, of
    whose series nine terms are as exact as float64.
    """
    for k in range(end):
        w = np.float64(row[k])
        ahead[k] += w
        column[k] += w
    for k in range(end):
        w = np.float64(row[k])
        power = np.float64(bits[k]) * 2.0**-23 - 127.0
        whole = np.floor(power)
        part = power - whole
        large = 1.0 if part > _ROOT - 1 else 0.0
        m = (1.0 + part) * (1.0 - 0.5 * large)
        s = (m - 1.0) / (m + 1.0)
        square = s * s
        series = 1 / 17
        series = series * square + 1 / 15
        series = series * square + 1 / 13
        series = series * square + 1 / 11
        series = series * square + 1 / 9
        series = series * square + 1 / 7
        series = series * square + 1 / 5
        series = series * square + 1 / 3
        series = series * square + 1.0
        entropy[k] -= w * ((whole + large) * _LOG_2 + 2.0 * s * series)
