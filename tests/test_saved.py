"""A file of encodings and neighbours comes back as it was; anything else is refused with a clear message."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import saved
from attnxr.errors import InputError
from tests.cases import Case


@pytest.fixture(scope="module")
def near(bert: Case) -> xr.Dataset:
    return bert.model.neighbors(bert.enc, k=3)


@pytest.fixture
def file(tmp_path: Path, bert: Case, near: xr.Dataset) -> Path:
    path = tmp_path / "it.nc"
    path.write_bytes(saved.write(bert.enc, near))
    return path


def test_both_come_back_as_they_were(file: Path, bert: Case, near: xr.Dataset) -> None:
    for found in (saved.read(file), saved.read_apart(file)):
        assert found.encodings is not None
        assert found.neighbors is not None
        xr.testing.assert_identical(found.encodings, bert.enc)
        xr.testing.assert_identical(found.neighbors, near)
    assert found.attrs["model"] == bert.enc.attrs["model"]


def test_xarray_opens_each_group_as_it_was(file: Path, bert: Case, near: xr.Dataset) -> None:
    for group, dataset in (("encodings", bert.enc), ("neighbors", near)):
        with xr.open_dataset(file, group=group) as opened:
            xr.testing.assert_identical(opened.load(), dataset)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_what_the_library_saves_is_read(tmp_path: Path, bert: Case, near: xr.Dataset, engine: Any) -> None:
    bert.enc.to_netcdf(tmp_path / "encodings.nc", engine=engine)
    near.to_netcdf(tmp_path / "neighbors.nc", engine=engine)
    encodings, neighbors = (saved.read(tmp_path / f"{name}.nc") for name in ("encodings", "neighbors"))
    assert encodings.neighbors is neighbors.encodings is None
    xr.testing.assert_identical(encodings.encodings, bert.enc)
    xr.testing.assert_identical(neighbors.neighbors, near)


def test_a_file_of_a_format_without_64_bit_integers_is_read(tmp_path: Path, bert: Case, near: xr.Dataset) -> None:
    for dataset, name in ((bert.enc, "encodings"), (near, "neighbors")):
        dataset.to_netcdf(tmp_path / "it.nc", engine="netcdf4", format="NETCDF4_CLASSIC")
        found = getattr(saved.read(tmp_path / "it.nc"), name)
        assert found["token_id"].dtype == np.int32
        xr.testing.assert_equal(found, dataset)
    again = saved.read(tmp_path / "it.nc").neighbors
    xr.testing.assert_equal(attnxr.origins(again), attnxr.origins(near))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("folder", ["", "near.zarr"])
def test_a_zarr_store_is_read_from_a_zip(tmp_path: Path, near: xr.Dataset, version: Any, folder: str) -> None:
    store = tmp_path / "zipped" / folder
    plain = near.drop_encoding()
    for name in ("token", "text", "neighbor", "neighbor_text"):  # Zarr 3 has strings of a fixed length, not any object
        plain[name] = plain[name].astype(str)
    if version == 2:
        plain.to_zarr(store, consolidated=False, zarr_format=2)
    else:
        near.to_zarr(store, consolidated=False, zarr_format=3)
    found = saved.read(shutil.make_archive(str(tmp_path / "near"), "zip", tmp_path / "zipped"))
    assert found.neighbors is not None
    xr.testing.assert_equal(found.neighbors, near)
    assert found.neighbors.attrs == near.attrs


def test_a_zarr_codec_that_runs_code_is_refused(tmp_path: Path, near: xr.Dataset) -> None:
    near[["own_rank", "neighbor_id"]].reset_coords(drop=True).to_zarr(tmp_path / "s", consolidated=False, zarr_format=2)
    metadata = tmp_path / "s" / "own_rank" / ".zarray"
    described = json.loads(metadata.read_text()) | {"filters": [{"id": "pickle", "protocol": 5}]}
    metadata.write_text(json.dumps(described))
    with pytest.raises(InputError, match="codec 'pickle'"):
        saved.read(shutil.make_archive(str(tmp_path / "s"), "zip", tmp_path / "s"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither NetCDF-4"),
        (b"\x80\x05cos\nsystem\n", "neither NetCDF-4"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 4000, "cannot be read"),
        (b"PK\x03\x04" + b"\0" * 4000, "cannot be read"),
        (b"CDF\x01" + b"\0" * 4000, "neither NetCDF-4"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "it").write_bytes(content)
    with pytest.raises(InputError, match=message):
        saved.read(tmp_path / "it")


def test_a_cut_file_and_a_zip_without_a_store_are_refused(tmp_path: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"cannot be read|brought its reader down"):
        saved.read_apart(file)
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(InputError, match="no Zarr store"):
        saved.read(tmp_path / "it.zip")


def test_other_datasets_are_refused(tmp_path: Path) -> None:
    xr.Dataset({"temperature": ("time", np.zeros(3))}).to_netcdf(tmp_path / "it.nc")
    with pytest.raises(InputError, match="neither 'encoding' nor 'neighbor_id'"):
        saved.read(tmp_path / "it.nc")


def test_a_file_that_swells_is_refused_before_it_does(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "it.nc", "w") as file:  # some kilobytes, and 4 TiB unpacked
        file.create_dataset("encoding", (1 << 20, 1 << 20), "float32", chunks=(1024, 1024))
    with pytest.raises(InputError, match="MiB unpacked"):
        saved.read(tmp_path / "it.nc")


def test_strings_that_swell_are_refused(tmp_path: Path, file: Path) -> None:
    with h5py.File(file, "a") as opened:
        opened["neighbors/token"][0] = "x" * 5000
    with pytest.raises(InputError, match="longer than 4096"):
        saved.read(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda near: near.drop_vars("token_id"), "no 'token_id'"),
        (lambda near: near.assign(own_rank=near.own_rank.astype("float32")), "dtype float32; expected int32"),
        (lambda near: near.assign(own_rank=near.own_rank.isel(head=0)), "'own_rank' has dimensions"),
        (lambda near: near.assign(distance=near.distance * np.float32("nan")), "infinite or NaN"),
        (lambda near: near.assign_attrs(fingerprint=3), "attrs\\['fingerprint'\\]"),
        (lambda near: near.assign_attrs(token_ids="[[[[[1"), "no lists of numbers"),
        (lambda near: near.assign_attrs(token_ids="[[1, 2]]"), "token ids"),
        (lambda near: near.assign_attrs(token_ids="7"), "no lists of numbers"),
    ],
)
def test_a_dataset_that_is_not_as_declared_is_refused(
    tmp_path: Path, near: xr.Dataset, change: Any, message: str
) -> None:
    change(near).to_netcdf(tmp_path / "it.nc")
    with pytest.raises(InputError, match=message):
        saved.read(tmp_path / "it.nc")


def test_datasets_of_two_texts_in_one_file_are_refused(tmp_path: Path, bert: Case, near: xr.Dataset) -> None:
    (tmp_path / "it.nc").write_bytes(saved.write(bert.enc.assign_attrs(fingerprint="another"), near))
    with pytest.raises(InputError, match="differ in attrs\\['fingerprint'\\]"):
        saved.read(tmp_path / "it.nc")
