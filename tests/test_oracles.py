"""The references agree with Hugging Face in float64, and the comparators refuse what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.support import models, oracles

TEXT_WITH_PADDING = [0, 57, 301, 1, 300, 1, 57, 2]


@pytest.mark.parametrize("build", [models.tiny_roberta, models.tiny_bert])
def test_oracle_is_the_model_in_float64(build: Any) -> None:
    hf_model = build(attn_implementation="eager").double()
    trace = oracles.Bert(hf_model).trace(TEXT_WITH_PADDING)
    with torch.no_grad():
        out = hf_model(torch.tensor([TEXT_WITH_PADDING]), output_hidden_states=True, output_attentions=True)
    hidden, attention = (torch.cat(part).numpy() for part in (out.hidden_states[1:], out.attentions))
    np.testing.assert_allclose(trace.hidden, hidden, atol=1e-12)
    np.testing.assert_allclose(trace.attention, attention, atol=1e-12)


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_distances_are_their_definitions(metric: str) -> None:
    rng = np.random.default_rng(0)
    queries, vectors = rng.normal(size=(3, 5)), rng.normal(size=(7, 5))
    mean = vectors.mean(0)

    def cosine(a: Any, b: Any) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    define = {
        "cosine": lambda z, u: 1 - cosine(z, u),
        "euclidean": lambda z, u: np.linalg.norm(z - u),
        "dot": lambda z, u: -(z @ u),
        "centered_cosine": lambda z, u: 1 - cosine(z - mean, u - mean),
    }[metric]
    expected = [[define(z, u) for u in vectors] for z in queries]
    np.testing.assert_allclose(oracles.distances(metric, queries, vectors), expected, rtol=1e-12)


def test_a_zero_vector_has_cosine_zero_to_everything() -> None:
    found = oracles.distances("cosine", np.zeros((1, 3)), np.array([[1.0, 2, 3], [0, 0, 0]]))
    assert found.tolist() == [[1, 1]]


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_tolerances_cover_a_relative_change_of_the_vectors(metric: str) -> None:
    rng = np.random.default_rng(1)
    queries, vectors = rng.normal(size=(4, 6)) + 3, rng.normal(size=(9, 6)) + 3
    true = oracles.distances(metric, queries, vectors)
    tolerance = oracles.tolerances(metric, queries, vectors)
    for _ in range(50):
        moved = [x * (1 + oracles.TIE * rng.uniform(-0.3, 0.3, x.shape)) for x in (queries, vectors)]
        assert (np.abs(oracles.distances(metric, *moved) - true) <= tolerance).all()
    assert (tolerance < 1e-4).all()


TRUE = np.array([[0.3, 0.1, 0.5, 0.2, 0.4]])
TOLERANCE = np.full_like(TRUE, 1e-6)
ANSWER = np.array([[1, 3, 0]])


def found(ids: Any) -> np.ndarray:
    return np.take_along_axis(TRUE, np.array(ids), -1)


def test_comparator_accepts_the_right_neighbours() -> None:
    oracles.check_neighbors(ANSWER, found(ANSWER) + 5e-7, TRUE, TOLERANCE)


@pytest.mark.parametrize(
    ("ids", "distances"),
    [
        pytest.param([[1, 3, 4]], found([[1, 3, 4]]), id="a nearer entry missing"),
        pytest.param([[1, 0, 3]], found([[1, 0, 3]]), id="two entries swapped"),
        pytest.param([[1, 0, 3]], found([[1, 3, 0]]), id="two ids swapped, distances in order"),
        pytest.param([[1, 3, 3]], found([[1, 3, 3]]), id="an entry twice"),
        pytest.param([[1, 3, 5]], found([[1, 3, 0]]), id="an id out of range"),
        pytest.param([[1, 3, 0]], found([[1, 3, 0]]) + 2e-6, id="distances off"),
        pytest.param([[1, 3]], found([[1, 3, 0]]), id="an id too few"),
        pytest.param([[1, 3, 0]], found([[1, 3, 0]]) * np.nan, id="not a number"),
    ],
)
def test_comparator_refuses_wrong_neighbours(ids: Any, distances: Any) -> None:
    with pytest.raises(AssertionError):
        oracles.check_neighbors(np.array(ids), distances, TRUE, TOLERANCE)


def test_comparator_takes_ties_either_way_but_not_more() -> None:
    near_tie = TRUE.copy()
    near_tie[0, 0] = 0.2 + 5e-7
    for ids in ([[1, 3]], [[1, 0]]):
        oracles.check_neighbors(np.array(ids), np.array([[0.1, 0.2]]), near_tie, TOLERANCE)
    near_tie[0, 0] = 0.2 + 5e-6
    with pytest.raises(AssertionError):
        oracles.check_neighbors(np.array([[1, 0]]), np.array([[0.1, 0.200005]]), near_tie, TOLERANCE)


def test_own_comparator_wants_the_strict_rank() -> None:
    own = 0
    assert oracles.own_rank(TRUE, own).tolist() == [3]
    oracles.check_own(np.array([3]), np.array([0.3]), TRUE, TOLERANCE, own)
    for rank, distance in ((2, 0.3), (4, 0.3), (3, 0.31), (3, np.nan)):
        with pytest.raises(AssertionError):
            oracles.check_own(np.array([rank]), np.array([distance]), TRUE, TOLERANCE, own)


def test_own_comparator_takes_ties_either_way() -> None:
    near_tie = TRUE.copy()
    near_tie[0, 3] = 0.3 - 5e-7
    for rank in (2, 3):
        oracles.check_own(np.array([rank]), np.array([0.3]), near_tie, TOLERANCE, own=0)


def test_sequence_distances_compare_within_one_head_of_one_layer() -> None:
    encoding = np.random.default_rng(2).normal(size=(2, 3, 4, 5))
    dist = oracles.sequence_distances("euclidean", encoding)
    assert dist.shape == (2, 3, 4, 4)
    expected = np.linalg.norm(encoding[1, 2, 0] - encoding[1, 2, 3])
    np.testing.assert_allclose(dist[1, 2, 0, 3], expected, rtol=1e-12)
