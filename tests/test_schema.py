"""The Datasets are what the schema says, and come back from a file as they were."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import schema
from attnxr.errors import InputError
from tests.support.cases import INCLUDED, STREAM_VECTORS, Case

HEAD = ("layer", "head", "position")
RANKED = (*HEAD, "rank")
TOKEN_COORDS = {
    "position": (("position",), "int64"),
    "token": (("position",), "str"),
    "text": (("position",), "str"),
    "token_id": (("position",), "int64"),
    "char_start": (("position",), "int64"),
    "char_end": (("position",), "int64"),
    "word": (("position",), "int64"),
    "is_special": (("position",), "bool"),
}
TABLES: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "encode": {
        "head_encoding": ((*HEAD, "feature"), "float32"),
        "attention": ((*HEAD, "key_position"), "float32"),
        "query_vector": ((*HEAD, "feature"), "float32"),
        "key_vector": (("layer", "kv_head", "position", "feature"), "float32"),
        "value_vector": (("layer", "kv_head", "position", "feature"), "float32"),
        "residual": (("layer", "position", "channel"), "float32"),
        "hidden": (("layer", "position", "channel"), "float32"),
    },
    "neighbors": {
        "neighbor_id": (RANKED, "int32"),
        "neighbor": (RANKED, "str"),
        "neighbor_text": (RANKED, "str"),
        "distance": (RANKED, "float32"),
        "in_sequence": (RANKED, "bool"),
        "own_rank": (HEAD, "int32"),
        "own_distance": (HEAD, "float32"),
    },
    "distances": {"distance": ((*HEAD, "vocab"), "float32")},
    "sequence_distances": {"distance": ((*HEAD, "other_position"), "float32")},
}


def make(case: Case, name: str) -> xr.Dataset:
    if name == "encode":
        return case.enc
    if name == "sequence_distances":
        return attnxr.sequence_distances(case.enc)
    return getattr(case.model, name)(case.enc)


def described(dataset: xr.Dataset, names: Any) -> dict[str, tuple[tuple[str, ...], str]]:
    """Dims and dtype of each variable; any string dtype is `str`."""

    def dtype(variable: xr.DataArray) -> str:
        strings = variable.dtype.kind in "OUT" and all(isinstance(x, str) for x in variable.values.ravel())
        return "str" if strings else str(variable.dtype)

    return {name: (tuple(map(str, dataset[name].dims)), dtype(dataset[name])) for name in names}


@pytest.mark.parametrize("name", TABLES)
def test_variables_are_those_of_the_table(tiny: Case, name: str) -> None:
    dataset = make(tiny, name)
    assert described(dataset, dataset.data_vars) == TABLES[name]


@pytest.mark.parametrize("name", TABLES)
def test_coordinates_are_those_of_the_table(tiny: Case, name: str) -> None:
    dataset = make(tiny, name)
    expected = TOKEN_COORDS | {"layer": (("layer",), "int64"), "head": (("head",), "int64")}
    if name == "neighbors":
        assert dataset["rank"].values.tolist() == list(range(1, 16))
    if name == "distances":
        expected |= {f"vocab_{x}": (("vocab",), "str") for x in ("token", "text")}
    if name == "sequence_distances":
        expected |= {f"other_{x}": (("other_position",), "str") for x in ("token", "text")}
    assert expected.keys() <= set(dataset.coords)
    assert described(dataset, expected) == expected


def test_attrs_say_what_was_asked(tiny: Case) -> None:
    options: Any = {"k": 3, "metric": "dot", "of": "query", "space": "key", "positional": False}
    attrs = tiny.model.neighbors(tiny.enc, **options).attrs
    assert tiny.enc.attrs.items() <= attrs.items()
    assert {name: attrs[name] for name in options} == options | {"positional": 0}
    assert attrs["vocab_size"] == tiny.model.vocab_size


@pytest.mark.parametrize("name", TABLES)
def test_every_variable_says_what_it_means(tiny: Case, name: str) -> None:
    dataset = make(tiny, name)
    for variable in (*dataset.data_vars, *TOKEN_COORDS):
        assert dataset[variable].attrs["long_name"]


def netcdf(engine: Any) -> Callable[[xr.Dataset, Path], xr.Dataset]:
    def round_trip(dataset: xr.Dataset, folder: Path) -> xr.Dataset:
        dataset.to_netcdf(folder / "it.nc", engine=engine)
        with xr.open_dataset(folder / "it.nc", engine=engine) as opened:
            return opened.load()

    return round_trip


def zarr(dataset: xr.Dataset, folder: Path) -> xr.Dataset:
    dataset.to_zarr(folder / "it.zarr", consolidated=False)
    with xr.open_zarr(folder / "it.zarr", consolidated=False) as opened:
        return opened.load()


every_format = pytest.mark.parametrize(
    "round_trip",
    [
        pytest.param(netcdf("h5netcdf"), id="h5netcdf"),
        pytest.param(netcdf("netcdf4"), id="netcdf4"),
        pytest.param(zarr, id="zarr"),
    ],
)


@every_format
@pytest.mark.parametrize("name", ["encode", "neighbors", "sequence_distances"])
def test_round_trip(tiny: Case, tmp_path: Path, round_trip: Any, name: str) -> None:
    dataset = make(tiny, name)
    xr.testing.assert_identical(round_trip(dataset, tmp_path), dataset)


@every_format
def test_reloaded_encodings_give_the_same_answers(tiny: Case, tmp_path: Path, round_trip: Any) -> None:
    reloaded = round_trip(tiny.enc, tmp_path)
    xr.testing.assert_identical(tiny.model.neighbors(reloaded, k=5), tiny.model.neighbors(tiny.enc, k=5))
    xr.testing.assert_identical(
        tiny.model.distances(reloaded).isel(layer=[0]).load(),
        tiny.model.distances(tiny.enc).isel(layer=[0]).load(),
    )
    xr.testing.assert_identical(attnxr.sequence_distances(reloaded), attnxr.sequence_distances(tiny.enc))


@every_format
def test_reloaded_encodings_give_the_same_answers_lazily(tiny: Case, tmp_path: Path, round_trip: Any) -> None:
    """Straight from the file, in dask chunks, as a corpus would be."""
    lazy = round_trip(tiny.enc, tmp_path).chunk(layer=1)
    xr.testing.assert_identical(tiny.model.neighbors(lazy, k=5), tiny.model.neighbors(tiny.enc, k=5))


@every_format
def test_every_token_of_the_vocabulary_survives(tiny: Case, tmp_path: Path, round_trip: Any) -> None:
    """Byte-level vocabularies hold control characters and broken pieces of UTF-8."""
    near = tiny.model.neighbors(tiny.enc.isel(layer=[0], head=[0], position=[1]), k=tiny.model.vocab_size)
    assert len(set(near.neighbor.values.ravel())) == tiny.model.vocab_size
    xr.testing.assert_identical(round_trip(near, tmp_path), near)


@every_format
def test_several_texts_and_slices_survive(tiny: Case, tmp_path: Path, round_trip: Any) -> None:
    together = tiny.model.encode([tiny.text, "A dog!"], include=INCLUDED)
    part = together.isel(layer=[2], position=[-1, 3])
    xr.testing.assert_identical(round_trip(part, tmp_path), part)


@every_format
@pytest.mark.parametrize(
    "text",
    ["a\x01b\x7f", "😀 x\u200d👩\u200d👩\u200d👧", "שלום עולם", "<script>alert(1)</script>", 'q"\\/\n\t'],
)
def test_odd_texts_survive(roberta: Case, tmp_path: Path, round_trip: Any, text: str) -> None:
    enc = roberta.model.encode(text)
    assert enc.attrs["text"] == text
    xr.testing.assert_identical(round_trip(enc, tmp_path), enc)


def test_distances_can_be_written_too(tiny: Case, tmp_path: Path) -> None:
    dist = tiny.model.distances(tiny.enc.isel(layer=[0], head=[1]))
    reloaded = netcdf("h5netcdf")(dist, tmp_path)
    np.testing.assert_array_equal(reloaded.distance, dist.distance)


def test_reading_and_writing_warns_of_nothing(tiny: Case, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        zarr(tiny.enc, tmp_path)
        netcdf("h5netcdf")(tiny.enc, tmp_path)
    assert [str(each.message) for each in caught] == []


def test_validate_takes_what_encode_returns(case: Case) -> None:
    required = ("head_encoding", *INCLUDED, *STREAM_VECTORS)
    assert schema.validate(case.enc, schema.ENCODINGS, required) is case.enc


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda enc: enc.drop_vars("head_encoding"), "encoding"),
        (lambda enc: enc.drop_vars("token_id"), "token_id"),
        (lambda enc: enc.assign(head_encoding=enc["head_encoding"].astype("float64")), "float64"),
        (lambda enc: enc.isel(feature=0), "feature"),
        (lambda enc: enc.isel(layer=0).drop_vars("layer"), "layer"),
        (lambda enc: enc.mean("head", keep_attrs=True), "head"),
        (lambda enc: enc.assign_coords(token_id=enc.token_id.astype("float64")), "token_id"),
    ],
)
def test_what_is_not_ours_is_refused_with_its_name(tiny: Case, damage: Any, named: str) -> None:
    damaged = damage(tiny.enc)
    for use in (tiny.model.neighbors, tiny.model.distances):
        with pytest.raises(InputError, match=named):
            use(damaged)
