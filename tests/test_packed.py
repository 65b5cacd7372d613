"""Neighbours come back from a packed Dataset as they were, and a file of one is smaller than the Dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from attnxr import saved
from attnxr.errors import InputError
from attnxr.packed import pack, unpack
from tests.support.cases import Case


@pytest.fixture(scope="module")
def near(bert: Case) -> xr.Dataset:
    return bert.model.neighbors(bert.enc, k=9)


def test_each_token_is_there_once(near: xr.Dataset) -> None:
    packed = pack(near)
    assert not {"neighbor", "neighbor_text"} & set(packed.variables)
    ids = sorted(set(near.neighbor_id.values.ravel().tolist()))
    assert packed.table_id.values.tolist() == ids
    of_id = dict(zip(near.neighbor_id.values.ravel(), near.neighbor.values.ravel(), strict=True))
    assert packed.table_token.values.tolist() == [of_id[i] for i in ids]
    xr.testing.assert_identical(unpack(packed), near)
    assert unpack(near) is near
    assert pack(near.drop_vars(["neighbor", "neighbor_text"])).equals(near.drop_vars(["neighbor", "neighbor_text"]))


@pytest.mark.parametrize(
    "select",
    [
        lambda near: near.isel(layer=1, head=2),
        lambda near: near.isel(layer=0, head=0, position=0, rank=0),
        lambda near: near.isel(position=[3, 1], rank=slice(2)),
        lambda near: near.drop_vars("neighbor_text"),
    ],
)
def test_selections_come_back_too(near: xr.Dataset, select: Any) -> None:
    xr.testing.assert_identical(unpack(pack(select(near))), select(near))


def test_selecting_may_come_first_or_last(near: xr.Dataset) -> None:
    chosen = {"layer": [1], "position": [4, 2]}
    xr.testing.assert_identical(unpack(pack(near).isel(chosen)), near.isel(chosen))


def test_the_stream_has_no_heads(bert: Case) -> None:
    near = bert.model.neighbors(bert.enc, k=4, of="hidden", space="embedding")
    xr.testing.assert_identical(unpack(pack(near)), near)


def test_strings_that_are_not_those_of_the_ids_stay(near: xr.Dataset) -> None:
    changed = near.copy(deep=True)
    changed["neighbor_text"][0, 0, 0, 0] = "another"
    assert pack(changed) is changed


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4", "zarr"])
def test_a_file_of_it_is_smaller_than_the_dataset(near: xr.Dataset, tmp_path: Path, engine: Any) -> None:
    many = xr.concat([near.assign_coords(layer=near["layer"] + 3 * i) for i in range(8)], "layer", data_vars="all")
    if engine == "zarr":
        pack(many).to_zarr(tmp_path / "it", consolidated=False)
        again = unpack(xr.load_dataset(tmp_path / "it", engine="zarr", consolidated=False))
    else:
        pack(many).to_netcdf(tmp_path / "it", engine=engine)
        again = unpack(xr.load_dataset(tmp_path / "it", engine=engine))
        many.to_netcdf(tmp_path / "plain", engine=engine)
        size = (tmp_path / "it").stat().st_size
        assert size < many.nbytes
        assert 3 * size < (tmp_path / "plain").stat().st_size
    xr.testing.assert_identical(again, many)


def test_what_the_library_packs_is_read(near: xr.Dataset, bert: Case, tmp_path: Path) -> None:
    pack(near).to_netcdf(tmp_path / "it.nc")
    xr.testing.assert_identical(saved.read(tmp_path / "it.nc").neighbors, near)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda packed: packed.isel(table=slice(1, None)), "lacks one"),
        (lambda packed: packed.isel(table=slice(None, None, -1)), "ascending"),
        (lambda packed: packed.isel(table=[0, 0]), "ascending"),
        (lambda packed: packed.isel(table=[]), "lacks one"),
        (lambda packed: packed.assign(table_id=packed.table_id.astype("float64")), "dtype float64"),
        (lambda packed: packed.assign(table_token=packed.table_id), "expected str"),
        (lambda packed: packed.assign(table_id=packed.table_id.expand_dims("x")), "has dimensions"),
        (lambda packed: packed.drop_vars("neighbor_id"), "no 'neighbor_id'"),
    ],
)
def test_what_is_no_table_is_refused(near: xr.Dataset, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        unpack(change(pack(near)))


def test_a_table_in_a_file_is_held_to_the_same_limits(near: xr.Dataset, tmp_path: Path, monkeypatch: Any) -> None:
    packed = pack(near)
    long = packed.table_token.values.copy()
    long[0] = "x" * 5000
    packed.assign(table_token=("table", long)).to_netcdf(tmp_path / "long.nc")
    with pytest.raises(InputError, match="longer than 4096"):
        saved.read(tmp_path / "long.nc")
    packed.isel(table=slice(1, None)).to_netcdf(tmp_path / "it.nc")
    with pytest.raises(InputError, match="lacks one"):
        saved.read(tmp_path / "it.nc")
    # What the strings take once they are put together counts too.
    packed.to_netcdf(tmp_path / "whole.nc")
    without = sum(each.size * max(each.dtype.itemsize, 8) for each in packed.variables.values())
    monkeypatch.setattr(saved, "MOST_BYTES", without + np.prod(near.neighbor_id.shape) * 16 - 1)
    with pytest.raises(InputError, match="MiB unpacked"):
        saved.read(tmp_path / "whole.nc")
