"""Measures of a corpus are what slow loops make of its texts, and the same bits however batches make units."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import attnxr
from attnxr.corpus.measure import Batch, Facts, State
from attnxr.corpus.measures import DEFAULT, MEASURES, fixed
from attnxr.corpus.measures.examples import Examples
from attnxr.corpus.measures.lists import lift
from tests.support import corpus, oracles
from tests.support.families import FAMILIES

RNG = np.random.default_rng(0)
BODIES = [
    [5, 9, 7, 9, 5],
    [8, 8, 8, 6, 9],
    [9, 5],
    [],
    [7],
    [40, 41, 5, 9, 8],
    [5, 9],
    [33, 6, 5, 7, 9, 9, 8, 5],
    [8, 5],
]
BODIES += [RNG.integers(5, 60, size=n).tolist() for n in (2, 6, 6, 9, 9, 20, 6, 9)]


class Corpus:
    """A model, its texts, and the batches they make."""

    def __init__(self, model: attnxr.Model, texts: Sequence[Sequence[int]], causal: bool):
        self.model, self.texts = model, texts
        self.facts = corpus.facts(model, texts, causal)
        self.shown = corpus.batches(model, texts)

    def finished(self, name: str) -> xr.Dataset:
        measure = MEASURES[name]()
        return measure.finish(corpus.state_of(measure, self.facts, self.shown, self.model), self.facts)


@pytest.fixture(scope="module", params=["roberta", "gpt2"])
def made(request: pytest.FixtureRequest) -> Corpus:
    """An encoder with special tokens at both ends of a text, and a decoder that has none."""
    if request.param == "roberta":
        return Corpus(request.getfixturevalue("roberta").model, [[0, *body, 2] for body in BODIES], False)
    return Corpus(attnxr.Model(FAMILIES["gpt2"].build()), [[6, *body] for body in BODIES], True)


def same(a: State, b: State) -> bool:
    """Whether two states are the same bits."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and a[name].tobytes() == b[name].tobytes()
        for name in a
    )


@pytest.mark.parametrize("name", [name for name in DEFAULT if name not in ("significance", "effects")])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_units_change_no_bit(made: Corpus, name: str, data: Any) -> None:
    """Whole or cut anywhere, merged from the left, from the right or in another order."""
    measure = MEASURES[name]()
    whole = corpus.state_of(measure, made.facts, made.shown)
    n = len(made.shown)
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1), min_size=1, max_size=3)))
    units = [corpus.state_of(measure, made.facts, made.shown[a:b]) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    left, right = units[0], units[-1]
    for unit in units[1:]:
        left = measure.merge(left, unit)
    for unit in units[-2::-1]:
        right = measure.merge(unit, right)
    assert same(left, whole)
    assert same(right, whole)
    swapped = measure.merge(units[-1], units[0])
    for unit in units[1:-1]:
        swapped = measure.merge(swapped, unit)
    xr.testing.assert_identical(measure.finish(swapped, made.facts), measure.finish(whole, made.facts))
    empty = measure.begin(made.facts)
    assert same(measure.merge(whole, empty), whole)
    assert same(measure.merge(measure.begin(made.facts), whole), whole)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), max_size=12), st.randoms())
def test_sums_are_exact_and_the_same_in_any_order(numbers: list[float], random: Any) -> None:
    def total(some: list[float]) -> Any:
        out = fixed.zeros(1)
        for number in some:
            fixed.add(out, np.array([number]))
        return out

    shuffled = random.sample(numbers, len(numbers))
    half = len(numbers) // 2
    assert (total(numbers) == total(shuffled)).all()
    assert (fixed.plus(total(numbers[:half]), total(numbers[half:])) == total(numbers)).all()
    exact = sum(map(Fraction, numbers), Fraction(0))
    assert abs(Fraction(float(fixed.value(total(numbers))[0])) - exact) <= len(numbers) * 2.0**-53 + abs(exact) * 2**-51


def test_roles_are_those_of_slow_loops(made: Corpus) -> None:
    texts = [
        (attention, ids, special, made.facts.causal, range(len(ids)))
        for _, attention, ids, special in corpus.weights(made.shown)
    ]
    means, counts = oracles.roles(texts)
    found = made.finished("roles")
    for name in found["measure"].values.tolist():
        assert found.n_positions.sel(measure=name) == counts.get(name, 0)
        if name in means:
            np.testing.assert_allclose(found[name].values, means[name], rtol=1e-9, atol=1e-12)
        else:
            assert np.isnan(found[name]).all()
    same_thing = attnxr.roles(enc for each in made.shown for enc in each.encodings)
    np.testing.assert_allclose(found.pattern_entropy, same_thing.pattern_entropy, rtol=1e-12)


def plain(ids: Any, special: Any) -> list[int]:
    return [i for i in range(len(ids)) if i > 0 and not special[i]]


def test_masses_and_distances_are_those_of_slow_loops(made: Corpus) -> None:
    found = made.finished("looking")
    heads = made.facts.layers, range(made.facts.n_heads)
    to: dict[Any, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    by_offset: dict[Any, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    of: dict[Any, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for _, attention, ids, special in corpus.weights(made.shown):
        for layer in heads[0]:
            for head in heads[1]:
                for q in range(len(ids)):
                    for k in range(len(ids)):
                        by_offset[layer, head][k - q] += attention[layer, head, q, k]
                        if q in plain(ids, special) and k in plain(ids, special):
                            to[layer, head][ids[k]] += attention[layer, head, q, k]
                            of[layer, head][ids[q]] += attention[layer, head, q, k]
    for at in by_offset:
        one = found.isel(layer=at[0], head=at[1])
        total = sum(by_offset[at].values())
        for low, high, share in zip(
            one.offset_low.values, one.offset_high.values, one.distance_share.values, strict=True
        ):
            expected = sum(mass for offset, mass in by_offset[at].items() if low <= offset <= high)
            assert share == pytest.approx(expected / total, rel=1e-9, abs=1e-12)
        for kind, masses in (("key", to), ("query", of)):
            check_list(one, kind, "mass", masses, at)


def check_list(one: xr.Dataset, kind: str, score: str, amounts: Any, at: Any) -> None:
    """The entries with the largest amounts, and their lift over the other heads."""
    own = {entry: amount for entry, amount in amounts[at].items() if amount > 0}
    listed = [i for i in one[f"{kind}_id"].values.tolist() if i >= 0]
    assert len(set(listed)) == len(listed) == min(one.sizes["order"], len(own))
    best = sorted(own.values(), reverse=True)[: len(listed)]
    np.testing.assert_allclose(one[f"{kind}_{score}"].values[: len(listed)], best, rtol=1e-6)
    others = sum(sum(amounts[other].values()) for other in amounts if other != at)
    for place, entry in enumerate(listed):
        assert one[f"{kind}_{score}"].values[place] == pytest.approx(own[entry], rel=1e-6)
        expected = sum(own.values()) * sum(amounts[other].get(entry, 0) for other in amounts if other != at) / others
        assert one[f"{kind}_lift"].values[place] == pytest.approx((own[entry] + 5) / (expected + 5), rel=1e-6)


def test_words_are_counted(made: Corpus) -> None:
    found = made.finished("words")
    counts: dict[Any, Counter[int]] = defaultdict(Counter)
    for each in made.shown:
        for (layer, head, text, place), entry in np.ndenumerate(each.near.neighbor_id[..., 0]):
            if not each.batch.is_special[text, place]:
                counts[layer, head][int(entry)] += 1
    n = sum(counts[0, 0].values())
    for at, of_head in counts.items():
        one = found.isel(layer=at[0], head=at[1])
        check_list(one, "written", "count", counts, at)
        expected = sorted(of_head.items(), key=lambda each: (-each[1], each[0]))[: one.sizes["order"]]
        assert one.written_id.values[: len(expected)].tolist() == [entry for entry, _ in expected]
        assert one.written_share.values[0] == expected[0][1] / n
        lifts = {
            entry: (count + 5) / (sum(counts[o][entry] for o in counts if o != at) / (len(counts) - 1) + 5)
            for entry, count in of_head.items()
        }
        most = sorted(lifts.values(), reverse=True)[: one.sizes["order"]]
        first = one.distinctive_id.values[: len(most)].tolist()
        assert len(set(first)) == len(first)
        np.testing.assert_allclose(one.distinctive_lift.values[: len(first)], most)
        np.testing.assert_allclose([lifts[entry] for entry in first], most)
        assert one.distinctive_count.values[: len(first)].tolist() == [of_head[entry] for entry in first]


def test_lift_is_near_one_where_it_rests_on_little() -> None:
    assert lift(np.array([1]), 1000, np.array([1]), 10_000)[0] == 1.2
    assert lift(np.array([1000]), 1000, np.array([1000]), 10_000)[0] == 201
    assert np.isnan(lift(np.array([3]), 3, np.array([3]), 3)).all()


def test_origins_and_ranks_are_counted(made: Corpus) -> None:
    found = made.finished("own")
    shares: Any = np.zeros((3, *found.own_share.shape))
    ranks = np.zeros(found.own_rank_count.shape, int)
    n = 0
    for each in made.shown:
        for enc in each.encodings:
            near = made.model.neighbors(enc, k=1).isel(position=~enc.is_special.values)
            if not near.sizes["position"]:
                continue
            n += near.sizes["position"]
            of_text = attnxr.origins(near)
            shares += [of_text[f"{kind}_share"].values * near.sizes["position"] for kind in ("own", "other", "neither")]
            for i, (low, high) in enumerate(zip(found.rank_low.values, found.rank_high.values, strict=True)):
                ranks[..., i] += ((near.own_rank >= low) & (near.own_rank <= high)).sum("position").values
    for kind, expected in zip(("own", "other", "neither"), shares / n, strict=True):
        np.testing.assert_allclose(found[f"{kind}_share"].values, expected, rtol=1e-12, atol=1e-15)
    assert (found.own_rank_count.values == ranks).all()
    assert (found.own_rank_count.sum("rank_bin") == n).all()
    assert found.n_written == n
    assert found.rank_low.values[0] == 1
    assert found.rank_high.values[-1] == made.model.vocab_size


def activation(attention: Any, ids: Any, special: Any) -> tuple[float, int, int] | None:
    """The largest weight between tokens of content, and its query and key."""
    pairs = [(attention[q, k], q, k) for q in plain(ids, special) for k in plain(ids, special)]
    return max(pairs, key=lambda pair: (pair[0], -pair[2], -pair[1])) if pairs else None


def check_examples(found: xr.Dataset, texts: Any, drawn: list[int], hashes: dict[int, int]) -> None:
    for layer, head in np.ndindex(found.sizes["layer"], found.sizes["head"]):
        one = found.isel(layer=layer, head=head)
        active = {
            number: best
            for number, attention, ids, special in texts
            if (best := activation(attention[layer, head], ids, special)) is not None
        }
        assert one.n_active == len(active)
        assert one.activation_mean == pytest.approx(np.mean([value for value, _, _ in active.values()]), rel=1e-9)
        top = sorted(active, key=lambda number: (-active[number][0], number))
        intervals: dict[int, list[int]] = {11: top[:10]}
        sample = sorted((n for n in drawn if n in active), key=lambda n: (active[n][0], n))
        decile_of = {number: 1 + 10 * i // len(sample) for i, number in enumerate(sample)}
        for decile in range(1, 11):
            members = [n for n in sample if decile_of[n] == decile and n not in intervals[11]]
            intervals[decile] = sorted(members, key=hashes.__getitem__)[:3]
            largest = one.activation_decile.sel(decile=decile)
            values = [active[n][0] for n in sample if decile_of[n] == decile]
            assert np.isnan(largest) if not values else largest == max(values)
        attention_of = {number: attention[layer, head] for number, attention, _, _ in texts}
        for interval, numbers in intervals.items():
            given = one.isel(example=one.example_interval.values == interval)
            there = [number for number in given.example_text_id.values.tolist() if number >= 0]
            assert there == numbers
            for i, number in enumerate(numbers):
                value, q, k = active[number]
                assert given.example_activation.values[i] == value
                assert (given.example_query.values[i], given.example_key.values[i]) == (q, k)
                row = attention_of[number][q]
                keys = sorted(range(len(row)), key=lambda key: (-row[key], key))[:8]
                kept = given.example_attended.values[i].tolist()
                assert kept == keys + [-1] * (8 - len(keys))
                assert given.example_weight.values[i][: len(keys)].tolist() == row[keys].tolist()


def test_examples_are_those_of_slow_loops(made: Corpus) -> None:
    texts = corpus.weights(made.shown)
    state = corpus.state_of(Examples(), made.facts, made.shown)
    hashes = dict(zip(state["text"].tolist(), state["hash"].tolist(), strict=True))
    assert set(hashes) == {number for number, _, ids, special in texts if plain(ids, special)}  # few: all are drawn
    assert len(set(hashes.values())) == len(hashes)
    check_examples(made.finished("examples"), texts, list(hashes), hashes)


def test_of_many_texts_those_with_the_smallest_hash_are_drawn() -> None:
    """500 texts of random attention, of which 200 make the deciles."""
    measure, rng = Examples(), np.random.default_rng(1)
    about = Facts((0,), 2, 50, 0, 500, 2500, 3, False)
    state, states, texts = measure.begin(about), [], []
    for start in range(0, 500, 50):
        attention = rng.dirichlet(np.full(5, 0.3), size=(50, 2, 5)).astype(np.float32)
        attention[rng.random(50) < 0.2] = np.float32(0.2)  # many texts with equal activation
        batch = Batch(
            np.arange(start, start + 50), np.zeros((50, 5), int), np.ones((50, 5), int), np.zeros((50, 5), bool)
        )
        for target in (state, one := measure.begin(about)):
            measure.see_attention(target, batch, 0, torch.tensor(attention))
        states.append(one)
        texts += [
            (start + i, attention[i][None].astype(np.float64), batch.token_id[i], batch.is_special[i])
            for i in range(50)
        ]
    merged = states[0]
    for one in states[1:]:
        merged = measure.merge(merged, one)
    assert same(merged, state)
    every = {
        int(text): int(each)
        for one in states
        for text, each in zip(one["text"].tolist(), one["hash"].tolist(), strict=True)
    }
    assert len(every) == 500
    drawn = sorted(every, key=every.__getitem__)[:200]
    assert state["text"].tolist() == drawn
    assert 150 < np.mean(drawn) < 350  # from all over the corpus
    check_examples(measure.finish(state, about), texts, drawn, every)


def test_strided_tensors_are_taken(made: Corpus) -> None:
    each = max(made.shown, key=lambda shown: shown.batch.token_id.shape[1])
    attention = torch.tensor(np.stack([enc.attention.values[0] for enc in each.encodings]))
    strided = attention.transpose(1, 2).contiguous().transpose(1, 2)
    for name in ("roles", "looking", "examples"):
        measure = MEASURES[name]()
        states = [measure.begin(made.facts) for _ in range(2)]
        for state, tensor in zip(states, (attention, strided), strict=True):
            measure.see_attention(state, each.batch, 0, tensor)
        assert same(*states)


def test_nothing_seen_is_nothing_known(made: Corpus) -> None:
    for name in DEFAULT:
        measure = MEASURES[name]()
        found = measure.finish(measure.begin(made.facts), made.facts)
        for variable in found.data_vars.values():
            if variable.dims[:2] == ("layer", "head"):
                assert variable.shape[:2] == (len(made.facts.layers), made.facts.n_heads)
            if variable.dtype.kind == "f" and variable.name != "example_weight":
                assert np.isnan(variable).all()
            elif variable.dtype.kind in "iu":
                assert (variable <= 0).all()
