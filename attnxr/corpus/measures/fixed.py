"""Sums that depend on no order: fixed-point numbers, with 52 bits after the point, in two int64 each.

A sum of float64 numbers depends on the order they are added in. Here each number is rounded once, to a multiple of
2⁻⁵², and whole numbers are added, which is exact: the same however the numbers are grouped.
"""

import numpy as np
from numpy.typing import NDArray

_BITS = 52
_SCALE = 2.0**_BITS


def zeros(*shape: int) -> NDArray[np.int64]:
    """Sums of nothing: int64 (…, 2), the whole part and the rest."""
    return np.zeros((*shape, 2), np.int64)


def add(total: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    """Add finite numbers (…), below 2⁶² in all, to sums (…, 2) in place."""
    whole = np.floor(values)
    total[..., 0] += whole.astype(np.int64)
    total[..., 1] += np.rint((values - whole) * _SCALE).astype(np.int64)
    _carry(total)


def plus(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Both sums together."""
    total = first + second
    _carry(total)
    return total


def value(total: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums (…, 2) as float64 (…)."""
    return total[..., 0] + total[..., 1] / _SCALE


def _carry(total: NDArray[np.int64]) -> None:
    total[..., 0] += total[..., 1] >> _BITS
    total[..., 1] &= (1 << _BITS) - 1
