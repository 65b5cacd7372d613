"""What all analyses share: Datasets that say what they mean, come back from files, and leave what they are given."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import schema
from tests.support.cases import Case
from tests.support.families import FAMILIES
from tests.test_schema import every_format

HEAD = ("layer", "head", "position")
ANALYSES: dict[str, Callable[[xr.Dataset, xr.Dataset, xr.Dataset], xr.Dataset]] = {
    "trajectories": lambda enc, near, stream: attnxr.trajectories(near, stream),
    "overlap consecutive": lambda enc, near, stream: attnxr.overlap(near),
    "overlap layers": lambda enc, near, stream: attnxr.overlap(near, between="layers"),
    "overlap heads": lambda enc, near, stream: attnxr.overlap(near, between="heads"),
    "origins": lambda enc, near, stream: attnxr.origins(near, enc),
    "sequence neighbors": lambda enc, near, stream: attnxr.sequence_neighbors(enc, k=3),
    "words of encodings": lambda enc, near, stream: attnxr.words(enc),
    "words of neighbors": lambda enc, near, stream: attnxr.words(near),
    "compare": lambda enc, near, stream: attnxr.comparison(near, near, enc, enc),
}
SPECS = {
    "trajectories": schema.TRAJECTORIES,
    "overlap consecutive": schema.CONSECUTIVE_OVERLAP,
    "overlap layers": schema.LAYER_OVERLAP,
    "overlap heads": schema.HEAD_OVERLAP,
    "origins": schema.ORIGINS,
    "sequence neighbors": schema.SEQUENCE_NEIGHBORS,
    "compare": schema.COMPARISON,
}
every_analysis = pytest.mark.parametrize("name", ANALYSES)


@pytest.fixture(scope="module")
def given(roberta: Case) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    near, stream = (
        roberta.model.neighbors(roberta.enc, k=6, of=of, space=space)
        for of, space in (("encoding", "value"), ("hidden", "embedding"))
    )
    return roberta.enc, near, stream


@every_analysis
def test_every_variable_is_declared_and_says_what_it_means(given: Any, name: str) -> None:
    found = ANALYSES[name](*given)
    assert all(found[variable].attrs["description"] for variable in found.variables)
    kept = {key: value for key, value in given[1].attrs.items() if key != "k"}
    assert kept.items() <= found.attrs.items() or name.startswith(("sequence", "words of enc"))
    if name in SPECS:
        assert set(found.data_vars) == set(SPECS[name]) - set(found.coords)
        assert set(SPECS[name]) <= set(found.variables)
        for variable, spec in SPECS[name].items():
            assert found[variable].dims == spec.dims
            assert found[variable].dtype == ("object" if spec.dtype == "str" else spec.dtype)


@every_format
@every_analysis
def test_round_trip(given: Any, tmp_path: Path, round_trip: Any, name: str) -> None:
    found = ANALYSES[name](*given)
    xr.testing.assert_identical(round_trip(found, tmp_path), found)


@every_analysis
def test_what_comes_from_a_file_gives_the_same(given: Any, tmp_path: Path, name: str) -> None:
    """Lazily, in dask chunks, as a corpus would be."""
    reloaded = []
    for i, dataset in enumerate(given):
        dataset.to_netcdf(tmp_path / f"{i}.nc", engine="h5netcdf")
        with xr.open_dataset(tmp_path / f"{i}.nc", engine="h5netcdf") as opened:
            reloaded.append(opened.load().chunk(layer=1))
    found = ANALYSES[name](*reloaded)
    xr.testing.assert_identical(found.load(), ANALYSES[name](*given))


@every_analysis
def test_what_is_given_is_not_changed(given: Any, name: str) -> None:
    before = [dataset.copy(deep=True) for dataset in given]
    found = ANALYSES[name](*given)
    for variable in (*found.data_vars, *found.coords):
        found[variable].attrs["long_name"] = "something else"
    for variable in found.data_vars:
        if found[variable].dtype.kind in "if":
            found[variable].values[...] = 0
    for dataset, copy in zip(given, before, strict=True):
        xr.testing.assert_identical(dataset, copy)


def test_heads_that_share_keys_and_values_are_compared_as_such() -> None:
    model = attnxr.Model(FAMILIES["qwen3"].build())
    assert model.n_kv_heads < model.n_heads
    enc = model.encode(token_ids=[11, 40, 23, 40, 57, 8], include=["value_vector"])
    near = model.neighbors(enc, k=5, of="value")
    dims = ("layer", "kv_head", "position")
    paths = attnxr.trajectories(near)
    assert paths.own_rank.dims == dims
    np.testing.assert_array_equal(paths.best_own_rank, near.own_rank.min("kv_head"))
    heads = attnxr.overlap(near, between="heads").overlap
    assert heads.dims == ("layer", "kv_head", "other_kv_head", "position")
    assert (heads.sel(kv_head=1, other_kv_head=1) == 1).all()
    found = attnxr.origins(near)
    assert found.origin.dims == dims
    assert (found.origin.sel(layer=0) == "own").all()
    assert attnxr.comparison(near, near).rbo.dims == dims
    for use in (attnxr.origins, lambda near, enc: attnxr.comparison(near, near, enc, enc)):
        with pytest.raises(attnxr.InputError, match="one head each"):
            use(near, enc)


def test_datasets_from_files_are_analysed_without_torch() -> None:
    names = "comparison, origins, overlap, sequence, trajectories, words"
    code = f"import sys; from attnxr.analysis import {names}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
