"""Both ends of the vocabulary, against a sort of all products in float64."""

from __future__ import annotations

import numpy as np
import pytest

from attnxr.search.ends import ends


@pytest.mark.parametrize(("entries", "features", "k"), [(300, 8, 5), (300, 8, 300), (5000, 33, 7), (1, 3, 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_ends_are_those_of_a_sort(entries: int, features: int, k: int, ties: bool) -> None:
    """With ties many entries are the same, and longer than others, so that float32 does not tell them apart."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((entries, features)).astype(np.float32)
    if ties:
        rows[entries // 3 : entries // 2] = 4 * rows[0]
        rows[0] = 4 * rows[0]
    vectors = rng.standard_normal((700, features))
    told: list[float] = []
    high_ids, high, low_ids, low = ends(rows, vectors, k, told.append)
    products = vectors @ rows.astype(np.float64).T
    order = np.sort(products, axis=1)
    np.testing.assert_allclose(high, order[:, ::-1][:, :k], atol=1e-11)
    np.testing.assert_allclose(low, order[:, :k], atol=1e-11)
    for ids, values in ((high_ids, high), (low_ids, low)):
        np.testing.assert_allclose(np.take_along_axis(products, ids.astype(int), 1), values, atol=1e-11)
        assert (np.diff(np.sort(ids, axis=1), axis=1) > 0).all()
    assert told[-1] == 1
