"""Comparisons are those of slow loops over the tokens that a plain alignment pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from tests.support import models
from tests.support.cases import Case

A = "Time flies like an arrow. Fruit flies like a banana."
B = "Fruit flies fly. Time flies like an arrow, a banana."
P = 0.9


@pytest.fixture(scope="module")
def a(roberta: Case) -> tuple[xr.Dataset, xr.Dataset]:
    enc = roberta.model.encode(A, include=["hidden"])
    return roberta.model.neighbors(enc, k=12), enc


@pytest.fixture(scope="module")
def b(roberta: Case) -> tuple[xr.Dataset, xr.Dataset]:
    enc = roberta.model.encode(B, include=["hidden"])
    return roberta.model.neighbors(enc, k=12), enc


def aligned(a: list[str], b: list[str]) -> list[tuple[int, int]]:
    """Pairs of the longest common run, the earliest in a and then in b, and the same to its left and to its right."""
    best = (0, 0, 0)
    for i, j in itertools.product(range(len(a)), range(len(b))):
        size = 0
        while i + size < len(a) and j + size < len(b) and a[i + size] == b[j + size]:
            size += 1
        best = max(best, (size, -i, -j))
    size, i, j = best[0], -best[1], -best[2]
    if not size:
        return []
    right = aligned(a[i + size :], b[j + size :])
    middle = [(i + s, j + s) for s in range(size)]
    return [*aligned(a[:i], b[:j]), *middle, *((i + size + x, j + size + y) for x, y in right)]


def rank_biased_overlap(a: list[Any], b: list[Any], p: float, depths: int = 3000) -> float:
    """(1 − p) Σ p^(d − 1) A_d, summed far beyond the lists: there the agreement A_d is as it was at their end."""
    total = 0.0
    agreement = 0.0
    for depth in range(1, depths + 1):
        if depth <= len(a):
            agreement = len(set(a[:depth]) & set(b[:depth])) / depth
        total += (1 - p) * p ** (depth - 1) * agreement
    return total


def pairs(found: xr.Dataset) -> list[tuple[int, int]]:
    return list(zip(found.position.values.tolist(), found.other_position.values.tolist(), strict=True))


def check(found: xr.Dataset, near_a: xr.Dataset, near_b: xr.Dataset, n: int, p: float) -> None:
    """Fail unless the aligned positions have the differences that slow loops find."""
    for i, (at_a, at_b) in enumerate(pairs(found)):
        one, other, out = near_a.sel(position=at_a), near_b.sel(position=at_b), found.isel(position=i)
        np.testing.assert_array_equal(out.own_rank_difference, other.own_rank - one.own_rank)
        np.testing.assert_array_equal(out.own_distance_difference, other.own_distance - one.own_distance)
        for index in np.ndindex(*one.own_rank.shape):
            lists = [side.neighbor.values[index][:n].tolist() for side in (one, other)]
            assert float(out.overlap.values[index]) == len(set(lists[0]) & set(lists[1])) / n
            assert abs(float(out.rbo.values[index]) - rank_biased_overlap(lists[0], lists[1], p)) < 1e-9


@pytest.mark.parametrize(("n", "p"), [(12, 0.9), (5, 0.5), (1, 0.98)])
def test_two_texts_equal_slow_loops(a: Any, b: Any, n: int, p: float) -> None:
    found = attnxr.comparison(a[0], b[0], n=n, persistence=p)
    expected = aligned(a[0].token.values.tolist(), b[0].token.values.tolist())
    assert pairs(found) == expected
    assert any(x != y for x, y in expected)
    check(found, a[0], b[0], n, p)
    assert found.attrs["aligned"] == len(expected)
    assert found.attrs["left_out_a"] == a[0].sizes["position"] - len(expected) > 0
    assert found.attrs["left_out_b"] == b[0].sizes["position"] - len(expected) > 0
    assert (found.attrs["text_a"], found.attrs["text_b"], found.attrs["metric"]) == (A, B, "cosine")


def test_known_rank_biased_overlaps(a: Any) -> None:
    """Lists whose value follows by hand; the last from the formula, with X = 1, 1, 3."""
    near = a[0].isel(layer=[0], head=[0], position=[1], rank=slice(3))

    def between(one: list[int], other: list[int]) -> float:
        both = [near.assign(neighbor_id=(near.neighbor_id.dims, np.array(ids, np.int32).reshape(1, 1, 1, 3)))
                for ids in (one, other)]  # fmt: skip
        return attnxr.comparison(*both, persistence=0.5).rbo.item()

    assert between([1, 2, 3], [1, 2, 3]) == 1
    assert between([1, 2, 3], [4, 5, 6]) == 0
    assert between([1, 2, 3], [1, 4, 5]) == pytest.approx(0.5 + 0.25 / 2 + 0.125 / 3 + 0.125 / 3)
    assert between([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5 + 0.25 / 2 + 0.125 + 0.125)


def test_something_compared_with_itself_does_not_differ(a: Any) -> None:
    near, enc = a
    found = attnxr.comparison(near, near, enc, enc)
    assert pairs(found) == [(i, i) for i in range(near.sizes["position"])]
    for name in ("own_rank_difference", "own_distance_difference", "attention_difference", "attention_distance"):
        assert (found[name] == 0).all()
    np.testing.assert_allclose(found.rbo, 1)
    assert (found.overlap == 1).all()


def slow_attention(a: xr.Dataset, b: xr.Dataset, at: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Differences to the aligned keys, and the total variation over all keys of both and what no key takes."""
    keys = aligned(a.token.values.tolist(), b.token.values.tolist())
    rows = [enc["attention"].values[:, :, i].astype(np.float64) for enc, i in zip((a, b), at, strict=True)]
    differences = [rows[1][..., j] - rows[0][..., i] for i, j in keys]
    terms = [abs(each) for each in differences]
    for side, row in enumerate(rows):
        alone = set(range(row.shape[-1])) - {pair[side] for pair in keys}
        terms += [row[..., i] for i in alone]
    terms.append(abs(rows[1].sum(-1) - rows[0].sum(-1)))
    return np.stack(differences, -1), sum(terms) / 2


def test_attention_equals_slow_loops(a: Any, b: Any) -> None:
    found = attnxr.comparison(a[0], b[0], a[1], b[1])
    for i, at in enumerate(pairs(found)):
        difference, distance = slow_attention(a[1], b[1], at)
        np.testing.assert_allclose(found.attention_difference.isel(position=i), difference, atol=1e-7)
        np.testing.assert_allclose(found.attention_distance.isel(position=i), distance, atol=1e-7)
    assert 0 < found.attention_distance.min() <= found.attention_distance.max() <= 1 + 1e-6
    keys = list(zip(found.key_position.values.tolist(), found.other_key_position.values.tolist(), strict=True))
    assert keys == aligned(a[0].token.values.tolist(), b[0].token.values.tolist())
    assert found.key_token.values.tolist() == a[0].token.values[found.key_position.values].tolist()


def test_what_a_sink_takes_counts_as_one_more_token(a: Any) -> None:
    near, enc = a
    half = enc.assign(attention=enc["attention"] * np.float32(0.5))
    found = attnxr.comparison(near, near, enc, half)
    np.testing.assert_allclose(found.attention_distance, 0.5, atol=1e-6)


def test_the_mask_on_and_off(roberta: Case, a: Any) -> None:
    causal = roberta.model.encode(A, causal=True)
    near = roberta.model.neighbors(causal, k=12)
    found = attnxr.comparison(a[0], near, a[1], causal)
    assert pairs(found) == [(i, i) for i in range(near.sizes["position"])]
    check(found, a[0], near, 12, P)
    later = np.triu(np.ones((near.sizes["position"],) * 2, bool), 1)
    later_attention = a[1]["attention"].where(xr.DataArray(later, dims=("position", "key_position")), 0)
    np.testing.assert_allclose(found.attention_distance[0], later_attention[0].sum("key_position"), atol=1e-5)
    assert (found.attrs["causal_a"], found.attrs["causal_b"]) == (0, 1)


def test_two_models_of_a_family_are_compared_by_their_tokens(a: Any) -> None:
    other = attnxr.Model(models.tiny_roberta(seed=7), models.byte_level_tokenizer())
    enc = other.encode(A)
    near = other.neighbors(enc, k=9)
    found = attnxr.comparison(a[0], near, a[1], enc)
    check(found, a[0], near, 9, P)
    assert found.attrs["fingerprint_a"] != found.attrs["fingerprint_b"]
    renumbered = near.assign(neighbor_id=near.neighbor_id[..., ::-1].variable)
    xr.testing.assert_identical(attnxr.comparison(a[0], renumbered, a[1], enc), found)


def test_several_texts_are_aligned_one_by_one(roberta: Case) -> None:
    first, second = [A, "A dog! The fox."], [B, "The fox, a dog!"]
    near_a, near_b = (roberta.model.neighbors(roberta.model.encode(texts), k=4) for texts in (first, second))
    found = attnxr.comparison(near_a, near_b)
    expected = []
    for i in range(2):
        here = [np.flatnonzero(near.text_id == i) for near in (near_a, near_b)]
        tokens = [near.token.values[part].tolist() for near, part in zip((near_a, near_b), here, strict=True)]
        expected += [(here[0][x], here[1][y]) for x, y in aligned(*tokens)]
    assert pairs(found) == expected
    check(found, near_a, near_b, 4, P)
    with pytest.raises(InputError, match="texts"):
        attnxr.comparison(near_a, roberta.model.neighbors(roberta.model.encode(A)))


def test_frequent_tokens_of_a_long_text_are_aligned_too() -> None:
    """Left to itself, difflib takes tokens that make up over 1 % of 200 or more for noise."""
    model = attnxr.Model(models.tiny_roberta(max_position_embeddings=300))
    middle = [9, 5, 5] * 70
    texts = [[0, *middle, 2], [7, *middle, 3]]
    near_a, near_b = (model.neighbors(model.encode(token_ids=ids).isel(layer=[0]), k=2) for ids in texts)
    assert pairs(attnxr.comparison(near_a, near_b)) == [(i, i) for i in range(1, 211)]


def test_other_metrics_have_no_comparable_distances(roberta: Case, a: Any) -> None:
    found = attnxr.comparison(a[0], roberta.model.neighbors(a[1], metric="euclidean"))
    assert "own_distance_difference" not in found
    assert "rbo" in found


def test_the_stream_is_compared_without_heads(roberta: Case, a: Any, b: Any) -> None:
    near_a, near_b = (roberta.model.neighbors(enc, k=6, of="hidden", space="embedding") for _, enc in (a, b))
    found = attnxr.comparison(near_a, near_b)
    assert found.rbo.dims == ("layer", "position")
    check(found, near_a, near_b, 6, P)


def test_selecting_before_equals_selecting_after(a: Any, b: Any) -> None:
    whole = attnxr.comparison(a[0], b[0], a[1], b[1])
    for chosen in ({"layer": 1}, {"head": [2, 0]}, {"layer": [2], "head": 3}):
        part = attnxr.comparison(a[0].isel(chosen), b[0].isel(chosen), a[1], b[1])
        xr.testing.assert_identical(part, whole.isel(chosen))
    one = attnxr.comparison(a[0].sel(position=1), b[0].sel(position=whole.other_position.values[1]))
    names = list(one.data_vars)
    xr.testing.assert_identical(one[names].drop_attrs(), whole.isel(position=1)[names].drop_attrs())


WRONG: list[tuple[Callable[..., Any], str]] = [
    (lambda a, b, enc: attnxr.comparison(a, enc), "near_b"),
    (lambda a, b, enc: attnxr.comparison(a, b, enc), "both"),
    (lambda a, b, enc: attnxr.comparison(a, b, enc, enc), "encodings_b"),
    (lambda a, b, enc: attnxr.comparison(a, a, enc, enc.isel(position=slice(5))), "position 5"),
    (lambda a, b, enc: attnxr.comparison(a.isel(position=[0, 1]), a, enc.isel(position=[0, 1]), enc), "attended to"),
    (lambda a, b, enc: attnxr.comparison(a, a, enc.drop_vars("attention"), enc), "no attention"),
    (lambda a, b, enc: attnxr.comparison(a, b.isel(layer=[0])), "layers"),
    (lambda a, b, enc: attnxr.comparison(a, b.isel(head=[1, 0, 2, 3])), "heads"),
    (lambda a, b, enc: attnxr.comparison(a, b.isel(head=0, drop=True)), "dimensions"),
    (lambda a, b, enc: attnxr.comparison(a.isel(position=[0]), b.isel(position=[1])), "share tokens"),
    (lambda a, b, enc: attnxr.comparison(a, b, n=13), "n=13"),
    (lambda a, b, enc: attnxr.comparison(a, b, persistence=1.0), "persistence"),
    (lambda a, b, enc: attnxr.comparison(a, b, persistence="high"), "high"),
    (lambda a, b, enc: attnxr.comparison(a, b.drop_attrs()), "metric"),
]


@pytest.mark.parametrize(("use", "named"), WRONG)
def test_what_cannot_be_is_refused(a: Any, b: Any, use: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        use(a[0], b[0], a[1])


def test_words_and_numbers_of_options_are_told_apart(minilm: Case) -> None:
    encodings = minilm.enc.isel(layer=[1], position=[0, 1])
    a, b = (minilm.model.neighbors(encodings, k=3, vocab_layer=layer) for layer in ("same", 1))
    found = attnxr.comparison(a, b)
    assert (found.attrs["vocab_layer_a"], found.attrs["vocab_layer_b"]) == ("same", 1)
    assert (found.own_rank_difference == 0).all()
