"""Neighbours, own ranks and own distances on models are those of the float64 brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from tests.support import models, oracles
from tests.support.cases import HEAD_VECTORS, Case

OF = ("encoding", *HEAD_VECTORS)
positional_on_and_off = pytest.mark.parametrize("positional", [True, False])


@positional_on_and_off
@pytest.mark.parametrize("metric", oracles.METRICS)
@pytest.mark.parametrize("space", HEAD_VECTORS)
def test_tiny_models_equal_the_brute_force(tiny: Case, space: Any, metric: Any, positional: bool) -> None:
    for of in OF:
        near = tiny.model.neighbors(tiny.enc, k=15, metric=metric, of=of, space=space, positional=positional)
        tiny.check(near, metric, of, space, positional)


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("metric", oracles.METRICS)
def test_smallest_and_largest_k(tiny: Case, metric: Any, largest: bool) -> None:
    k = tiny.model.vocab_size if largest else 1
    near = tiny.model.neighbors(tiny.enc, k=k, metric=metric)
    assert near.sizes["rank"] == k
    tiny.check(near, metric)


@positional_on_and_off
def test_minilm_equals_the_brute_force(minilm: Case, positional: bool) -> None:
    """Its 30,522 words make this the slow one: all metrics of a position share the vocabulary's encodings."""
    answers = {m: minilm.model.neighbors(minilm.enc, k=15, metric=m, positional=positional) for m in oracles.METRICS}
    for position in minilm.enc.position.values:
        queries = minilm.enc["head_encoding"].sel(position=position).values
        if positional or position == 0:
            vocabulary = minilm.vocabulary("value", position, positional)
        for metric, near in answers.items():
            minilm.check_position(near, position, metric, queries, vocabulary)


@pytest.mark.parametrize("space", ["key", "query"])
def test_minilm_equals_the_brute_force_in_other_spaces(minilm: Case, space: Any) -> None:
    enc = minilm.enc.isel(position=[2, -1])
    near = minilm.model.neighbors(enc, k=15, metric="dot", of="query", space=space)
    for position in enc.position.values:
        vocabulary = minilm.vocabulary(space, position, True)
        minilm.check_position(near, position, "dot", enc["query_vector"].sel(position=position).values, vocabulary)


def test_defaults_are_those_of_the_design(tiny: Case) -> None:
    explicit = tiny.model.neighbors(
        tiny.enc, k=15, metric="cosine", of="encoding", space="value", vocab_layer="input", positional=True
    )
    xr.testing.assert_identical(tiny.model.neighbors(tiny.enc), explicit)


def test_equal_words_rank_equal_and_come_in_the_order_of_their_ids() -> None:
    """A text of one token writes its value; ids 100 ... 139 are copies of word 60."""
    hf_model = models.tiny_bert()
    words = hf_model.embeddings.word_embeddings.weight.data
    words[100:140] = words[60]
    model = attnxr.Model(hf_model)
    for token_id in (60, 120, 139):
        near = model.neighbors(model.encode(token_ids=[token_id]).isel(layer=[0]), k=41, metric="euclidean")
        assert (near.own_rank == 1).all()
        assert (near.neighbor_id == [60, *range(100, 140)]).all()


@pytest.mark.parametrize("metric", oracles.METRICS)
@pytest.mark.parametrize("factor", [0.0, 1e-15, 1e-6, 1e6, 1e15])
def test_encodings_of_any_length_equal_the_brute_force(tiny: Case, metric: Any, factor: float) -> None:
    enc = tiny.enc.assign(head_encoding=tiny.enc["head_encoding"] * np.float32(factor))
    tiny.check(tiny.model.neighbors(enc, k=15, metric=metric), metric, enc=enc)


def test_in_sequence_marks_the_neighbours_that_occur_in_the_text(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=40)
    expected = np.isin(near.neighbor_id.values, tiny.token_ids)
    np.testing.assert_array_equal(near.in_sequence.values, expected)
    assert expected.any()
    assert not expected.all()


def test_neighbor_names_are_the_tokenizers(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=5)
    np.testing.assert_array_equal(near.neighbor.values, tiny.model.vocabulary.token[near.neighbor_id.values])
    np.testing.assert_array_equal(near.neighbor_text.values, tiny.model.vocabulary.text[near.neighbor_id.values])


SLICES = [
    pytest.param({"layer": [1], "position": [3, 4]}, id="the brief's"),
    pytest.param({"head": [3, 1]}, id="some heads"),
    pytest.param({"head": [3, 2, 1, 0]}, id="all heads, out of order"),
    pytest.param({"position": [5, 2, 2]}, id="a position twice"),
    pytest.param({"layer": slice(None, None, -1)}, id="layers backwards"),
    pytest.param({"layer": [0], "head": [3], "position": [2]}, id="one vector"),
]


@pytest.mark.parametrize("chosen", SLICES)
@pytest.mark.parametrize("metric", ["cosine", "centered_cosine"])
def test_slicing_before_equals_slicing_after(tiny: Case, chosen: Any, metric: Any) -> None:
    before = tiny.model.neighbors(tiny.enc.isel(chosen), k=7, metric=metric)
    after = tiny.model.neighbors(tiny.enc, k=7, metric=metric).isel(chosen)
    xr.testing.assert_identical(before, after)


def test_progress_ascends_to_one_and_what_it_raises_ends_the_search(tiny: Case) -> None:
    told: list[float] = []
    tiny.model.neighbors(tiny.enc, progress=told.append)
    assert told
    assert told == sorted(told)
    assert told[-1] == 1

    def cancel(fraction: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        tiny.model.neighbors(tiny.enc, progress=cancel)


def test_the_encodings_are_not_changed(tiny: Case) -> None:
    before = tiny.enc.copy(deep=True)
    tiny.model.neighbors(tiny.enc)
    tiny.model.distances(tiny.enc).distance.isel(layer=0, head=0, position=0).load()
    attnxr.sequence_distances(tiny.enc)
    xr.testing.assert_identical(tiny.enc, before)


@pytest.mark.parametrize(
    "chosen", [{"layer": 1}, {"position": 2}, {"layer": 1, "head": 2, "position": 3}, {"head": [1, 2], "position": 4}]
)
def test_dimensions_that_a_selection_drops_are_dropped_in_the_answer(tiny: Case, chosen: dict[str, Any]) -> None:
    selected = tiny.model.neighbors(tiny.enc.isel(chosen), k=4)
    xr.testing.assert_identical(selected, tiny.model.neighbors(tiny.enc, k=4).isel(chosen))
    dist = tiny.model.distances(tiny.enc.isel(chosen))
    xr.testing.assert_equal(dist.load(), tiny.model.distances(tiny.enc).isel(chosen).load())


def test_a_token_that_is_named_often_is_one_string(tiny: Case) -> None:
    """Else the names take several times what all else of a result does, and nobody counts them."""
    near = tiny.model.neighbors(tiny.enc, k=15)
    entries = np.unique(near.neighbor_id.values).size
    for name in ("neighbor", "neighbor_text"):
        named = near[name].values.ravel()
        assert named.dtype == object
        assert len({id(each) for each in named}) <= entries < named.size
