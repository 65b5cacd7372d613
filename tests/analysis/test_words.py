"""What is found for words is what slow loops over their tokens give."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from tests.support.cases import Case

TEXT = "Time flies and saying bananas, fruits fly."
TEXTS = [TEXT, "A quick dog, nowhere!", "flies"]
SLOW: dict[str, Callable[[list[float]], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}


@pytest.fixture(scope="module")
def enc(roberta: Case) -> xr.Dataset:
    return roberta.model.encode(TEXT, include=["hidden", "key_vector"])


@pytest.fixture(scope="module")
def near(roberta: Case, enc: xr.Dataset) -> xr.Dataset:
    return roberta.model.neighbors(enc, k=5)


def tokens_of_words(dataset: xr.Dataset) -> list[list[int]]:
    """Index along position of the tokens of each word, read off the coordinates one by one."""
    found: list[list[int]] = []
    names: list[tuple[int, int]] = []
    for i in range(dataset.sizes["position"]):
        text = int(dataset.text_id[i]) if "text_id" in dataset.coords else 0
        name = text, int(dataset.word[i])
        if name[1] == -1:
            continue
        if name not in names:
            names.append(name)
            found.append([])
        found[names.index(name)].append(i)
    return found


def slow(values: xr.DataArray, groups: list[list[int]], how: str) -> np.ndarray:
    last = values.transpose(..., "position").values
    out = np.empty((*last.shape[:-1], len(groups)))
    for index in np.ndindex(*last.shape[:-1]):
        for word, group in enumerate(groups):
            out[(*index, word)] = SLOW[how]([float(last[(*index, i)]) for i in group])
    return out


@pytest.mark.parametrize("how", SLOW)
def test_equals_slow_loops(enc: xr.Dataset, near: xr.Dataset, how: Any) -> None:
    groups = tokens_of_words(enc)
    assert {len(group) for group in groups} >= {1, 2, 3}
    words = attnxr.words(enc, how=how)
    for name in ("head_encoding", "hidden", "key_vector"):
        assert words[name].dims == tuple("word" if dim == "position" else dim for dim in enc[name].dims)
        assert words[name].dtype == np.float32
        expected = slow(enc[name], groups, how).astype(np.float32)  # the means are rounded once
        np.testing.assert_array_equal(words[name].transpose(..., "word"), expected)
    own = near[["own_rank", "own_distance"]]
    words = attnxr.words(own, how=how)
    for name in own:
        np.testing.assert_array_equal(words[name], slow(own[name], groups, how).astype(words[name].dtype))
    assert words.own_rank.dtype == ("float64" if how in ("mean", "median") else "int32")


def test_attention_is_summed_over_keys_and_averaged_over_queries(enc: xr.Dataset) -> None:
    groups, attention = tokens_of_words(enc), enc["attention"].values.astype(np.float64)
    words = attnxr.words(enc)
    assert words["attention"].dims == ("layer", "head", "word", "key_word")
    for word, queries in enumerate(groups):
        for key_word, keys in enumerate(groups):
            pairs = [attention[:, :, i, j] for i in queries for j in keys]
            expected = sum(pairs) / len(queries)
            np.testing.assert_allclose(words["attention"][:, :, word, key_word], expected, rtol=1e-6)
    special = attention[..., enc.word.values == -1].sum(-1)
    for word, queries in enumerate(groups):
        left = 1 - special[..., queries].mean(-1)
        np.testing.assert_allclose(words["attention"][:, :, word].sum("key_word"), left, rtol=1e-5)
    np.testing.assert_array_equal(words.key_word, words.word)
    assert words.key_word_text.values.tolist() == words.word_text.values.tolist()
    first = attnxr.words(enc, how={"attention": "first"})
    for word, queries in enumerate(groups):
        expected = attention[:, :, queries[0]][..., groups[0]].sum(-1)
        np.testing.assert_allclose(first["attention"][:, :, word, 0], expected, rtol=1e-6)


def test_the_defaults_are_those_that_are_documented(enc: xr.Dataset, near: xr.Dataset) -> None:
    assert json.loads(attnxr.words(enc).attrs["how"]) == dict.fromkeys(enc.data_vars, "mean")
    lists = ["neighbor_id", "neighbor", "neighbor_text", "distance", "in_sequence"]
    expected = {**dict.fromkeys(lists, "first"), "own_rank": "median", "own_distance": "mean"}
    assert json.loads(attnxr.words(near).attrs["how"]) == expected


@pytest.mark.parametrize("how", ["first", "last"])
def test_lists_stay_whole(near: xr.Dataset, how: Any) -> None:
    tokens = [group[0 if how == "first" else -1] for group in tokens_of_words(near)]
    words, expected = attnxr.words(near, how=how), near.isel(position=tokens)
    for name in near.data_vars:
        np.testing.assert_array_equal(words[name], expected[name])
        assert words[name].dtype == near[name].dtype


@pytest.mark.parametrize("text", [TEXT, "Unbelievable yesterday", "Don't fly — naïve 😀 dogs!"])
def test_words_are_named_as_the_text_writes_them(tiny: Case, text: str) -> None:
    enc = tiny.model.encode(text)
    words = attnxr.words(enc)
    for i, group in enumerate(tokens_of_words(enc)):
        spans = [(int(enc.char_start[j]), int(enc.char_end[j])) for j in group]
        start, end = (
            f(part) for f, part in zip((min, max), zip(*(s for s in spans if s[0] >= 0), strict=True), strict=True)
        )
        assert (int(words.char_start[i]), int(words.char_end[i])) == (start, end)
        assert words.word_text[i] == text[start:end]
        assert words.n_tokens[i] == len(group)
    assert "".join(words.word_text.values.tolist()) == "".join(text.split())


def test_white_space_that_a_tokenizer_counts_as_a_word_is_one(roberta: Case) -> None:
    words = attnxr.words(roberta.model.encode("a  b\nc"))
    assert words.word_text.values.tolist() == ["a", " ", "b", "\n", "c"]
    assert words.char_start.values.tolist() == [0, -1, 3, 4, 5]


def test_a_space_that_offsets_count_to_a_word_is_none_of_it(roberta: Case, enc: xr.Dataset) -> None:
    """As those of GPT-2's tokenizer do."""
    behind_space = np.char.startswith(enc.token.values.astype(str), "Ġ")
    assert behind_space.sum() > 3
    xr.testing.assert_identical(
        attnxr.words(enc.assign_coords(char_start=enc.char_start - behind_space)), attnxr.words(enc)
    )


def test_each_of_several_texts_has_words_of_its_own(roberta: Case) -> None:
    enc = roberta.model.encode(TEXTS)
    words = attnxr.words(enc)
    assert words.word.values.tolist() == list(range(words.sizes["word"]))
    for i, text in enumerate(TEXTS):
        part, alone = words.isel(word=words.text_id.values == i), attnxr.words(roberta.model.encode(text))
        np.testing.assert_allclose(part["head_encoding"], alone["head_encoding"], rtol=1e-4, atol=1e-5)
        assert part.word_text.values.tolist() == alone.word_text.values.tolist()
        assert part.text_word.values.tolist() == alone.word.values.tolist()
        assert part.char_start.values.tolist() == alone.char_start.values.tolist()


def test_words_of_ones_own(roberta: Case) -> None:
    enc = roberta.model.encode(token_ids=[0, 40, 41, 42, 43, 2])
    with pytest.raises(InputError, match="has no words"):
        attnxr.words(enc)
    own = enc.assign_coords(word=("position", np.array([-1, 7, 7, 3, 3, -1])))
    words = attnxr.words(own)
    assert words.word.values.tolist() == [7, 3]
    expected = ["".join(enc.text.values[i : i + 2]).strip() for i in (1, 3)]
    assert words.word_text.values.tolist() == expected
    assert words.char_start.values.tolist() == [-1, -1]
    np.testing.assert_allclose(
        words["head_encoding"][:, :, 0], enc["head_encoding"][:, :, 1:3].mean("position"), rtol=1e-6
    )


def test_the_order_of_positions_does_not_matter(enc: xr.Dataset, near: xr.Dataset) -> None:
    for dataset in (enc.drop_vars("attention"), near):
        mixed = dataset.isel(position=np.random.default_rng(0).permutation(dataset.sizes["position"]))
        for how in (None, "first"):
            xr.testing.assert_identical(attnxr.words(mixed, how=how), attnxr.words(dataset, how=how))


def test_selecting_before_equals_selecting_after(enc: xr.Dataset, near: xr.Dataset) -> None:
    for dataset in (enc, near):
        for chosen in ({"layer": 1}, {"head": [2, 0]}, {"layer": 0, "head": 3}):
            xr.testing.assert_identical(attnxr.words(dataset.isel(chosen)), attnxr.words(dataset).isel(chosen))
    turned = attnxr.words(enc.assign(attention=enc["attention"].transpose("key_position", ...)))
    xr.testing.assert_identical(turned, attnxr.words(enc))
    part = near.isel(position=near.word.values == 0)
    xr.testing.assert_identical(attnxr.words(part), attnxr.words(near).isel(word=[0]))


def test_other_analyses_have_words_too(roberta: Case, enc: xr.Dataset, near: xr.Dataset) -> None:
    groups = tokens_of_words(enc)
    trajectories = attnxr.trajectories(near)
    with pytest.raises(InputError, match="best_head"):
        attnxr.words(trajectories)
    words = attnxr.words(trajectories, how={"best_head": "first"})
    np.testing.assert_allclose(words.own_quantile, slow(trajectories.own_quantile, groups, "mean"))
    np.testing.assert_allclose(words.best_own_rank, slow(trajectories.best_own_rank, groups, "median"))
    origins = attnxr.words(attnxr.origins(near), how="last")
    assert origins.origin.dims == ("layer", "head", "word")
    assert "own_share" not in origins


WRONG: list[tuple[Callable[[xr.Dataset, xr.Dataset], Any], str]] = [
    (lambda enc, near: attnxr.words(enc["head_encoding"]), "DataArray"),
    (lambda enc, near: attnxr.words(enc.isel(position=3)), "position"),
    (lambda enc, near: attnxr.words(enc.drop_vars("word")), "word"),
    (lambda enc, near: attnxr.words(enc.isel(position=[0])), "no words"),
    (lambda enc, near: attnxr.words(enc, how="sum"), "sum"),
    (lambda enc, near: attnxr.words(enc, how={"encodings": "mean"}), "encodings"),
    (lambda enc, near: attnxr.words(enc, how={"head_encoding": "sum"}), "sum"),
    (lambda enc, near: attnxr.words(enc, how=3), "how=3"),
    (lambda enc, near: attnxr.words(near, how="mean"), "neighbor_id"),
    (lambda enc, near: attnxr.words(near, how={"in_sequence": "max"}), "in_sequence"),
    (lambda enc, near: attnxr.words(enc.isel(position=slice(4))), "attended to"),
    (lambda enc, near: attnxr.words(enc.drop_attrs()), "attrs"),
]


@pytest.mark.parametrize(("use", "named"), WRONG)
def test_what_cannot_be_is_refused(enc: xr.Dataset, near: xr.Dataset, use: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        use(enc, near)
