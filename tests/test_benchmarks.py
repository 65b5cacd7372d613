"""The benchmarks judge answers by the references, count what they measure, and see memory that is taken."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import attnxr
from benchmarks import analysis, corpus, exactness
from benchmarks.parts import answers, measure, shapes
from benchmarks.parts.products import Products
from benchmarks.parts.report import Report
from tests.support import models

SHAPE = shapes.Shape(layers=2, heads=4, head_size=8, vocabulary=300, tokens=5)
OURS = ("attnxr", "euclidean")


@pytest.fixture(scope="module", params=["roberta", "llama"])
def asked(request: pytest.FixtureRequest) -> Any:
    """A model's vocabulary, encodings, and the neighbours that were found of them."""
    if request.param == "roberta":
        hf_model: Any = shapes.roberta(SHAPE)
    else:
        hf_model = shapes.llama(replace(SHAPE, kv_heads=2))
    model = attnxr.Model(hf_model)
    encodings = shapes.encode(model, SHAPE)
    if request.param == "roberta":
        vocabulary = answers.roberta_vocabulary(hf_model, encodings.token_id.values)
    else:
        vocabulary = answers.llama_vocabulary(hf_model)
    return vocabulary, encodings, model.neighbors(encodings, metric="euclidean")


def test_the_judge_finds_no_fault_with_what_is_right(asked: Any) -> None:
    vocabulary, encodings, near = asked
    faults = answers.judge(vocabulary, encodings, {OURS: answers.of_dataset(near)})
    assert faults == {OURS: ""}
    answers.must_be_exact(faults, "attnxr")


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("neighbor_id", lambda ids: np.roll(ids, 1, axis=-1), "off by"),
        ("distance", lambda distance: distance * (1 + 1e-4), "a distance is off by"),
        ("own_rank", lambda rank: rank + 2, "an own rank is wrong"),
        ("own_distance", lambda distance: distance * (1 + 1e-4), "an own distance is off by"),
    ],
)
def test_the_judge_says_what_is_wrong(asked: Any, name: str, change: Any, fault: str) -> None:
    vocabulary, encodings, near = asked
    wrong = near.copy(deep=True)
    wrong[name].values[1, 2, 3] = change(wrong[name].values[1, 2, 3])
    faults = answers.judge(vocabulary, encodings, {OURS: answers.of_dataset(wrong)})
    assert faults[OURS].startswith("position 3, head 2: ")
    assert fault in faults[OURS]
    with pytest.raises(RuntimeError, match="position 3, head 2"):
        answers.must_be_exact(faults, "attnxr")


def test_one_answer_that_is_wrong_leaves_the_others_right(asked: Any) -> None:
    vocabulary, encodings, near = asked
    wrong = near.isel(layer=[1, 0])
    given = {OURS: answers.of_dataset(near), ("other", "euclidean"): answers.of_dataset(wrong, [4])}
    faults = answers.judge(vocabulary, encodings, given)
    assert faults[OURS] == ""
    assert faults["other", "euclidean"].startswith("position 4, head 0")


def test_lists_that_are_off_are_counted_and_measured(asked: Any) -> None:
    vocabulary, encodings, near = asked
    near = near.isel(head=1, position=2, rank=slice(exactness.K))
    words = vocabulary(2)
    queries, rows = encodings["head_encoding"].values[:, 1, 2], words[1 * len(words) // encodings.sizes["head"]]
    true, size = exactness.distances("euclidean", queries, rows)
    right, wrong = exactness.Against(), exactness.Against()
    right.add(near, true, size, int(near.token_id))
    assert (right.lists, right.other_ids, right.other_ranks) == (2, 0, 0)
    assert right.distance < 1e-6
    off = near.copy(deep=True)
    off.neighbor_id[0, :2] = off.neighbor_id[0, 1::-1].values
    off.distance[1] *= 1 + 1e-3
    off.own_rank[1] += 3
    wrong.add(off, true, size, int(near.token_id))
    assert (wrong.lists, wrong.other_ids, wrong.other_ranks, wrong.rank) == (2, 1, 1, 3)
    assert wrong.distance > 1e-5


@pytest.mark.parametrize("kv_heads", [None, 2])
def test_the_bare_products_are_all_products(kv_heads: int | None) -> None:
    products = Products(replace(SHAPE, kv_heads=kv_heads))
    for tiling in products.tilings():
        _, share = products.estimate(tiling, limit=60)
        assert share == 1
    _, share = Products(replace(SHAPE, vocabulary=3000)).estimate(replace(tiling, entries=512), limit=0)
    assert share == 512 / 3000 / SHAPE.heads


@pytest.mark.parametrize("mark", [True, False])
def test_memory_that_was_taken_and_given_back_is_seen(monkeypatch: pytest.MonkeyPatch, mark: bool) -> None:
    if not mark:  # as on a system without a high-water mark
        monkeypatch.setattr(measure, "_reset_mark", lambda: False)
    with measure.PeakMemory() as peak:
        taken = np.ones(64 * measure.MIB, np.uint8)
        time.sleep(0.2)
        del taken
    assert 60 * measure.MIB < peak.beyond < 100 * measure.MIB


def test_a_target_is_reached_when_every_number_is_within_it() -> None:
    report = Report()
    report.target("P1", {"cosine": 1.2, "dot": 1.6}, 1.5, "× the bare products")
    report.target("P5", {"faiss": 41}, 40, "× as long", at_most=False)
    report.target("P5", {"faiss": 41, "torch": 39}, 40, "× as long", at_most=False)
    assert [line.split(":")[0] for line in report.verdicts] == ["[P1] MISSED", "[P5] reached", "[P5] MISSED"]


@pytest.mark.parametrize("suite", [analysis.OfTables, analysis.OfAModel])
def test_the_benchmarks_of_the_analyses_run(suite: type) -> None:
    timed = [name for name in vars(suite) if name.startswith("time_")]
    assert len(timed) > 5
    ready = suite()
    ready.setup()
    for name in timed:
        getattr(ready, name)()


def test_the_floor_of_a_corpus_is_all_of_its_tokens() -> None:
    model = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())
    given = models.CORPUS[:10]
    floor = corpus.Floor(model, given, products=True)
    expected = [model.encode(text, truncate=True).token_id.values.tolist() for text in given]
    assert sorted(row for batch in floor.batches for row in batch.tolist()) == sorted(expected)
    floor()
    assert corpus.sizes(model, given[:2]).tables[0].rows
