"""The checks at the door, each with what it lets through and what it says of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from attnxr import checking
from attnxr.errors import InputError
from attnxr.texts import attrs_of


@pytest.mark.parametrize("value", [1, np.int32(4), np.int64(7)])
def test_whole_numbers_in_range_pass_as_ints(value: Any) -> None:
    found = checking.whole_number("k", value, 1, 7)
    assert (found, type(found)) == (int(value), int)


@pytest.mark.parametrize("value", [0, 8, True, 1.0, "3", None, np.float64(2)])
def test_other_numbers_are_told_the_range_and_why(value: Any) -> None:
    with pytest.raises(InputError, match="expected a whole number, 1 to 7, the size of the vocabulary") as caught:
        checking.whole_number("k", value, 1, 7, "the size of the vocabulary")
    assert f"k={value!r}" in str(caught.value)


def test_without_a_largest_number_the_least_is_told() -> None:
    assert checking.whole_number("memory", 1 << 70, 0) == 1 << 70
    with pytest.raises(InputError, match="expected a whole number, 0 or more, in bytes"):
        checking.whole_number("memory", -1, 0, why="in bytes")


def test_a_list_of_words_is_checked_word_by_word_and_counts_each_once() -> None:
    allowed = ("residual", "hidden")
    assert checking.choices("include", ["hidden", "residual", "hidden"], allowed) == ("hidden", "residual")
    assert checking.choices("include", "hidden", allowed) == ("hidden",)
    assert checking.choices("include", (), allowed) == ()
    for wrong in ("hid", ["hidden", "hid"], [["hidden"]], 3, None):
        with pytest.raises(InputError, match="expected one of 'residual', 'hidden'"):
            checking.choices("include", wrong, allowed)


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, True, "0.5", None, float("nan")])
def test_what_is_no_number_between_0_and_1_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"between 0 and 1, such as 0\.9"):
        checking.fraction("persistence", value, 0.9)


def test_numbers_between_0_and_1_pass() -> None:
    assert checking.fraction("alpha", np.float32(0.25), 0.05) == 0.25


def test_only_truth_values_are_true_or_false() -> None:
    checking.boolean("positional", True)
    checking.boolean("positional", np.bool_(False))
    for wrong in (0, 1, "no", None):
        with pytest.raises(InputError, match="expected True or False"):
            checking.boolean("positional", wrong)


def dataset(ids: list[int], texts: Any, **coords: Any) -> xr.Dataset:
    every = {"position": np.arange(len(ids)), "token_id": ("position", np.array(ids, np.int64)), **coords}
    return xr.Dataset(coords=every, attrs={} if texts is None else attrs_of(texts, []))


def test_tokens_that_are_those_of_the_attrs_pass_for_a_selection_too() -> None:
    one = dataset([4, 5, 6], [[4, 5, 6]])
    two = dataset([4, 5, 6], [[4, 5], [6]], text_id=("position", [0, 0, 1]), text_position=("position", [0, 1, 0]))
    for each in (one, two):
        for part in (each, each.isel(position=[2, 0]), each.isel(position=2), each.isel(position=[])):
            checking.tokens(part, "near", 7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dataset([4, 5, 9], [[4, 5, 6]]), "token 9 at place 2 of text 0"),
        (dataset([4, 5, 6], [[4, 5]]), "token 6 at place 2 of text 0"),
        (dataset([4, 5], [[4, 5]], position=[0, -1]), "token 5 at place -1 of text 0"),
        (
            dataset([4], [[4]], text_id=("position", [1]), text_position=("position", [0])),
            "token 4 at place 0 of text 1",
        ),
    ],
)
def test_the_first_token_that_is_another_is_named(given: xr.Dataset, said: str) -> None:
    for size in (None, 100):
        with pytest.raises(InputError, match=rf"near has {said}.*joined"):
            checking.tokens(given, "near", size)


def test_a_token_beyond_the_vocabulary_is_refused_where_a_model_is_asked() -> None:
    given = dataset([4, 9], [[4, 9]])
    checking.tokens(given, "near")
    with pytest.raises(InputError, match=r"token 9 at place 1 of text 0.*the vocabulary has 9 entries"):
        checking.tokens(given, "near", 9)


def test_a_dataset_that_does_not_say_its_texts_is_refused_only_where_a_model_is_asked() -> None:
    given = dataset([4, 9], None)
    checking.tokens(given, "near")
    with pytest.raises(InputError, match=r"near has no attrs\['token_ids'\]"):
        checking.tokens(given, "near", 10)


def test_only_dimensions_that_a_selection_dropped_come_back() -> None:
    whole = xr.Dataset(
        {"rank": (("layer", "head", "feature"), np.arange(24).reshape(2, 3, 4))},
        {"layer": [5, 6], "head": [0, 1, 2], "feature": [0, 1, 2, 3]},
    )
    dims = ("layer", "head", "feature")
    coords = {"layer": ("layer",), "head": ("head",)}
    found = checking.restored(whole.sel(layer=6, head=1), {"rank": dims}, coords)
    assert found["rank"].dims == dims
    xr.testing.assert_identical(found, whole.sel(layer=[6], head=[1]).drop_vars("feature"))
    assert checking.restored(whole.sel(feature=1), {"rank": dims}, coords)["rank"].dims == ("layer", "head")
    assert checking.restored(whole.mean("head"), {"rank": dims}, coords)["rank"].dims == ("layer", "feature")


def test_labels_that_differ_are_told_with_what_to_do() -> None:
    a, b = xr.Dataset(coords={"layer": [0, 1], "head": [0, 2]}), xr.Dataset(coords={"layer": [0, 1], "head": [0, 1]})
    checking.same_labels(a, b, ["layer"], ("near_a", "near_b"), "")
    with pytest.raises(InputError, match=r"near_a has the heads \[0, 2\], and near_b \[0, 1\]; .* near_b.sel\(head="):
        checking.same_labels(a, b, ["layer", "head"], ("near_a", "near_b"), "Give near_b.sel({dim}=[…]).")


def test_labels_are_found_among_others_or_told() -> None:
    there = xr.Dataset(coords={"head": [3, 1, 2]})
    assert checking.index_of({"head": [2, 3, 2]}, there, "head", ("near has", "it"), "") == [2, 0, 2]
    with pytest.raises(InputError, match=r"near has head 0, and the encodings only the heads \[3, 1, 2\]. Give all"):
        checking.index_of({"head": [2, 0]}, there, "head", ("near has", "the encodings"), "Give all.")
