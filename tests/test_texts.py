"""The texts of a Dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from attnxr import texts
from attnxr.errors import InputError


@pytest.mark.parametrize("of_texts", [[[4, 5], [6]], [[4, 5, 6]], [[7]]])
def test_token_ids_are_those_of_the_attrs(of_texts: list[list[int]]) -> None:
    assert texts.token_ids(xr.Dataset(attrs=texts.attrs_of(of_texts, []))) == of_texts


@pytest.mark.parametrize("given", ["[1, 2]", "3", None, [[1]], [[1], [2, 3]], [], [0.5], [-1], -1])
def test_what_are_no_whole_numbers_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"attrs\['token_ids'\] .*expected one whole number or more"):
        texts.token_ids(xr.Dataset(attrs={"token_ids": given}))


def test_lengths_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(InputError, match="do not add up to its 3"):
        texts.token_ids(xr.Dataset(attrs={"token_ids": [4, 5, 6], "text_lengths": [1, 1]}))


def test_attrs_that_arithmetic_dropped_are_asked_for() -> None:
    with pytest.raises(InputError, match=r"near has no attrs.*keep_attrs"):
        texts.token_ids(xr.Dataset(), "near")


def test_places_are_those_of_one_text_or_of_each_of_several() -> None:
    one = xr.Dataset(coords={"position": [2, 0]})
    two = one.assign_coords(text_id=("position", [1, 0]), text_position=("position", [0, 0]))
    for dataset, expected in ((one, ([0, 0], [2, 0])), (two, ([1, 0], [0, 0])), (two.isel(position=0), ([1], [0]))):
        for found, right in zip(texts.places(dataset), expected, strict=True):
            np.testing.assert_array_equal(found, right)
