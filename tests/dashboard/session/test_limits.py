"""What whoever serves the page can choose."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields

import pytest

from attnxr.cli import main
from attnxr.dashboard.session.limits import Limits
from attnxr.errors import InputError


def test_the_environment_says_them() -> None:
    assert Limits.read({}) == Limits(200_000, 8, 100, 1024)
    given = {"ATTNXR_TEXT_CHARACTERS": "500", "ATTNXR_WAITING": "", "ATTNXR_KEPT_MIB": "64"}
    assert Limits.read(given) == Limits(500, 8, 100, 64)


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5", "٣", "9" * 30, " 5"])
def test_what_is_no_number_is_refused(given: str) -> None:
    with pytest.raises(InputError, match=r"ATTNXR_WAITING was set to .* expected a whole number from 1 on"):
        Limits.read({"ATTNXR_WAITING": given})


def test_the_command_has_an_option_for_each() -> None:
    options = {option.envvar: option for option in main.commands["serve"].params if isinstance(option.envvar, str)}
    assert set(options) == {f"ATTNXR_{field.name.upper()}" for field in fields(Limits)}
    for field in fields(Limits):
        assert f"{field.default} by default" in options[f"ATTNXR_{field.name.upper()}"].help


def test_the_page_keeps_to_them() -> None:
    code = """
from attnxr.dashboard.compute.cache import ANSWERS
from attnxr.dashboard.compute.jobs import ANSWER
from attnxr.dashboard.parts.text_box import TextBox
print(ANSWERS._bound, ANSWER._executor._max_workers, TextBox.param.most.default)
"""
    environment = {**os.environ, "ATTNXR_KEPT_MIB": "3", "ATTNXR_ANSWERS_AT_ONCE": "2", "ATTNXR_TEXT_CHARACTERS": "70"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(3 << 20), "2", "70"]
