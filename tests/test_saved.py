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
import zarr

import attnxr
from attnxr import saved
from attnxr.errors import InputError
from tests.support.cases import Case


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


def test_xarray_opens_each_group(file: Path, bert: Case, near: xr.Dataset) -> None:
    for group, dataset in (("encodings", bert.enc), ("neighbors", near)):
        with xr.open_dataset(file, group=group) as opened:
            xr.testing.assert_identical(saved.unpack(opened.load()), dataset)


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


def test_a_file_of_netcdf_3_is_told_from_what_is_none(tmp_path: Path, near: xr.Dataset) -> None:
    near.to_netcdf(tmp_path / "it.nc", engine="netcdf4", format="NETCDF3_64BIT")
    with pytest.raises(InputError, match="open_dataset"):
        saved.read(tmp_path / "it.nc")
    with xr.open_dataset(tmp_path / "it.nc") as opened:
        xr.testing.assert_equal(attnxr.origins(opened), attnxr.origins(near))


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
    xr.testing.assert_identical(xr.Dataset(attrs=found.neighbors.attrs), xr.Dataset(attrs=near.attrs))


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
        (b"CDF\x01" + b"\0" * 4000, "of NetCDF 3"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "it").write_bytes(content)
    with pytest.raises(InputError, match=message):
        saved.read(tmp_path / "it")


def test_a_folder_is_refused_and_a_corpus_is_opened_otherwise(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder. Expected a NetCDF file"):
        saved.read(tmp_path)
    (tmp_path / "attnxr").mkdir()
    (tmp_path / "attnxr" / "plan.json").write_text("{}")
    with pytest.raises(InputError, match=r"of a corpus. Open a corpus with attnxr.open_corpus"):
        saved.read(tmp_path)


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
    with pytest.raises(InputError, match="neither 'head_encoding' nor 'neighbor_id'"):
        saved.read(tmp_path / "it.nc")


def test_a_file_that_swells_is_refused_before_it_does(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "it.nc", "w") as file:  # some kilobytes, and 4 TiB unpacked
        file.create_dataset("head_encoding", (1 << 20, 1 << 20), "float32", chunks=(1024, 1024))
    with pytest.raises(InputError, match="MiB unpacked"):
        saved.read(tmp_path / "it.nc")


@pytest.mark.parametrize("attrs", [{}, {"_Encoding": "utf-8"}])
def test_characters_that_swell_are_refused_before_they_do(tmp_path: Path, attrs: dict[str, str]) -> None:
    with h5py.File(tmp_path / "it.nc", "w") as file:  # four strings of a gigabyte, which are none until they are read
        file.create_dataset("neighbor_id", (4,), "int32")
        file.create_dataset("token", (4, 1 << 30), "S1", chunks=(1, 1 << 20)).attrs.update(attrs)
    with pytest.raises(InputError, match="MiB unpacked"):
        saved.read(tmp_path / "it.nc")
    store = zarr.create_group(tmp_path / "it.zarr", zarr_format=2)
    store.create_array("neighbor_id", shape=(4,), dtype="int32", attributes={"_ARRAY_DIMENSIONS": ["a"]})
    dims = {"_ARRAY_DIMENSIONS": ["a", "b"]}
    store.create_array("token", shape=(4, 1 << 30), dtype="S1", chunks=(1, 1 << 20), attributes=attrs | dims)
    with pytest.raises(InputError, match="MiB unpacked"):
        saved.read(shutil.make_archive(str(tmp_path / "it"), "zip", tmp_path / "it.zarr"))


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
        (lambda near: near.assign_attrs(token_ids="[[[[[1"), "whole number"),
        (lambda near: near.assign_attrs(token_ids=np.array([1, 2])), "joined"),
        (lambda near: near.assign_attrs(token_ids=np.array([0.5, 1])), "whole number"),
        (lambda near: near.assign_attrs(token_ids=near.attrs["token_ids"] - 1000), "whole number"),
        (lambda near: near.assign_attrs(token_ids=7), "joined"),
        (lambda near: near.assign_attrs(text_lengths=np.array([2, 1])), "do not add up"),
        (lambda near: near.assign_attrs(text_lengths=np.array([2, near.sizes["position"] - 2])), "no 'text_id'"),
        (lambda near: near.assign_attrs(text=5), "attrs\\['text'\\]"),
        (lambda near: near.assign_attrs({"token_ids": np.array([], np.int64)}), "whole number"),
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


def test_a_zip_of_many_entries_is_refused_before_they_are_looked_at(tmp_path: Path) -> None:
    def zipped(count: int) -> Path:
        with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
            for i in range(count):
                archive.writestr(f"{i}", b"")
        return tmp_path / "it.zip"

    with pytest.raises(InputError, match=r"11,000 entries; at most 10,000"):
        saved.read(zipped(11_000))
    whole = zipped(3).read_bytes()
    for forged, message in (
        (whole[:-10] + (3 << 20).to_bytes(4, "little") + whole[-6:], "list of entries of more than 2 MiB"),
        (whole[:-22] + b"PK\x06\x07" + bytes(16) + whole[-22:], "form of zips with more than 65,535"),
        (whole[:-10], "without its end"),
    ):
        (tmp_path / "it.zip").write_bytes(forged)
        with pytest.raises(InputError, match=message):
            saved.read(tmp_path / "it.zip")


def test_a_store_with_much_to_say_is_refused_before_it_says_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "it.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zarr.json", b"[" + b"0," * 30_000_000 + b"0]")
    with pytest.raises(InputError, match="metadata take"):
        saved.read(tmp_path / "it.zip")


@pytest.mark.parametrize("version", [2, 3])
def test_a_piece_that_swells_is_refused_before_it_does(tmp_path: Path, version: Any) -> None:
    store = zarr.create_group(tmp_path / "it.zarr", zarr_format=version)
    store.create_array("neighbor_id", shape=(4,), chunks=(1 << 29,), dtype="int32")
    with pytest.raises(InputError, match="a piece may take 256 MiB"):
        saved.read(shutil.make_archive(str(tmp_path / "it"), "zip", tmp_path / "it.zarr"))
    with h5py.File(tmp_path / "it.nc", "w") as file:
        file.create_dataset("neighbor_id", (4,), "int32", chunks=(1 << 29,), maxshape=(None,))
    with pytest.raises(InputError, match="a piece may take 256 MiB"):
        saved.read(tmp_path / "it.nc")


def test_the_strangers_file_is_read_by_its_reader_alone(
    file: Path, bert: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    here = saved.read
    monkeypatch.setattr(saved, "read", lambda path: opened.append(Path(path)) or here(path))
    found = saved.read_apart(file)
    xr.testing.assert_identical(found.encodings, bert.enc)
    assert opened
    assert file not in opened
