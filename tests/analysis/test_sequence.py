"""Distances between the positions of a text."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from tests.support import oracles
from tests.support.cases import Case


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_equals_the_definition(case: Case, metric: str) -> None:
    dist = attnxr.sequence_distances(case.enc, metric=metric).distance
    assert dist.dims == ("layer", "head", "position", "other_position")
    assert dist.dtype == np.float32
    encoding = case.enc["head_encoding"].values
    true = oracles.sequence_distances(metric, encoding)
    for index in np.ndindex(*encoding.shape[:2]):
        tolerance = oracles.tolerances(metric, encoding[index], encoding[index])
        assert (np.abs(dist.values[index] - true[index]) <= tolerance).all()


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "centered_cosine"])
def test_is_symmetric_and_zero_to_itself(case: Case, metric: str) -> None:
    dist = attnxr.sequence_distances(case.enc, metric=metric).distance.values
    np.testing.assert_allclose(dist, dist.swapaxes(-1, -2), atol=1e-6)
    np.testing.assert_allclose(np.diagonal(dist, axis1=-2, axis2=-1), 0, atol=1e-6)
    assert (dist >= 0).all()


def test_names_both_tokens(tiny: Case) -> None:
    out = attnxr.sequence_distances(tiny.enc)
    assert out.attrs["metric"] == "cosine"
    for name in ("token", "text"):
        assert out[f"other_{name}"].dims == ("other_position",)
        assert out[f"other_{name}"].values.tolist() == tiny.enc[name].values.tolist()
        assert out[name].values.tolist() == tiny.enc[name].values.tolist()


def test_a_zero_vector_has_cosine_zero_to_everything(tiny: Case) -> None:
    enc = tiny.enc.copy(deep=True)
    enc["head_encoding"][{"position": 2}] = 0
    dist = attnxr.sequence_distances(enc, metric="cosine").distance
    assert (dist.isel(position=2) == 1).all()
    assert (dist.isel(other_position=2) == 1).all()


def test_a_slice_gives_the_slice(tiny: Case) -> None:
    whole = attnxr.sequence_distances(tiny.enc, metric="euclidean")
    part = attnxr.sequence_distances(tiny.enc.isel(layer=[1], head=[0, 2]), metric="euclidean")
    xr.testing.assert_identical(part, whole.isel(layer=[1], head=[0, 2]))


def test_survives_huge_and_tiny_encodings(tiny: Case) -> None:
    for factor in (1e-30, 1e30):
        scaled = tiny.enc.assign(head_encoding=tiny.enc["head_encoding"] * np.float32(factor))
        found = attnxr.sequence_distances(scaled, metric="cosine").distance
        np.testing.assert_allclose(found, attnxr.sequence_distances(tiny.enc, metric="cosine").distance, atol=1e-6)


def test_refuses_an_unknown_metric_and_a_foreign_dataset(tiny: Case) -> None:
    with pytest.raises(InputError, match="manhattan"):
        attnxr.sequence_distances(tiny.enc, metric="manhattan")
    with pytest.raises(InputError, match="encoding"):
        attnxr.sequence_distances(tiny.enc.drop_vars("head_encoding"))


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_neighbours_equal_the_definition(case: Case, metric: str) -> None:
    near = attnxr.sequence_neighbors(case.enc, k=3, metric=metric)
    encoding = case.enc["head_encoding"].values
    true = oracles.sequence_distances(metric, encoding)
    others = np.arange(encoding.shape[2])
    true[..., others, others] = np.inf  # itself is no neighbour
    for index in np.ndindex(*encoding.shape[:2]):
        tolerance = oracles.tolerances(metric, encoding[index], encoding[index])
        found = near.isel(layer=index[0], head=index[1])
        oracles.check_neighbors(found.neighbor_position.values, found.distance.values, true[index], tolerance)
    np.testing.assert_array_equal(near.neighbor.values, case.enc.token.values[near.neighbor_position.values])
    np.testing.assert_array_equal(near.neighbor_text.values, case.enc.text.values[near.neighbor_position.values])
    assert near.distance.dims == ("layer", "head", "position", "rank")
    assert near["rank"].values.tolist() == [1, 2, 3]


@pytest.mark.parametrize("metric", ["euclidean", "centered_cosine"])
def test_neighbours_are_of_the_same_text(tiny: Case, metric: str) -> None:
    texts = [tiny.text, "A dog!", "Fruit flies like a banana."]
    together = tiny.model.encode(texts)
    mixed = together.isel(position=np.random.default_rng(0).permutation(together.sizes["position"]))
    for enc in (together, mixed):
        near = attnxr.sequence_neighbors(enc, k=2, metric=metric)
        xr.testing.assert_identical(near.position, enc.position)
        for i in range(len(texts)):
            alone = together.isel(position=together.text_id.values == i)
            expected = attnxr.sequence_neighbors(alone, k=2, metric=metric)
            xr.testing.assert_identical(near.sel(position=alone.position), expected)


def test_of_equally_near_positions_the_earlier_comes_first(tiny: Case) -> None:
    enc = tiny.enc.copy(deep=True)
    enc["head_encoding"][:] = 1
    near = attnxr.sequence_neighbors(enc, k=3)
    assert near.neighbor_position[0, 0, :4].values.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_there_are_no_more_neighbours_than_other_positions(tiny: Case) -> None:
    n = tiny.enc.sizes["position"]
    assert attnxr.sequence_neighbors(tiny.enc, k=n - 1).sizes["rank"] == n - 1
    for k in (0, n, "all"):
        with pytest.raises(InputError, match=f"k={k!r}"):
            attnxr.sequence_neighbors(tiny.enc, k=k)
    several = tiny.model.encode([tiny.text, "A dog!"])
    shortest = int((several.text_id == 1).sum())
    with pytest.raises(InputError, match=f"shortest text has {shortest}"):
        attnxr.sequence_neighbors(several, k=shortest)
