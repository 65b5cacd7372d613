"""The search over arrays is exact: duplicates, zero vectors, near ties, huge and tiny norms, any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attnxr.search import exact, kernels, nearest
from attnxr.search.blocks import Block
from attnxr.search.simd import PANEL, products
from attnxr.search.tables import Tables
from tests.support import oracles

TIE = 1e-12  # both sides compute in float64 from the same numbers


@dataclass(frozen=True, eq=False)
class Vocabulary(Block):
    """Vocabulary encodings (rows + shift) · scale + offset with any scale."""

    scales: np.ndarray  # (P, V)

    def scale(self, places: np.ndarray) -> np.ndarray:
        return self.scales[places]

    def mean(self, heads: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.array([[self.vectors(head, place).mean(axis=0) for place in places] for head in heads])

    def vectors(self, head: int, place: int) -> np.ndarray:
        """What the definition says u is: (V, d)."""
        rows = self.rows[head].astype(np.float64)
        return (rows + self.shift[head, place]) * self.scales[place][:, None] + self.offset[head]


def plain(rows: np.ndarray) -> Vocabulary:
    """(head, V, d) encodings that are the rows themselves, at a single position."""
    heads, size, features = rows.shape
    zeros = np.zeros((heads, features))
    return Vocabulary(rows.astype(np.float32), zeros[:, None], zeros, Tables(1 << 40), 0, np.ones((1, size)))


def random_vocabulary(heads: int, places: int, size: int, features: int, seed: int) -> Vocabulary:
    rng = np.random.default_rng(seed)
    return Vocabulary(
        rng.normal(size=(heads, size, features)).astype(np.float32),
        rng.normal(size=(heads, places, features)),
        rng.normal(size=(heads, features)),
        Tables(1 << 40),
        0,
        rng.uniform(0.5, 2, size=(places, size)),
    )


def random_queries(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def found_by_search(
    vocabulary: Vocabulary, queries: np.ndarray, place: list[int], own: list[int], k: int, metric: Any, **more: Any
) -> nearest.Nearest:
    """Search with query heads that share the vocabulary's heads evenly."""
    heads = np.arange(queries.shape[1]) * len(vocabulary.rows) // queries.shape[1]
    return nearest.search(vocabulary, queries, heads, np.array(place), np.array(own), k, metric, **more)


def check(vocabulary: Vocabulary, queries: np.ndarray, place: list[int], own: list[int], k: int, metric: Any) -> None:
    """Search, and compare with going through every pair."""
    found = found_by_search(vocabulary, queries, place, own, k, metric)
    group = queries.shape[1] // len(vocabulary.rows)
    for head, position in np.ndindex(queries.shape[1:3]):
        vectors = vocabulary.vectors(head // group, place[position])
        true = oracles.distances(metric, queries[:, head, position], vectors)
        slack = oracles.tolerances(metric, queries[:, head, position], vectors, TIE)
        best = np.sort(true, axis=-1)[:, :k]
        oracles.check_neighbors(found.ids[:, head, position], best, true, slack)
        oracles.check_own(found.own_rank[:, head, position], true[:, own[position]], true, slack, own[position])
        unit = slack.max() + np.finfo(np.float32).smallest_subnormal
        np.testing.assert_allclose(found.distance[:, head, position], best, rtol=1e-6, atol=unit)
        own_true = true[:, own[position]]
        np.testing.assert_allclose(found.own_distance[:, head, position], own_true, rtol=1e-6, atol=unit)


every_metric = pytest.mark.parametrize("metric", oracles.METRICS)

NASTY = [0.0, 1.0, -1.0, 1 + 2**-23, 1 - 2**-24, 0.1, 3e5, -3e5, 3e5 + 0.03125, 1e-20, -1e-20, 1e15, 1e-38]
numbers = st.sampled_from(NASTY) | st.floats(-4, 4, width=32)


@st.composite
def problems(draw: st.DrawFn) -> Any:
    """A small vocabulary with repeated and nearly repeated entries, and queries that are often among them."""
    heads, size, features = draw(st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 4)))
    rows = draw(arrays(np.float32, (heads, size, features), elements=numbers))
    copies = draw(st.lists(st.integers(0, size - 1), max_size=size))
    rows[:, : len(copies)] = rows[:, copies]
    positions = draw(st.integers(1, 3))
    queries = draw(arrays(np.float32, (2, heads, positions, features), elements=numbers))
    own = draw(st.lists(st.integers(0, size - 1), min_size=positions, max_size=positions))
    if draw(st.booleans()):
        queries[0] = rows[:, own]
    return plain(rows), queries, [0] * positions, own, draw(st.integers(1, size))


@every_metric
@settings(max_examples=150, deadline=None, derandomize=True)
@example(problem=(plain(np.full((1, 1, 1), 1e-20)), np.full((2, 1, 1, 1), -1e-20, np.float32), [0], [0], 1))
@given(problem=problems())
def test_is_exact_on_nasty_numbers(metric: Any, problem: Any) -> None:
    vocabulary, queries, place, own, k = problem
    check(vocabulary, queries, place, own, k, metric)


@every_metric
@pytest.mark.parametrize("k", [1, 15, 9001])
def test_is_exact_on_a_vocabulary_of_several_tiles(metric: str, k: int) -> None:
    vocabulary = random_vocabulary(heads=2, places=2, size=9001, features=5, seed=0)
    check(vocabulary, random_queries(2, 2, 3, 5), [0, 1, 1], [0, 9000, 4096], k, metric)


@every_metric
def test_query_heads_share_the_vocabulary_of_their_group(metric: str) -> None:
    vocabulary = random_vocabulary(heads=2, places=2, size=50, features=4, seed=1)
    check(vocabulary, random_queries(2, 6, 2, 4), [1, 0], [3, 7], 9, metric)


@every_metric
def test_is_exact_far_from_the_origin(metric: str) -> None:
    """Where float32 products cancel: the vocabulary is a small cloud a million away from zero."""
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(1, 3000, 8)).astype(np.float32)
    offset = np.full((1, 8), 1e6)
    vocabulary = Vocabulary(rows, np.zeros((1, 1, 8)), offset, Tables(1 << 40), 0, np.ones((1, 3000)))
    queries = (offset + rng.normal(size=(2, 1, 4, 8))).astype(np.float32)
    check(vocabulary, queries, [0] * 4, [5, 6, 7, 8], 15, metric)


@every_metric
def test_entries_equally_near_come_in_the_order_of_their_ids(metric: str) -> None:
    """More equal entries than any buffer holds, so that every one of them is left open by the screen."""
    rows = np.tile(np.array([1, 2, 3], np.float32), (1, 5000, 1))
    rows[0, 4000] = [3, 1, 1]
    found = found_by_search(plain(rows), random_queries(1, 1, 1, 3), [0], [4999], 15, metric)
    expected = list(range(15)) if 4000 not in found.ids else [4000, *range(14)]
    assert found.ids.ravel().tolist() == expected
    assert found.own_rank.item() in (1, 2)
    check(plain(rows), random_queries(1, 1, 1, 3), [0], [4999], 15, metric)


@every_metric
def test_own_rank_counts_strictly_nearer_entries(metric: str) -> None:
    rows = np.array([[[1, 0], [0, 1], [1, 0], [0.6, 0.8]]], np.float32)
    queries = np.array([[[[1, 0]], [[1, 0]]]], np.float32).transpose(0, 2, 1, 3)
    found = found_by_search(plain(rows), queries, [0, 0], [2, 3], 4, metric)
    assert found.own_rank.ravel().tolist() == [1, 3]


def test_a_zero_vector_has_cosine_zero_to_everything() -> None:
    rows = np.array([[[0, 0], [1, 2], [-1, 0]]], np.float32)
    queries = np.array([[[[0, 0], [1, 0]]]], np.float32)
    found = found_by_search(plain(rows), queries, [0, 0], [0, 0], 3, "cosine")
    assert found.distance[0, 0, 0].tolist() == [1, 1, 1]
    assert found.ids[0, 0, 0].tolist() == [0, 1, 2]
    assert found.ids[0, 0, 1].tolist() == [1, 0, 2]
    assert found.own_rank[0, 0].tolist() == [1, 2]


@every_metric
@pytest.mark.parametrize("factor", [1e-25, 1e-20, 1e-15, 1e15, 1e25])
def test_is_exact_at_any_size_of_the_numbers(metric: str, factor: float) -> None:
    if metric == "dot":
        factor = min(factor, 1e15)  # a product of two larger ones is no float32
    rows = random_queries(1, 200, 6) * np.float32(factor)
    check(plain(rows), random_queries(2, 1, 3, 6) * np.float32(factor), [0] * 3, [0, 9, 199], 15, metric)
    check(plain(rows), random_queries(2, 1, 3, 6), [0] * 3, [0, 9, 199], 15, metric)


@every_metric
def test_single_distances_are_those_of_the_search_to_the_bit(metric: Any) -> None:
    vocabulary = random_vocabulary(heads=2, places=2, size=300, features=8, seed=3)
    queries, place = random_queries(3, 2, 2, 8), [1, 0]
    found = found_by_search(vocabulary, queries, place, [4, 5], 300, metric)
    for position in range(2):
        at = queries[:, :, position]
        alone = nearest.distances(vocabulary, metric, np.arange(2), at, place[position], np.arange(300))
        ids = found.ids[:, :, position]
        np.testing.assert_array_equal(found.distance[:, :, position], np.take_along_axis(alone, ids, -1))


@every_metric
def test_the_number_of_threads_changes_nothing(metric: Any) -> None:
    vocabulary = random_vocabulary(heads=2, places=1, size=5000, features=8, seed=4)
    arguments = (vocabulary, random_queries(2, 2, 1, 8), [0], [4], 15, metric)
    threads = torch.get_num_threads()
    try:
        answers = []
        for count in (1, 3):
            torch.set_num_threads(count)
            answers.append(found_by_search(*arguments))
    finally:
        torch.set_num_threads(threads)
    for name in ("ids", "distance", "own_rank", "own_distance"):
        np.testing.assert_array_equal(getattr(answers[0], name), getattr(answers[1], name))


def test_progress_ascends_to_one_and_what_it_raises_ends_the_search() -> None:
    vocabulary = random_vocabulary(heads=1, places=1, size=9001, features=3, seed=5)
    arguments = (vocabulary, random_queries(1, 1, 1, 3), [0], [4], 1, "cosine")
    told: list[float] = []
    found_by_search(*arguments, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1

    def cancel(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found_by_search(*arguments, progress=cancel)


def crowded(kind: str, rng: np.random.Generator) -> tuple[Vocabulary, np.ndarray]:
    """A vocabulary of several panels and places that makes the screen's life hard, and queries to it."""
    heads, places, size, features = 2, 2, 700, 24
    vocabulary = random_vocabulary(heads, places, size, features, seed=int(rng.integers(1 << 30)))
    rows, queries = vocabulary.rows, rng.normal(size=(2, heads, 3, features))
    if kind == "near ties":
        rows[:, 100:400] = rows[:, :1] * (1 + rng.normal(size=(heads, 300, features)) * 1e-7)
    elif kind == "duplicates":
        rows[:, 100:600] = rows[:, rng.integers(0, 40, 500)]
        vocabulary.scales[:] = 1.25
    elif kind == "zero vectors":
        rows[:, ::3] = 0
        vocabulary.shift[0, 0] = vocabulary.offset[:] = 0
        queries[0, 0, 0] = 0
    elif kind == "huge norms":
        rows *= np.exp(rng.normal(size=(heads, size, 1)) * 12).astype(np.float32)
        queries *= np.exp(rng.normal(size=(2, heads, 3, 1)) * 12)
    elif kind == "outliers":
        rows[:, 5, 3], rows[:, 6, 4] = 1e6, 1e-6
        queries[:, :, 1, 3] = 1e6
    elif kind == "far away":
        rows += np.float32(1e6)
        queries += 1e6
    elif kind == "shift far away":
        vocabulary.shift[:] += 1e6
    elif kind == "offset far away":
        vocabulary.offset[:] += 1e10
        queries += 1e10
    elif kind == "offset undoes shift":
        vocabulary.scales[:] = 1 + rng.normal(size=(places, size)) * 1e-9
        vocabulary.shift[:] += 1e8
        vocabulary.offset[:] -= 1e8
    elif kind == "equal to entries":
        at = rng.integers(0, size, (2, 3))
        for head, position in np.ndindex(heads, 3):
            queries[:, head, position] = vocabulary.vectors(head, position % 2)[at[:, position]]
    elif kind == "one direction":
        rows[:] = rows[:, :1] * rng.uniform(0.5, 2, size=(heads, size, 1)).astype(np.float32)
        vocabulary.shift[:] = vocabulary.offset[:] = 0
    return vocabulary, queries


def in_float64(vocabulary: Vocabulary, metric: str, head: int, queries: np.ndarray, place: int) -> np.ndarray:
    """All distances by the library's own float64 formula, without a screen: (m, V)."""
    here = np.array([place])
    centre = (
        vocabulary.mean(np.array([head]), here)[0] if metric == "centered_cosine" else np.zeros((1, queries.shape[1]))
    )
    entries = exact.Entries(
        vocabulary.rows[head], vocabulary.shift[head, here], vocabulary.scale(here), vocabulary.offset[head], centre
    )
    kind, every = nearest._KIND[metric], np.arange(len(entries.rows))
    out = np.empty((len(queries), len(every)))
    for q, z in enumerate(queries.astype(np.float64)):
        exact.distances(kind, z[None] - centre, 0, entries, 0, every, len(every), out[q])
    return out


KINDS = (
    "near ties", "duplicates", "zero vectors", "huge norms", "outliers", "far away", "shift far away",
    "offset far away", "offset undoes shift", "equal to entries", "one direction", "nothing special",
)  # fmt: skip


@every_metric
@pytest.mark.parametrize("kind", KINDS)
def test_is_exact_on_hard_vocabularies(metric: Any, kind: str) -> None:
    """Not near it: the very ids and distances that going through every pair in float64 gives."""
    for seed in range(3):
        vocabulary, queries = crowded(kind, np.random.default_rng(seed))
        place, own, k = [0, 1, 0], [5, 100, 399], 15
        found = found_by_search(vocabulary, queries, place, own, k, metric)
        for head, position in np.ndindex(2, 3):
            every = in_float64(vocabulary, metric, head, queries[:, head, position], place[position])
            order = np.argsort(every, axis=-1, kind="stable")[:, :k]
            np.testing.assert_array_equal(found.ids[:, head, position], order)
            exact = np.take_along_axis(every, order, -1).astype(np.float32)
            np.testing.assert_array_equal(found.distance[:, head, position], exact)
            at = own[position]
            np.testing.assert_array_equal(found.own_rank[:, head, position], oracles.own_rank(every, at))
        # Elsewhere an own tie is no tie to another order of sums.
        if kind not in ("near ties", "huge norms", "shift far away", "offset far away", "offset undoes shift"):
            check(vocabulary, queries, place, own, k, metric)


@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 40), st.integers(1, 9)), elements=st.floats(-(2.0**99), 2.0**99, width=32)
    )
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_sixteen_bits_leave_out_what_they_say(vectors: np.ndarray) -> None:
    """And no sum of products of theirs leaves 32 bits."""
    centre = vectors.mean(axis=0, dtype=np.float64)
    parts = kernels.quantised(vectors, centre, PANEL)
    numbers = parts.numbers.view(np.int16).reshape(*parts.numbers.shape, 2)  # (panels, pairs, 32, 2)
    numbers = numbers.transpose(0, 2, 1, 3).reshape(-1, 2 * parts.numbers.shape[1]).astype(np.int64)
    assert not numbers[len(vectors) :].any()
    numbers = numbers[: len(vectors), : vectors.shape[1]]
    left = vectors.astype(np.float64) - centre - parts.unit[:, None] * numbers
    assert (np.linalg.norm(left, axis=1) <= parts.residual).all()
    assert (np.linalg.norm(vectors.astype(np.float64) - centre, axis=1) <= parts.size).all()
    assert (np.abs(numbers) @ np.abs(numbers).T < 2**31).all()


def test_the_products_of_a_panel_are_exact() -> None:
    """At the ends of what 16 and 32 bits hold."""
    rng = np.random.default_rng(0)
    rows = np.zeros((70, 5), np.float32)
    rows[:3] = [[1, 0, 0, 0, 0], [-1, 1, 0, 0, 0], [1, -1, 1, -1, 1]]
    rows[3:] = rng.normal(size=(67, 5))
    left, right = kernels.quantised(rows, np.zeros(5)), kernels.quantised(rows, np.zeros(5), PANEL)
    sums = np.zeros((12 * len(left.numbers), PANEL), np.int32)
    for panel in range(len(right.numbers)):
        _products(left.numbers, right.numbers, panel, sums)
        here = slice(panel * PANEL, min(70, (panel + 1) * PANEL))
        numbers = np.rint(rows.astype(np.float64) / right.unit[:, None])
        expected = numbers @ numbers[here].T
        np.testing.assert_array_equal(sums[:70, : here.stop - here.start], expected)
    assert abs(expected).max() < 2**31


@numba.njit
def _products(left: Any, right: Any, panel: int, out: Any) -> None:
    for block in range(left.shape[0]):
        products(left, block, right, panel, out, block)
