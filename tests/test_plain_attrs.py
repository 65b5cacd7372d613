"""What a Dataset says of its texts in whole: plain values, which selections keep and files give back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import checking, saved, texts
from attnxr.errors import InputError
from tests.support.cases import Case

TEXTS = ["Time flies like an arrow.", "A dog!", 'Fruit "flies"\n like a banana.']


def netcdf(engine: Any, **options: Any) -> Callable[[xr.Dataset, Path], xr.Dataset]:
    def round_trip(dataset: xr.Dataset, folder: Path) -> xr.Dataset:
        dataset.to_netcdf(folder / "it.nc", engine=engine, **options)
        return xr.load_dataset(folder / "it.nc", engine=engine)

    return round_trip


def zarr(dataset: xr.Dataset, folder: Path) -> xr.Dataset:
    dataset.to_zarr(folder / "it.zarr", consolidated=False, zarr_format=3)
    return xr.load_dataset(folder / "it.zarr", engine="zarr", consolidated=False)


every_format = pytest.mark.parametrize(
    "round_trip",
    [
        pytest.param(netcdf("h5netcdf"), id="h5netcdf"),
        pytest.param(netcdf("netcdf4"), id="netcdf4"),
        pytest.param(netcdf("netcdf4", format="NETCDF4_CLASSIC"), id="classic"),
        pytest.param(zarr, id="zarr"),
    ],
)


@pytest.fixture(scope="module")
def several(bert: Case) -> xr.Dataset:
    return bert.model.encode(TEXTS)


def test_one_text_is_an_attr_and_several_are_a_coordinate(bert: Case, several: xr.Dataset) -> None:
    one = bert.model.encode(TEXTS[2])
    assert one.attrs["text"] == TEXTS[2]
    assert "source" not in one.coords
    assert "text" not in several.attrs
    assert several.source.dims == ("source_id",)
    assert several.source.values.tolist() == texts.sources(several) == TEXTS
    assert several.source.values[several.text_id.values[-1]] == TEXTS[2]
    tokenizer = bert.model._tokenizer
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    assert several.attrs["token_ids"].tolist() == [token for each in ids for token in each]
    assert several.attrs["text_lengths"].tolist() == [len(each) for each in ids]
    assert texts.token_ids(several) == ids
    assert one.attrs["token_ids"].tolist() == ids[2]
    assert "text_lengths" not in one.attrs
    again = bert.model.encode(token_ids=one.attrs["token_ids"])
    np.testing.assert_array_equal(again["attention"].values, one["attention"].values)


def test_texts_given_as_ids_have_no_strings(bert: Case) -> None:
    ids = [[2, 9, 3], [2, 10, 3]]
    both = bert.model.encode({"input_ids": ids})
    assert texts.sources(both) == ["", ""]
    assert texts.token_ids(both) == ids
    assert bert.model.encode(token_ids=ids[0]).attrs["text"] == ""


@every_format
def test_selections_keep_the_texts_in_whole(bert: Case, several: xr.Dataset, tmp_path: Path, round_trip: Any) -> None:
    near = bert.model.neighbors(several, k=3)
    chosen = near.isel(position=[-1, 3], layer=[1])
    again = round_trip(chosen, tmp_path)
    xr.testing.assert_equal(again, chosen)
    for dataset in (chosen, again):
        assert texts.token_ids(dataset) == texts.token_ids(several)
        assert texts.sources(dataset) == TEXTS
        checking.tokens(dataset, "it")
    lone = near.sel(position=several.sizes["position"] - 2, head=1)
    assert texts.sources(lone)[int(lone.text_id)] == TEXTS[2]


@every_format
@pytest.mark.parametrize("length", [1, 2, 2_000, 100_000])
def test_texts_of_any_length_come_back(tmp_path: Path, round_trip: Any, length: int) -> None:
    """HDF5 keeps attributes of more than 64 KiB elsewhere, and makes a number of an array of one."""
    ids = np.random.default_rng(0).integers(0, 250_000, length).tolist()
    dataset = xr.Dataset({"it": ("x", [1.0])}, attrs=texts.attrs_of([ids], [[1] * length]))
    again = round_trip(dataset, tmp_path)
    xr.testing.assert_identical(again, dataset)
    assert texts.token_ids(again) == [ids]
    assert texts.token_types(again) == [[1] * length]
    assert texts.same_attr(again, dataset, "token_ids")
    assert not texts.same_attr(again, dataset.assign_attrs(token_ids=np.array(ids) + 1), "token_ids")


def test_a_text_of_one_token_is_read_again(bert: Case, tmp_path: Path) -> None:
    enc = bert.model.encode(token_ids=[9])
    assert texts.token_ids(enc) == [[9]]
    (tmp_path / "it.nc").write_bytes(saved.write(enc, bert.model.neighbors(enc, k=3)))
    found = saved.read(tmp_path / "it.nc")
    xr.testing.assert_identical(found.encodings, enc)


def test_some_texts_may_have_types_and_others_none(bert: Case) -> None:
    first, second = ("Time flies.", "A dog!"), ("A dog!", "x")
    lone = bert.model.encode(first[0], pair=first[1])
    types = texts.token_types(lone)
    assert sum(types[0]) > 0
    ids = [[4, 5], [6, 7, 8], [9]]
    attrs = texts.attrs_of(ids, [[], [0, 1, 1], []])
    dataset = xr.Dataset(attrs=attrs)
    assert attrs["token_type_ids"].tolist() == [-1, -1, 0, 1, 1, -1]
    assert texts.token_ids(dataset) == ids
    assert texts.token_types(dataset) == [[], [0, 1, 1], []]
    assert "token_type_ids" not in texts.attrs_of(ids, [[], [], []])
    both = bert.model.encode([first[0], second[0]], pair=[first[1], second[1]])
    assert texts.token_types(both)[0] == types[0]


def test_attrs_that_many_datasets_share_are_not_written_into(bert: Case) -> None:
    with pytest.raises(ValueError, match="read-only"):
        bert.enc.attrs["token_ids"][0] = 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"token_ids": "[[1, 2]]"},
        {"token_ids": [[1, 2], [3]]},
        {"token_ids": [[1, 2]]},
        {"token_ids": [1, -2]},
        {"token_ids": [1.0, 2.0]},
        {"token_ids": [2**70]},
        {"token_ids": None},
        {"token_ids": [1, 2, 3], "text_lengths": [1, 1]},
        {"token_ids": [1, 2, 3], "text_lengths": [3, 0]},
        {"token_ids": [1, 2, 3], "text_lengths": np.array([2**64 - 1, 4], np.uint64)},
        {"token_ids": [1, 2, 3], "token_type_ids": [0, 1]},
        {"token_ids": [1, 2, 3], "token_type_ids": [0, -1, 0]},
        {"token_ids": [1, 2, 3], "token_type_ids": [0, -2, 0]},
        {"token_ids": [1, 2, 3], "token_type_ids": "[[0, 1, 1]]"},
    ],
)
def test_what_is_no_text_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="attrs"):
        texts.token_types(xr.Dataset(attrs=wrong))


def test_words_say_which_coordinate_is_missing(several: xr.Dataset) -> None:
    words = attnxr.words(several)
    assert texts.sources(words) == TEXTS
    start, end = words.char_start.values[-1], words.char_end.values[-1]
    assert TEXTS[words.text_id.values[-1]][start:end] == words.word_text.values[-1]
    with pytest.raises(InputError, match="drop_vars"):
        attnxr.words(several[["head_encoding"]])


def test_a_comparison_has_the_texts_of_both(bert: Case) -> None:
    a, b = (bert.model.neighbors(bert.model.encode(each), k=3) for each in (TEXTS, ["Time flies.", "A cat!", TEXTS[2]]))
    found = attnxr.comparison(a, b)
    assert found.source.values.tolist() == TEXTS
    assert found.other_source.values.tolist() == ["Time flies.", "A cat!", TEXTS[2]]
    assert found.attrs["text_lengths_a"].tolist() == a.attrs["text_lengths"].tolist()
    assert "other_source" not in attnxr.comparison(a, a).coords
