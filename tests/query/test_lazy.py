"""The distances to the whole vocabulary are right, and none is computed before it is asked for."""

from __future__ import annotations

import gc
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

from attnxr.errors import InputError
from attnxr.options import VARIABLE
from attnxr.probe import window
from attnxr.query import lazy
from attnxr.search import exact
from attnxr.vocabulary import arrival, paths
from tests.support import oracles
from tests.support.cases import Case, true_distances


class Computed(Exception):  # noqa: N818 - a sign, not an error
    """Something was computed."""


def refuse(*_: Any, **__: Any) -> None:
    raise Computed


@pytest.fixture
def inaccessible(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, computing a distance raises, and so does running the model or encoding the vocabulary."""
    assert tiny.enc is not None  # encoded by now
    monkeypatch.setattr(window.Window, "run", refuse)
    monkeypatch.setattr(exact, "distances", refuse)
    monkeypatch.setattr(arrival, "arrivals", refuse)
    monkeypatch.setattr(paths.Normed, "blocks", refuse)


@pytest.fixture
def dask_refuses() -> Iterator[None]:
    """From here on, computing a dask array raises."""
    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture(scope="module")
def dist(tiny: Case) -> xr.Dataset:
    return tiny.model.distances(tiny.enc, metric="euclidean")


@pytest.mark.usefixtures("inaccessible")
def test_nothing_is_computed_before_a_slice_is_asked_for(tiny: Case) -> None:
    dist = tiny.model.distances(tiny.enc)
    assert dist.distance.shape == (3, 4, tiny.enc.sizes["position"], tiny.model.vocab_size)
    for each in (dist, dist.distance):
        assert "distance" in repr(each)
        assert "distance" in each._repr_html_()
    some = dist.distance.sel(layer=2, position=[1, 3]).isel(vocab=slice(5, 9)).isel(head=-1)
    assert some.shape == (2, 4)
    assert dist.distance.sel(vocab_token=tiny.model.vocabulary.token[7]).ndim == 3
    assert dist.isel(layer=1).copy(deep=False).rename(distance="far").far.ndim == 3
    with pytest.raises(Computed):
        some.load()


@pytest.mark.usefixtures("inaccessible", "dask_refuses")
def test_chunking_computes_nothing(tiny: Case) -> None:
    chunked = tiny.model.distances(tiny.enc).chunk(layer=1, vocab=100)
    assert chunked.distance.chunksizes["layer"] == (1, 1, 1)
    assert set(chunked.distance.chunksizes["vocab"][:-1]) == {100}
    nearest = chunked.distance.min("vocab")
    with pytest.raises(Computed):
        nearest.compute()


@pytest.mark.parametrize("metric", oracles.METRICS)
@pytest.mark.parametrize("positional", [True, False])
def test_equals_the_brute_force(tiny: Case, metric: Any, positional: bool) -> None:
    check_slice(tiny, metric, positional)


def test_minilm_equals_the_brute_force(minilm: Case) -> None:
    check_slice(minilm, "centered_cosine", True)


def check_slice(case: Case, metric: Any, positional: bool) -> None:
    dist = case.model.distances(case.enc, metric=metric, positional=positional).distance
    assert dist.dims == ("layer", "head", "position", "vocab")
    assert dist.dtype == np.float32
    queries = case.enc["head_encoding"].sel(position=3, layer=[0, 2]).values
    true, tolerance = true_distances(metric, queries, case.vocabulary("value", 3, positional))
    found = dist.sel(position=3, layer=[0, 2]).values
    assert (np.abs(found - true) <= tolerance).all()


@pytest.mark.parametrize("of", ["query", "key", "value"])
@pytest.mark.parametrize("space", ["query", "key", "value"])
def test_equals_the_brute_force_for_every_vector_and_space(tiny: Case, of: Any, space: Any) -> None:
    dist = tiny.model.distances(tiny.enc, of=of, space=space).distance
    for position in (1, 5):
        queries = tiny.enc[VARIABLE[of]].sel(position=position).values
        true, tolerance = true_distances("cosine", queries, tiny.vocabulary(space, position, True))
        assert (np.abs(dist.sel(position=position).values - true) <= tolerance).all()


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_is_what_neighbors_reports(tiny: Case, metric: Any) -> None:
    near = tiny.model.neighbors(tiny.enc, k=5, metric=metric)
    dist = tiny.model.distances(tiny.enc, metric=metric).distance
    for layer, head, position in ((0, 3, 2), (2, 0, 0), (1, 2, 4)):
        one = near.sel(layer=layer, head=head, position=position)
        row = dist.sel(layer=layer, head=head, position=position)
        np.testing.assert_array_equal(row.sel(vocab=one.neighbor_id.values), one.distance)
        assert row.sel(vocab=int(one.token_id)).item() == one.own_distance.item()
        assert oracles.own_rank(row.values, int(one.token_id)) <= one.own_rank.item()


@pytest.mark.parametrize(("name", "word"), [("minilm", "flies"), ("roberta", "Ġflies"), ("bert", "flies")])
def test_a_word_is_found_by_its_name(request: pytest.FixtureRequest, name: str, word: str) -> None:
    case = request.getfixturevalue(name)
    dist = case.model.distances(case.enc)
    one = dist.distance.sel(layer=0, head=3, position=2, vocab_token=word)
    assert one.ndim == 0
    assert one.vocab_token.item() == word
    assert one.vocab.item() == int(case.enc.token_id[case.enc.token.values.tolist().index(word)])
    assert one.item() == dist.distance.sel(layer=0, head=3, position=2).values[one.vocab.item()]


def test_coordinates_name_the_vocabulary_and_the_positions(tiny: Case, dist: xr.Dataset) -> None:
    assert dist.vocab.values.tolist() == list(range(tiny.model.vocab_size))
    assert dist.vocab_token.values.tolist() == tiny.model.vocabulary.token.tolist()
    assert dist.vocab_text.values.tolist() == tiny.model.vocabulary.text.tolist()
    assert dist.token.values.tolist() == tiny.enc.token.values.tolist()


INDEXERS = [
    pytest.param({"layer": 1, "head": 2, "position": 3, "vocab": 4}, id="one number"),
    pytest.param({"layer": -1, "position": -2}, id="from the end"),
    pytest.param({"layer": [2, 0], "head": [1], "vocab": [-1, 0, 7, 7]}, id="outer, out of order"),
    pytest.param({"head": slice(3, 0, -2), "vocab": slice(10, 190, 60)}, id="slices with steps"),
    pytest.param({"position": slice(0, 0)}, id="no positions"),
    pytest.param({"vocab": []}, id="no entries"),
    pytest.param(
        {"layer": xr.DataArray([0, 1, 2], dims="at"), "vocab": xr.DataArray([5, 6, 7], dims="at")},
        id="points",
    ),
    pytest.param({"head": xr.DataArray([[0, 1], [2, 3]], dims=("a", "b")), "vocab": slice(3, 6)}, id="points in 2-D"),
]


@pytest.fixture(scope="module")
def dense(dist: xr.Dataset) -> xr.DataArray:
    return xr.DataArray(dist.distance.values, dims=dist.distance.dims)


@pytest.mark.parametrize("indexers", INDEXERS)
def test_any_way_of_indexing_gives_the_slice_of_the_whole(dist: xr.Dataset, dense: xr.DataArray, indexers: Any) -> None:
    found = dist.distance.isel(indexers)
    np.testing.assert_array_equal(found.values, dense.isel(indexers).values)
    assert found.dims == dense.isel(indexers).dims


def test_slicing_in_steps_gives_the_slice_of_the_whole(dist: xr.Dataset, dense: xr.DataArray) -> None:
    found = dist.distance[1:, ::-1][:, 1, [4, 2]][..., 190:][1].transpose()
    np.testing.assert_array_equal(found, dense[1:, ::-1][:, 1, [4, 2]][..., 190:][1].transpose())


@pytest.mark.parametrize("chunks", [{"layer": 1}, {"vocab": 33, "position": 2}, {}])
def test_chunks_hold_the_same_numbers(dist: xr.Dataset, dense: xr.DataArray, chunks: Any) -> None:
    chunked = dist.chunk(chunks).distance
    np.testing.assert_array_equal(chunked.compute(), dense)
    np.testing.assert_array_equal(chunked.min("vocab").compute(scheduler="threads"), dense.min("vocab"))


def test_slicing_before_equals_slicing_after(tiny: Case, dist: xr.Dataset) -> None:
    chosen: Any = {"layer": [2, 1], "head": [3], "position": [5, 4]}
    before = tiny.model.distances(tiny.enc.isel(chosen), metric="euclidean")
    xr.testing.assert_identical(before.load(), dist.isel(chosen).load())


def test_later_changes_of_the_encodings_do_not_reach_it(tiny: Case) -> None:
    enc = tiny.enc.copy(deep=True)
    dist = tiny.model.distances(enc, metric="euclidean").distance
    enc["head_encoding"][:] = 0
    unchanged = tiny.model.distances(tiny.enc, metric="euclidean").distance
    chosen = {"layer": 0, "head": 0, "position": 1}
    np.testing.assert_array_equal(dist.isel(chosen), unchanged.isel(chosen))


@pytest.mark.parametrize("metric", ["euclidean", "centered_cosine"])
def test_processes_compute_the_same_numbers(tiny: Case, metric: Any) -> None:
    dist = tiny.model.distances(tiny.enc, metric=metric, vocab_layer="same")
    chunked = dist.chunk({"layer": 1, "vocab": 90}).distance
    with dask.config.set(scheduler="processes", num_workers=2):
        found = chunked.compute()
    np.testing.assert_array_equal(found, dist.distance)


def test_what_is_pickled_holds_no_weights_and_serves_while_the_distances_live(minilm: Case) -> None:
    dist = minilm.model.distances(minilm.enc).distance
    expected = dist.isel(layer=5, head=3, position=2).values
    pickled = pickle.dumps(dist.variable)
    assert len(pickled) < 2000
    other = pickle.loads(pickled)
    np.testing.assert_array_equal(other[5, 3, 2], expected)
    assert len(pickle.dumps(other)) < 2000  # passed on as it came
    folder = Path(re.search(rb"/[^\0]*attnxr-distances-\w+", pickled).group().decode())
    assert {file.suffix for file in folder.iterdir()} == {".npy", ".json"}
    del dist, other
    gc.collect()
    assert not folder.exists()
    lazy._opened.cache_clear()
    with pytest.raises(InputError, match=r"whose tables, in .*, are gone"):
        pickle.loads(pickled)


def test_a_deep_copy_computes_nothing(tiny: Case, inaccessible: None) -> None:
    dist = tiny.model.distances(tiny.enc)
    with pytest.raises(Computed):
        dist.copy(deep=True).distance.load()
