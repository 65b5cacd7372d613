"""Distances between the positions of a text."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from tests import oracles
from tests.cases import Case


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_equals_the_definition(case: Case, metric: str) -> None:
    dist = attnxr.sequence_distances(case.enc, metric).distance
    assert dist.dims == ("layer", "head", "position", "other_position")
    assert dist.dtype == np.float32
    encoding = case.enc["encoding"].values
    true = oracles.sequence_distances(metric, encoding)
    for index in np.ndindex(*encoding.shape[:2]):
        tolerance = oracles.tolerances(metric, encoding[index], encoding[index])
        assert (np.abs(dist.values[index] - true[index]) <= tolerance).all()


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "centered_cosine"])
def test_is_symmetric_and_zero_to_itself(case: Case, metric: str) -> None:
    dist = attnxr.sequence_distances(case.enc, metric).distance.values
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
    enc["encoding"][{"position": 2}] = 0
    dist = attnxr.sequence_distances(enc, "cosine").distance
    assert (dist.isel(position=2) == 1).all()
    assert (dist.isel(other_position=2) == 1).all()


def test_a_slice_gives_the_slice(tiny: Case) -> None:
    whole = attnxr.sequence_distances(tiny.enc, "euclidean")
    part = attnxr.sequence_distances(tiny.enc.isel(layer=[1], head=[0, 2]), "euclidean")
    xr.testing.assert_identical(part, whole.isel(layer=[1], head=[0, 2]))


def test_survives_huge_and_tiny_encodings(tiny: Case) -> None:
    for factor in (1e-30, 1e30):
        scaled = tiny.enc.assign(encoding=tiny.enc["encoding"] * np.float32(factor))
        found = attnxr.sequence_distances(scaled, "cosine").distance
        np.testing.assert_allclose(found, attnxr.sequence_distances(tiny.enc, "cosine").distance, atol=1e-6)


def test_refuses_an_unknown_metric_and_a_foreign_dataset(tiny: Case) -> None:
    with pytest.raises(InputError, match="manhattan"):
        attnxr.sequence_distances(tiny.enc, "manhattan")
    with pytest.raises(InputError, match="encoding"):
        attnxr.sequence_distances(tiny.enc.drop_vars("encoding"))
