"""Own ranks and similarities over layers are those of the neighbours, summed up over heads as documented."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from tests.support import oracles
from tests.support.cases import Case

TEXTS = ["Time flies like an arrow.", "A dog! The dog flies.", "Fruit flies like a banana."]


@pytest.fixture(scope="module")
def near(roberta: Case) -> xr.Dataset:
    return roberta.model.neighbors(roberta.enc)


@pytest.fixture(scope="module")
def stream(roberta: Case) -> xr.Dataset:
    return roberta.model.neighbors(roberta.enc, of="hidden", space="embedding", metric="dot")


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_equals_the_brute_force(roberta: Case, metric: Any) -> None:
    """Similarity and share of nearer entries, from the distances of the float64 oracle."""
    found = attnxr.trajectories(roberta.model.neighbors(roberta.enc, metric=metric))
    for position, token in enumerate(roberta.token_ids):
        queries = roberta.enc["head_encoding"].values[:, :, position]
        vectors = roberta.vocabulary("value", position)
        for layer, head in np.ndindex(*queries.shape[:2]):
            true = oracles.distances(metric, queries[layer, head], vectors[head])
            slack = oracles.tolerances(metric, queries[layer, head], vectors[head])
            here = found.isel(layer=layer, head=head, position=position)
            similarity = -true[token] if metric in ("dot", "euclidean") else 1 - true[token]
            assert abs(float(here.own_similarity) - similarity) <= slack[token] + 1e-7
            nearer = np.delete(true < true[token], token)
            doubtful = np.delete(np.abs(true - true[token]) <= slack + slack[token], token)
            assert abs(float(here.own_quantile) - nearer.mean()) <= doubtful.mean() + 1e-12


def test_equals_slow_loops_over_heads(near: xr.Dataset) -> None:
    found = attnxr.trajectories(near)
    for layer in range(near.sizes["layer"]):
        for position in range(near.sizes["position"]):
            here = near.isel(layer=layer, position=position)
            pairs = zip(here.own_rank.values.tolist(), here.own_distance.values.tolist(), strict=True)
            ordered = sorted((rank, distance, head) for head, (rank, distance) in enumerate(pairs))
            out = found.isel(layer=layer, position=position)
            assert (int(out.best_own_rank), int(out.best_head)) == (ordered[0][0], ordered[0][2])
            assert float(out.median_own_rank) == (ordered[1][0] + ordered[2][0]) / 2


def test_of_equal_ranks_the_smaller_distance_is_the_best_heads(near: xr.Dataset) -> None:
    tied = near.copy(deep=True)
    tied["own_rank"][:] = 7
    found = attnxr.trajectories(tied)
    np.testing.assert_array_equal(found.best_head, near.own_distance.argmin("head"))
    tied["own_distance"][:] = 0.5
    assert (attnxr.trajectories(tied).best_head == 0).all()


def test_best_head_is_a_label(near: xr.Dataset) -> None:
    some = attnxr.trajectories(near.isel(head=[3, 1]))
    assert set(np.unique(some.best_head)) == {1, 3}


def test_the_stream_stands_beside_the_heads(near: xr.Dataset, stream: xr.Dataset) -> None:
    both = attnxr.trajectories(near, stream)
    xr.testing.assert_identical(
        both[list(attnxr.trajectories(near))].drop_attrs(), attnxr.trajectories(near).drop_attrs()
    )
    alone = attnxr.trajectories(stream)
    assert set(alone.data_vars) == {"own_rank", "own_quantile", "own_similarity"}
    for name in alone.data_vars:
        assert both[f"stream_{name}"].dims == ("layer", "position")
        np.testing.assert_array_equal(both[f"stream_{name}"], alone[name])
    np.testing.assert_array_equal(both.stream_own_rank, stream.own_rank)
    np.testing.assert_array_equal(both.stream_own_similarity, -stream.own_distance)
    assert (both.attrs["metric"], both.attrs["stream_metric"], both.attrs["stream_of"]) == ("cosine", "dot", "hidden")


@pytest.mark.parametrize("chosen", [{"layer": 1}, {"head": 2}, {"position": 3}, {"layer": 0, "head": 1, "position": 2}])
def test_selecting_before_equals_selecting_after(near: xr.Dataset, chosen: dict[str, int]) -> None:
    before, whole = attnxr.trajectories(near.isel(chosen)), attnxr.trajectories(near).isel(chosen)
    own = ["own_rank", "own_quantile", "own_similarity"]
    xr.testing.assert_identical(before[own], whole[own])
    if "head" not in chosen:
        xr.testing.assert_identical(before, whole)


def test_several_texts_equal_each_alone(roberta: Case) -> None:
    together = roberta.model.encode(TEXTS, include=["hidden"])
    found = attnxr.trajectories(
        roberta.model.neighbors(together), roberta.model.neighbors(together, of="hidden", space="embedding")
    )
    for i, text in enumerate(TEXTS):
        alone = roberta.model.encode(text, include=["hidden"])
        expected = attnxr.trajectories(
            roberta.model.neighbors(alone), roberta.model.neighbors(alone, of="hidden", space="embedding")
        )
        part = found.isel(position=found.text_id.values == i)
        for name in expected.data_vars:
            np.testing.assert_allclose(part[name], expected[name], rtol=1e-5, atol=1e-6)


def test_what_does_not_belong_together_is_refused(roberta: Case, near: xr.Dataset, stream: xr.Dataset) -> None:
    other = roberta.model.encode("A dog!", include=["hidden"])
    wrong = [
        ((near.own_rank,), "DataArray"),
        ((roberta.enc,), "own_rank"),
        ((near.drop_vars("own_distance"),), "own_distance"),
        ((near.drop_attrs(),), "vocab_size"),
        ((near.mean("head"),), "own_rank"),
        ((near.isel(layer=[]),), "narrowly"),
        ((near, near), "head"),
        ((near, roberta.model.neighbors(other, of="hidden", space="embedding")), "token_ids"),
        ((near, stream.isel(layer=[0, 1])), "layers"),
        ((near.isel(position=[0, 1]), stream), "positions"),
    ]
    for arguments, named in wrong:
        with pytest.raises(InputError, match=named):
            attnxr.trajectories(*arguments)
