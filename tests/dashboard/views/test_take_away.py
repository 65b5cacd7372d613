"""Buttons make files of the answer and the selection there are, in pieces that a browser puts together."""

from __future__ import annotations

import asyncio
from typing import Any

import panel as pn
import pytest

from attnxr.dashboard.files import exports
from attnxr.dashboard.parts import TakeAwayFiles
from attnxr.dashboard.rows.neighbors import neighbor_table
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views import take_away
from attnxr.dashboard.views.take_away import FILES, TakeAway
from tests.dashboard.compute.test_worker import until


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(TakeAwayFiles, "_send_msg", lambda _self, data: said.append(data))
    return said


def part(view: TakeAway) -> TakeAwayFiles:
    (found,) = pn.panel(view).select(TakeAwayFiles)
    return found


def press(view: TakeAway, name: str) -> None:
    async def visit() -> None:
        files = part(view)
        files._on_message({"name": name})
        await until(lambda: files.said.startswith(("Sent", "Something")))

    asyncio.run(visit())


@pytest.mark.parametrize("name", FILES)
def test_every_button_sends_its_file(answered: State, sent: list[dict[str, Any]], name: str) -> None:
    view = TakeAway(answered)
    press(view, name)
    assert b"".join(each["data"] for each in sent)
    assert [each["left"] for each in sent] == list(reversed(range(len(sent))))
    assert {each["type"] for each in sent} == {FILES[name].type}
    assert sent[0]["file"].startswith("attnxr-bert-")
    assert part(view).making == ""


def test_the_table_is_that_of_the_selection(answered: State, sent: list[dict[str, Any]]) -> None:
    view = TakeAway(answered)
    answered.select(layer=2, position=5)
    press(view, "neighbors")
    (only,) = sent
    assert answered.answer is not None
    assert only["data"] == exports.table_csv(neighbor_table(answered.answer, 2, 5), "neighbour")
    assert only["file"].endswith("-neighbours-layer-2-position-5.csv")


def test_a_large_file_goes_in_pieces(
    answered: State, sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take_away, "_PIECE", 1000)
    press(TakeAway(answered), "all")
    assert answered.answer is not None
    assert len(sent) > 10
    assert b"".join(each["data"] for each in sent) == exports.neighbors_csv(answered.answer)


def test_without_an_answer_there_is_nothing_to_press(state: State) -> None:
    assert not part(TakeAway(state)).ready


def test_what_goes_wrong_is_said(
    answered: State, sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: object, **_options: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(take_away, "page", fail)
    view = TakeAway(answered)
    press(view, "page")
    assert "ZeroDivisionError" in part(view).said
    assert part(view).making == ""
    assert sent == []
    assert "No outcome of a tuple: " in caplog.text
