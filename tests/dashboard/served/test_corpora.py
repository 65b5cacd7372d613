"""Which corpus a server shows, and that one that cannot be read is said once."""

from __future__ import annotations

import logging
import re
import shlex
from pathlib import Path

import click
import pytest
import xarray as xr

from attnxr.cli import main
from attnxr.dashboard.parts import Keys
from attnxr.dashboard.served.corpora import _Corpora, asked_for, split
from attnxr.dashboard.served.page import _keys
from attnxr.dashboard.session.state import State
from attnxr.errors import InputError


def test_the_corpus_is_told_from_the_models() -> None:
    assert split([]) == ([], None)
    assert split(["a", "--corpus", "out.zarr", "b"]) == (["a", "b"], "out.zarr")
    assert split(["--corpus=s3://bucket/out.zarr?a=b"]) == ([], "s3://bucket/out.zarr?a=b")
    for wrong in (["--corpus"], ["--corpus="], ["--corpus", "a", "--corpus", "b"]):
        with pytest.raises(InputError, match="--corpus was given"):
            split(wrong)


def test_without_one_it_is_the_demos_where_that_was_made_and_its_model_is_offered(
    tmp_path: Path, corpus_tree: xr.DataTree, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("made", "spoilt"):
        (tmp_path / name).mkdir()
    made = tmp_path / "made" / "attnxr" / "demo.zarr"
    corpus_tree.to_zarr(made, consolidated=False)
    (tmp_path / "spoilt" / "attnxr" / "demo.zarr").mkdir(parents=True)
    found = {}
    for name in ("none", "spoilt", "made"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        with caplog.at_level(logging.ERROR):
            found[name] = asked_for(["minilm"])
        assert len(caplog.records) == (name != "none")
    assert found == {"none": (["minilm"], None), "spoilt": (["minilm"], None), "made": (["minilm"], str(made))}
    assert asked_for([])[1] == str(made)
    assert asked_for(["gpt2"]) == (["gpt2"], None)
    assert asked_for(["minilm", "--corpus", "mine.zarr"]) == (["minilm"], "mine.zarr")


def test_it_is_read_once_for_all_and_what_is_none_is_logged_once(
    tmp_path: Path, corpus_tree: xr.DataTree, caplog: pytest.LogCaptureFixture
) -> None:
    corpora = _Corpora()
    corpus_tree.to_zarr(tmp_path / "it.zarr", consolidated=False)
    assert corpora(str(tmp_path / "it.zarr")) is corpora(str(tmp_path / "it.zarr"))
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            with pytest.raises(InputError, match="cannot be shown"):
                corpora(str(tmp_path / "none.zarr"))
    assert len(caplog.records) == 1


def test_without_a_corpus_the_page_says_by_which_commands_to_have_one() -> None:
    hint = _keys(State(["minilm"]), None).hint
    assert hint.startswith(Keys.hint)
    commands = re.findall(r"attnxr (.*?)[,.](?!zarr)", hint)
    assert len(commands) == 2
    for command in commands:
        found: click.Command = main
        words = shlex.split(command)
        while isinstance(found, click.Group):
            found = found.commands[words.pop(0)]
        found.make_context("attnxr", words)  # which parses them, and does no more
