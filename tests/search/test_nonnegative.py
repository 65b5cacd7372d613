"""Non-negative least squares, continued from one vector to the next, is SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from attnxr.search.nonnegative import refit
from tests.support.oracles import Array


def continued(targets: Array, vectors: Array, going: Array | None = None) -> tuple[Array, Array]:
    """Weights (B, m) and what is left (B, d) after vectors were added one by one."""
    weights, rest = np.zeros(vectors.shape[:2]), targets.copy()
    going = np.ones(len(targets), bool) if going is None else going
    for count in range(1, vectors.shape[1] + 1):
        refit(targets, vectors, count, going, weights, rest)
    return weights, rest


@pytest.mark.parametrize(("m", "d"), [(1, 1), (3, 5), (6, 32), (12, 12), (10, 400)])
def test_equals_scipys(m: int, d: int) -> None:
    rng = np.random.default_rng(m)
    targets = rng.standard_normal((200, d))
    vectors = rng.standard_normal((200, m, d)) + rng.uniform(0, 2, (200, 1, 1)) * targets[:, None]
    weights, rest = continued(targets, vectors)
    zeros = 0
    for y, a, w, r in zip(targets, vectors, weights, rest, strict=True):
        expected, left = scipy.optimize.nnls(a.T, y)
        np.testing.assert_allclose(w, expected, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(r, y - w @ a, atol=1e-12)
        assert abs(np.linalg.norm(r) - left) < 1e-9
        zeros += (w == 0).sum()
    if m > 1:
        assert zeros > 5  # vectors that are left out again are among them


def test_what_was_left_out_comes_back() -> None:
    """In some of the problems a weight becomes 0 when one vector is added, and positive when another one is."""
    rng = np.random.default_rng(5)
    targets = rng.standard_normal((2000, 4))
    vectors = rng.standard_normal((2000, 4, 4)) + 0.5 * targets[:, None]
    back = 0
    was_zero = np.zeros((2000, 4), bool)
    weights, rest = np.zeros((2000, 4)), targets.copy()
    for count in range(1, 5):
        refit(targets, vectors, count, np.ones(2000, bool), weights, rest)
        back += (was_zero[:, : count - 1] & (weights[:, : count - 1] > 0)).sum()
        was_zero[:, :count] = weights[:, :count] == 0
        for b in range(0, 2000, 10):
            expected, _ = scipy.optimize.nnls(vectors[b, :count].T, targets[b])
            np.testing.assert_allclose(weights[b, :count], expected, rtol=1e-6, atol=1e-9)
    assert back > 5


def test_the_same_vector_twice_and_vectors_of_no_length_do_no_harm() -> None:
    rng = np.random.default_rng(6)
    targets, vectors = rng.standard_normal((50, 6)), rng.standard_normal((50, 5, 6))
    vectors[:, 2] = vectors[:, 0]
    vectors[:, 3] = 0
    vectors[:, 4] = vectors[:, 0] + vectors[:, 1]
    weights, rest = continued(targets, vectors)
    assert (weights >= 0).all()
    for y, a, w, r in zip(targets, vectors, weights, rest, strict=True):
        _, left = scipy.optimize.nnls(a[:3].T, y)
        np.testing.assert_allclose(r, y - w @ a, atol=1e-12)
        assert abs(np.linalg.norm(r) - scipy.optimize.nnls(a[[0, 1, 4]].T, y)[1]) < 1e-9
        assert np.linalg.norm(r) <= left + 1e-9


def test_what_does_not_go_on_stays() -> None:
    rng = np.random.default_rng(7)
    targets, vectors = rng.standard_normal((20, 5)), rng.standard_normal((20, 3, 5))
    going = np.arange(20) % 2 == 0
    weights, rest = continued(targets, vectors, going)
    assert (weights[~going] == 0).all()
    np.testing.assert_array_equal(rest[~going], targets[~going])
    assert (weights[going] > 0).any()
