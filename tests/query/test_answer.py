"""Arrays (layer, head, position, …) become the Dataset of an answer, with heads and without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from attnxr import schema
from attnxr.errors import InputError
from attnxr.query.answer import Frame, in_sequence

COORDS = {"layer": [0, 3], "position": [0, 1, 2]}


def mean(heads: int) -> np.ndarray:
    return np.arange(2.0 * heads * 3 * 4).reshape(2, heads, 3, 4)


@pytest.mark.parametrize("dim", ["head", "kv_head"])
def test_vectors_with_heads_keep_them_by_their_name(dim: str) -> None:
    frame = Frame(("layer", dim, "position"), {**COORDS, dim: [0, 1]}, {"model": "tiny"})
    found = frame.dataset({"vocabulary_mean": mean(2)}, schema.MOMENTS, attrs={"k": 3})
    assert found["vocabulary_mean"].dims == ("layer", dim, "position", "feature")
    np.testing.assert_array_equal(found["vocabulary_mean"], mean(2))
    assert found.attrs == {"model": "tiny", "k": 3}
    assert found["vocabulary_mean"].attrs["long_name"] == schema.MOMENTS["vocabulary_mean"].long_name


def test_vectors_without_heads_have_no_such_dimension() -> None:
    frame = Frame(("layer", "position"), COORDS, {})
    found = frame.dataset({"vocabulary_mean": mean(1)}, schema.MOMENTS)
    assert found["vocabulary_mean"].dims == ("layer", "position", "feature")
    np.testing.assert_array_equal(found["vocabulary_mean"], mean(1)[:, 0])


def test_what_a_selection_dropped_the_answer_has_dropped() -> None:
    coords = {**COORDS, "layer": [3], "head": [0, 1]}
    frame = Frame(("layer", "head", "position"), coords, {}, ["layer"])
    found = frame.dataset({"vocabulary_mean": mean(2)[1:]}, schema.MOMENTS)
    assert found["vocabulary_mean"].dims == ("head", "position", "feature")
    assert found.layer == 3


def test_a_variable_that_is_not_computed_yet_stays_so() -> None:
    variable = xr.Variable(("layer", "head", "position", "vocab"), mean(1).astype(np.float32))
    frame = Frame(("layer", "position"), COORDS, {})
    found = frame.dataset({"distance": variable.chunk()}, schema.DISTANCES)
    assert found["distance"].chunks is not None
    assert found["distance"].dims == ("layer", "position", "vocab")


def test_an_answer_that_is_not_as_declared_is_refused() -> None:
    frame = Frame(("layer", "head", "position"), {**COORDS, "head": [0, 1]}, {})
    with pytest.raises(InputError, match="dtype float32"):
        frame.dataset({"vocabulary_mean": mean(2).astype(np.float32)}, schema.MOMENTS)


def test_in_sequence_looks_at_the_text_of_each_position() -> None:
    ids: Any = np.array([[[[5, 6], [5, 6], [7, 5]]]], np.int32)
    found = in_sequence(ids, [[5, 1], [6]], np.array([0, 1, 0]))
    np.testing.assert_array_equal(found[0, 0], [[True, False], [False, True], [False, True]])
