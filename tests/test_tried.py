"""The command that tries every model type that is not tested, on a fixed sample of them; whole with --whole."""

from __future__ import annotations

import re

import pytest

from attnxr.loading.tested import Tried, read_families, read_tried
from tests.support import tried
from tests.support.families import FAMILIES

TRIED = {each.model_type: each for each in read_tried()}
# Some of each outcome, through both doors, with and without stacks and groups of layers.
SAMPLE = [
    "flaubert",
    "fnet",
    "gemma4_unified_text",
    "gpt-sw3",
    "kosmos-2.5",
    "longcat_flash",
    "moonshine",
    "paligemma",
    "pegasus_x",
    "qwen4_exp",
    "t5gemma",
    "trocr",
]


def test_every_model_type_is_tested_or_tried() -> None:
    """A release of transformers brings new ones: run python -m tests.support.tried."""
    every = tried.model_types()
    assert len(every) == len(set(every)) > 300
    tested = {family.model_type for family in FAMILIES.values()}
    assert tested == {family.model_type for family in read_families()}
    assert tested.isdisjoint(TRIED)
    assert tested | TRIED.keys() == set(every)
    assert list(TRIED) == tried.not_tested()


def test_what_came_of_them_is_told_in_words() -> None:
    outcomes = {each.outcome for each in TRIED.values()}
    assert {"looked into", "refused", "not built"} <= outcomes
    assert outcomes.isdisjoint({"broken", "not ended"})
    assert all(each.reason for each in TRIED.values())
    assert len({each.transformers for each in TRIED.values()}) == 1


@pytest.mark.filterwarnings("ignore")  # of the models that are built
@pytest.mark.parametrize("model_type", SAMPLE)
def test_it_is_as_it_was_when_it_was_tried(model_type: str) -> None:
    check(model_type)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", [each for each in TRIED if each not in SAMPLE])
def test_all_are_as_they_were_when_they_were_tried(model_type: str) -> None:
    check(model_type)


def check(model_type: str) -> None:
    found, before = tried.tried(model_type), TRIED[model_type]
    assert _without_numbers(found) == _without_numbers(before), "run python -m tests.support.tried"


def _without_numbers(one: Tried) -> tuple[str, str]:
    return one.outcome, re.sub(r"[0-9][0-9.,e+-]*", "…", one.reason)
