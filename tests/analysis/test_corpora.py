"""Analyses of a corpus that was opened lazily: the same numbers as in memory, and little of that."""

from __future__ import annotations

import gc
import inspect
import tracemalloc
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import texts
from attnxr.analysis.corpora import ON_CORPORA
from attnxr.errors import InputError
from tests.support import corpora, models

TEXTS = [[2, 90, 91, 90, 92, 91, 3], [2, 95, 3], [77], [2, 80, 81, 82, 80, 83, 84, 81, 80, 85, 86, 3], [2, 91, 90, 3]]
READY: dict[str, Callable[[Any], xr.Dataset]] = {
    "overlap": attnxr.overlap,
    "overlap layers": lambda near: attnxr.overlap(near, between="layers", n=3),
    "overlap heads": lambda near: attnxr.overlap(near, between="heads"),
    "origins": attnxr.origins,
    "trajectories": attnxr.trajectories,
    "hubness": attnxr.hubness,
    "hubness of layers": lambda near: attnxr.hubness(near, over=("head", "position"), hubs=3),
    "hubness of all": lambda near: attnxr.hubness(near, over=("layer", "position", "head")),
}
SELECTIONS: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
    "all": lambda near: near,
    "no special tokens": lambda near: near.isel(position=np.flatnonzero(~near.is_special.values)),
    "backwards": lambda near: near.isel(position=slice(None, None, -1)),
    "a middle": lambda near: near.isel(position=slice(9, 40), head=[1]),
    "one head": lambda near: near.sel(head=1),
}
each_ready = pytest.mark.parametrize("name", READY)


@pytest.fixture(scope="module")
def model() -> attnxr.Model:
    return attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())


@pytest.fixture(scope="module")
def near(model: attnxr.Model) -> xr.Dataset:
    return corpora.in_memory(model, TEXTS, times=3, k=30)


@pytest.fixture(scope="module", params=[5, 64])
def corpus(model: attnxr.Model, near: xr.Dataset, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Any:
    return corpora.opened(corpora.write(near, model, tmp_path_factory.mktemp("corpus") / "zarr", request.param))


def lazy(dataset: xr.Dataset) -> list[bool]:
    return [dask.is_dask_collection(variable.data) for variable in dataset.data_vars.values()]


def check(found: xr.Dataset, right: xr.Dataset) -> None:
    assert found.sizes == {dim: size for dim, size in right.sizes.items() if dim != "source_id"}
    assert list(found.data_vars) == list(right.data_vars)
    for name, variable in right.variables.items():
        if name in found.variables:
            assert found[name].dims == variable.dims
            assert found[name].attrs == variable.attrs
            np.testing.assert_array_equal(found[name].values, variable.values, err_msg=str(name))
    for name in ("text_id", "text_position", "token_id", "is_special", "layer", "head"):
        assert (name in found.coords) == (name in right.coords)


@each_ready
def test_a_corpus_gives_what_is_given_in_memory(corpus: xr.DataTree, near: xr.Dataset, name: str) -> None:
    found = READY[name](corpus)
    if "lazy" in ON_CORPORA[name.split()[0]].how:
        assert all(lazy(found))
    check(found, READY[name](near))


@pytest.mark.parametrize(
    ("name", "selected"),
    [
        (name, selected)
        for name, selected in product(READY, SELECTIONS)
        if selected != "one head" or name not in ("overlap heads", "hubness of layers", "hubness of all")
    ],
)
def test_so_do_selections_of_it(corpus: xr.DataTree, near: xr.Dataset, name: str, selected: str) -> None:
    causal = list(SELECTIONS).index(selected) % 2
    part = SELECTIONS[selected](attnxr.results_of(corpus).assign_attrs(causal=causal))
    right = SELECTIONS[selected](near.assign_attrs(causal=causal))
    check(READY[name](part), READY[name](right))
    if selected == "no special tokens":
        check(READY[name](part.load()), READY[name](right))


def test_a_baseline_may_be_a_corpus_too(
    model: attnxr.Model, corpus: xr.DataTree, near: xr.Dataset, tmp_path: Path
) -> None:
    other = corpora.in_memory(model, [[2, 60, 61, 91, 3], [2, 62, 90, 90, 3]], times=4, k=30)
    opened = corpora.opened(corpora.write(other, model, tmp_path / "other", 7))
    for between in ("consecutive", "layers", "heads"):
        right = attnxr.overlap(near, between=between, baseline=other)  # type: ignore[arg-type]
        assert 0 < right.baseline.mean() < right.overlap.mean()
        for a, b in ((corpus, other), (corpus, opened), (near, opened)):
            found = attnxr.overlap(a, between=between, baseline=b)  # type: ignore[arg-type]
            np.testing.assert_array_equal(found.baseline, right.baseline)
            np.testing.assert_array_equal(found.overlap, right.overlap)
    with pytest.raises(InputError, match=r"have a text in common, of the token ids \[2, 90, 91"):
        attnxr.overlap(corpus, baseline=near)  # type: ignore[arg-type]


@each_ready
def test_texts_that_failed_are_left_out(model: attnxr.Model, near: xr.Dataset, tmp_path: Path, name: str) -> None:
    corpus = corpora.opened(corpora.write(near, model, tmp_path / "zarr", 8, failed=[0, 4, 8, 14]))
    there = ~np.isin(near.text_id.values, [0, 4, 8, 14])
    assert attnxr.results_of(corpus).attrs["texts_failed"] == 4
    check(READY[name](corpus), READY[name](near.isel(position=np.flatnonzero(there))))


class TestRefused:
    @pytest.fixture
    def corpus(self, model: attnxr.Model, near: xr.Dataset, tmp_path: Path) -> xr.DataTree:
        return corpora.opened(corpora.write(near, model, tmp_path / "zarr", 64))

    @pytest.mark.parametrize("name", [name for name, said in ON_CORPORA.items() if not said.ready])
    def test_what_takes_none_says_why_and_what_to_do(self, corpus: xr.DataTree, name: str) -> None:
        analysis = getattr(attnxr, name)
        needed = [
            each for each in inspect.signature(analysis).parameters.values() if each.default is inspect.Parameter.empty
        ]
        for given in (corpus, attnxr.results_of(corpus)):
            with pytest.raises(InputError) as error:
                analysis(*[given for _ in needed])
            assert str(error.value) == f"A corpus was given, and attnxr.{name} takes none: {ON_CORPORA[name].how}"
            assert "model.encode(token_ids=…)" in str(error.value)

    def test_every_analysis_of_a_dataset_is_listed(self) -> None:
        takes = set()
        for name in attnxr.__all__:
            function = getattr(attnxr, name)
            if inspect.isfunction(function) and function.__module__.startswith("attnxr.analysis"):
                takes |= {name for each in inspect.signature(function).parameters.values() if "Dataset" in str(each)}
        assert takes == set(ON_CORPORA)
        assert {name.split()[0] for name in READY} == {name for name, said in ON_CORPORA.items() if said.ready}

    def test_hubs_of_each_position(self, corpus: xr.DataTree) -> None:
        with pytest.raises(InputError, match="a count of every entry at every position"):
            attnxr.hubness(corpus, over=("head",))  # type: ignore[arg-type]

    def test_attention_with_a_corpus(self, corpus: xr.DataTree, model: attnxr.Model) -> None:
        with pytest.raises(InputError, match="differ in attrs"):
            attnxr.origins(corpus, model.encode(token_ids=TEXTS[0]))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="no attention"):
            attnxr.origins(corpus, corpus)  # type: ignore[arg-type]

    def test_a_stream_of_other_texts(self, corpus: xr.DataTree, model: attnxr.Model, tmp_path: Path) -> None:
        others = [[*ids[:-1], 99] for ids in TEXTS]
        folder = corpora.write(corpora.in_memory(model, others, times=3, k=3), model, tmp_path / "others", 64)
        stream = attnxr.results_of(corpora.opened(folder)).isel(head=0, drop=True)
        with pytest.raises(InputError, match="two corpora with other texts"):
            attnxr.trajectories(corpus, stream)  # type: ignore[arg-type]
        own = attnxr.results_of(corpus).isel(head=0, drop=True)
        found = attnxr.trajectories(corpus, own)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.stream_own_rank, found.own_rank.isel(head=0))

    def test_what_is_no_whole_corpus(self, corpus: xr.DataTree) -> None:
        cases = {
            "that is no corpus": xr.DataTree.from_dict({"/": xr.Dataset()}),
            "keeps nothing token by token": xr.DataTree.from_dict({"/tokens": corpus["tokens"].to_dataset()}),
            "is not finished": _unfinished(corpus),
            "it is a selection": xr.DataTree.from_dict(
                {name: corpus[name].to_dataset().isel(position=slice(20)) for name in ("tokens", "results")}
            ),
        }
        for says, tree in cases.items():
            with pytest.raises(InputError, match=says):
                attnxr.overlap(tree)  # type: ignore[arg-type]

    def test_a_node_is_taken_for_the_corpus_it_is_of(self, corpus: xr.DataTree) -> None:
        xr.testing.assert_identical(attnxr.results_of(corpus["results"]), attnxr.results_of(corpus))


def _unfinished(corpus: xr.DataTree) -> xr.DataTree:
    tree = corpus.copy()
    tree.attrs["finished"] = 0
    return tree


def test_the_texts_of_a_corpus_are_had_one_after_the_other(
    corpus: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = attnxr.results_of(corpus).isel(position=[3])
    for at_once in (1, 5, 14, 1 << 20):
        monkeypatch.setattr(texts, "_AT_ONCE", at_once)
        assert [ids.tolist() for ids in texts.each(found)] == TEXTS * 3
    assert texts.token_ids(found) == TEXTS * 3


def synthetic(folder: Path, n: int) -> Path:
    """A corpus of n positions, in chunks of 10,000, of texts of 100 tokens each; numbers are random."""
    chunk, size, k = 10_000, 500, 10
    generator = np.random.default_rng(0)
    ids = generator.integers(size, size=n).astype(np.int32)
    shape = (2, 4, chunk)
    tokens = xr.Dataset(
        {
            "token_id": ("position", ids),
            "is_special": ("position", ids < 5),
            "text_id": ("position", np.repeat(np.arange(n // 100), 100)),
            "text_position": ("position", np.tile(np.arange(100), n // 100)),
            "row_size": ("text", np.full(n // 100, 100)),
            "error": ("text", np.full(n // 100, "", object)),
            "vocab_token": ("vocab", np.array([f"t{i}" for i in range(size)], object)),
            "vocab_text": ("vocab", np.array([f"t{i}" for i in range(size)], object)),
        }
    )
    part = {
        "neighbor_id": generator.permuted(np.tile(np.arange(size, dtype=np.int32)[:k], (*shape, 1)), axis=-1),
        "own_rank": generator.integers(1, size, size=shape).astype(np.int32),
        "own_distance": generator.random(shape, np.float32),
    }
    dims = ("layer", "head", "position", "rank")
    results = xr.Dataset(
        {
            name: (dims[: array.ndim], dask.array.concatenate([dask.array.from_array(array)] * (n // chunk), axis=2))
            for name, array in part.items()
        },
        {"layer": [0, 1], "head": np.arange(4), "rank": np.arange(1, k + 1)},
        {
            **{"vocab_size": size, "metric": "cosine", "of": "encoding", "space": "value", "vocab_layer": "input"},
            **{"positional": 1, "causal": 0, "fingerprint": "x"},
        },
    ).chunk(position=chunk)
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"finished": 1}), "tokens": tokens, "results": results})
    of_position = ("token_id", "is_special", "text_id", "text_position")
    encoding = {"/tokens": {name: {"chunks": (chunk,)} for name in of_position}}
    tree.to_zarr(folder, zarr_format=3, consolidated=False, encoding=encoding)
    return folder


REDUCED: dict[str, Callable[[xr.DataTree], Any]] = {
    "overlap": lambda corpus: attnxr.overlap(corpus).overlap.mean("position").compute(),  # type: ignore[arg-type]
    "origins": lambda corpus: attnxr.origins(corpus)[["own_share", "other_share"]].compute(),  # type: ignore[arg-type]
    "trajectories": lambda corpus: attnxr.trajectories(corpus).mean("position").compute(),  # type: ignore[arg-type]
    "hubness": lambda corpus: attnxr.hubness(corpus),  # type: ignore[arg-type]
    "baseline": lambda corpus: attnxr.overlap(
        attnxr.results_of(corpus).isel(position=slice(100)), baseline=_renamed(corpus)
    ),
}


def _renamed(corpus: xr.DataTree) -> xr.Dataset:
    found = attnxr.results_of(corpus)
    return found.assign_coords(source_token_id=found.source_token_id + 1)


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sizes")
    return synthetic(folder / "small", 20_000), synthetic(folder / "large", 200_000)


@pytest.mark.parametrize("name", REDUCED)
def test_memory_grows_by_the_positions_alone(two_sizes: tuple[Path, Path], name: str) -> None:
    """Ten times the positions, each of which has 400 bytes in the store and less than 40 in memory."""
    peaks = []
    for folder in (two_sizes[0], *two_sizes):  # what is imported and compiled on first use is no growth
        gc.collect()
        with dask.config.set(scheduler="synchronous"):
            tracemalloc.start()
            REDUCED[name](corpora.opened(folder))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < 40 * 180_000


def test_the_docs_list_all_analyses() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "corpus-analyses.md").read_text().splitlines()
    listed = [line for line in lines if line.startswith("| `")]
    assert listed == [
        f"| `{name}` | {said.how} |"
        for ready in (True, False)
        for name, said in ON_CORPORA.items()
        if said.ready == ready
    ]
