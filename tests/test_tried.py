"""The command that tries every model type of the installed transformers, on a fixed sample of them."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from tests.support import tried
from tests.support.families import FAMILIES

SAMPLE = {
    "ernie": ("yes", "first door"),
    "gptj": ("yes", "second door"),
    "umt5": ("refused", "encoder-decoder"),
    "fnet": ("refused", "no attention layers"),
}


def test_all_that_is_tested_is_tried() -> None:
    every = tried.model_types()
    assert len(every) == len(set(every)) > 150
    assert {family.model_type for family in FAMILIES.values()} | {"t5", "longformer", "qwen3_next"} <= set(every)


def test_each_says_whether_it_is_looked_into_and_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tried.csv"
    monkeypatch.setattr(sys, "argv", ["tried", str(file), *SAMPLE])
    tried.main()
    with file.open(newline="") as rows:
        found = [tried.Trial(**row) for row in csv.DictReader(rows)]
    assert [each.model_type for each in found] == list(SAMPLE)
    for each in found:
        looked_into, reason = SAMPLE[each.model_type]
        assert each.looked_into == looked_into, each
        assert reason in each.what
