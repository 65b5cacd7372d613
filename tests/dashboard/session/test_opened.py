"""A file in place of a text: what is in it is shown, what is not needs the very model, and nothing else is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import saved
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.compute.cache import Answers
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.opened import Opened, open_file
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.controls import notices, summary
from attnxr.errors import InputError
from tests.dashboard.compute.test_worker import until
from tests.support import models

Load = Callable[[str], attnxr.Model]


def no_model(name: str) -> attnxr.Model:
    raise AssertionError(f"{name} was loaded")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in a process of its own takes seconds each time; tests/test_saved.py and the browser tests do it."""
    monkeypatch.setattr("attnxr.dashboard.session.opened.read_apart", saved.read)


@pytest.fixture
def first(answered: State) -> Answer:
    assert answered.answer is not None
    return answered.answer


@pytest.fixture
def opened(first: Answer, tmp_path: Path) -> Opened:
    (tmp_path / "it.nc").write_bytes(saved.write(first.encodings, first.neighbors))
    return open_file(tmp_path / "it.nc", "mine.nc")


def put(tmp_path: Path, dataset: xr.Dataset) -> Opened:
    dataset.to_netcdf(tmp_path / "part.nc")
    return open_file(tmp_path / "part.nc", "part.nc")


def silent(_message: str, _fraction: float | None) -> None:
    pass


def test_a_file_answers_without_its_model(opened: Opened, first: Answer) -> None:
    state = State(["another"])
    state.open(opened)
    assert (state.text, state.model, state.causal) == (models.SENTENCE, "another", False)
    found = answer_request(state.request, no_model, silent)
    xr.testing.assert_identical(found.encodings, first.encodings)
    xr.testing.assert_identical(found.neighbors, first.neighbors)
    xr.testing.assert_identical(found.sequence, first.sequence)
    assert found.vocab_size == first.vocab_size
    assert not found.checks
    assert summary(found).startswith("bert · ")
    (notice,) = notices(found)
    assert "mine.nc" in notice
    assert "bert" in notice
    assert opened.fingerprint in notice


def test_what_is_not_in_the_file_comes_from_the_very_model(
    opened: Opened, shelf: dict[str, attnxr.Model], solve: Callable[[Request], Answer]
) -> None:
    state = State(["roberta", "bert"])
    state.open(opened)
    assert state.model == "bert"
    for change in ({"metric": "dot"}, {"causal": True}, {"positional": False}):
        request = replace(state.request, **change)
        found, expected = answer_request(request, shelf.__getitem__, silent), solve(replace(request, opened=None))
        xr.testing.assert_allclose(found.neighbors, expected.neighbors)
        assert found.checks


@pytest.mark.parametrize("part", ["encodings", "neighbors"])
def test_a_file_with_one_of_the_two_is_completed_by_the_model(
    first: Answer, tmp_path: Path, shelf: dict[str, attnxr.Model], part: str
) -> None:
    state = State(["bert"])
    state.open(put(tmp_path, getattr(first, part)))
    found = answer_request(state.request, shelf.__getitem__, silent)
    xr.testing.assert_allclose(found.neighbors, first.neighbors)
    xr.testing.assert_allclose(found.encodings, first.encodings)
    state = State(["another"])
    state.open(put(tmp_path, getattr(first, part)))
    with pytest.raises(InputError, match="this server does not offer it"):
        answer_request(state.request, no_model, silent)


def test_a_model_of_the_same_name_with_other_weights_is_not_taken(opened: Opened) -> None:
    other = attnxr.Model(models.tiny_bert(seed=9), models.wordpiece_tokenizer(), name="bert")
    state = State(["bert"])
    state.open(opened)
    with pytest.raises(InputError, match="has other weights"):
        answer_request(replace(state.request, metric="dot"), lambda _name: other, silent)


def test_another_text_or_model_leaves_the_file(opened: Opened) -> None:
    for change in ({"text": "Nobody knows."}, {"model": "roberta"}):
        state = State(["bert", "roberta"])
        state.open(opened)
        state.param.update(**change)
        assert state.opened is None
    state.open(opened)
    state.metric = "dot"
    assert state.opened is opened


def test_what_a_file_says_is_kept_for_nobody_else(opened: Opened, shelf: dict[str, attnxr.Model]) -> None:
    answers = Answers()
    state = State(["bert"])
    state.open(opened)
    given = answers(state.request, shelf.__getitem__, silent)
    assert len(answers) == 0
    asked = replace(state.request, opened=None)
    assert answers(asked, shelf.__getitem__, silent, given).encodings is not given.encodings


def test_aspects_of_a_file_say_what_they_need(opened: Opened) -> None:
    async def visit() -> str:
        state = State(["another"])
        worker = Worker(state, no_model)
        state.open(opened)
        await until(lambda: state.answer)
        aspect = attnxr.dashboard.session.answer.Aspect("significance", layer=0)
        state.want("test", aspect)
        await until(lambda: state.refusal(aspect))
        worker.close()
        return state.refusal(aspect)

    said = asyncio.run(visit())
    assert "needs the model 'bert'" in said
    assert "does not offer it" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda near: near.isel(layer=[1]), "part of a result \\(layer"),
        (lambda near: near.isel(head=slice(1, 3)), "part of a result \\(head"),
        (lambda near: near.isel(position=slice(0, 4)), "part of a result \\(position"),
        (lambda near: near.assign_attrs(of="hidden", space="embedding"), "expected no heads among them"),
        (lambda near: near.assign_attrs(of="query", space="embedding"), "has no meaning"),
        (lambda near: near.assign_attrs(vocab_layer="next"), "vocab_layer='next' was given"),
        (lambda near: near.assign_attrs(metric="made up"), "expected one of"),
        (lambda near: near.assign_attrs(vocab_size=3), "expected 0 to 2"),
        (lambda near: near.isel(rank=slice(None, None, -1)), "ranks 1, 2"),
        (lambda near: near.assign_attrs(text="x" * 1_000_001), "characters"),
    ],
)
def test_what_the_page_cannot_show_is_refused(first: Answer, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        put(tmp_path, change(first.neighbors))


def test_several_texts_are_refused(shelf: dict[str, attnxr.Model], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="several texts"):
        put(tmp_path, shelf["bert"].encode(["Time flies.", "Fruit flies."]))


def test_two_files_are_the_same_if_their_bytes_are(opened: Opened, first: Answer, tmp_path: Path) -> None:
    again = open_file(tmp_path / "it.nc", "other name.nc")
    assert again == opened
    assert hash(again) == hash(opened)
    assert put(tmp_path, first.neighbors) != opened
    assert np.array_equal(again.saved.attrs["text"], opened.saved.attrs["text"])
