"""A file comes in pieces, in order and no larger than it may; what is refused leaves the page as it is."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import panel as pn
import pytest

from attnxr import saved
from attnxr.dashboard.parts import OpenFileButton
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views import open_file
from attnxr.dashboard.views.open_file import OpenFile
from tests.dashboard.compute.test_worker import until


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(OpenFileButton, "_send_msg", lambda _self, data: said.append(data))
    return said


def button(view: OpenFile) -> OpenFileButton:
    (found,) = pn.panel(view).select(OpenFileButton)
    return found


def piece(content: bytes, start: int, end: int, **other: Any) -> dict[str, Any]:
    data = base64.b64encode(content[start:end]).decode()
    return {"name": "mine.nc", "size": len(content), "start": start, "data": data} | other


@pytest.fixture
def content(answered: State) -> bytes:
    assert answered.answer is not None
    return saved.write(answered.answer.encodings, answered.answer.neighbors)


def test_a_file_is_put_together_and_opened(answered: State, content: bytes, asked: list[dict[str, Any]]) -> None:
    state, half = State(["another"]), len(content) // 2
    view = OpenFile(state)

    async def visit() -> None:
        said = button(view)
        said._on_message(piece(content, 0, half))
        assert asked == [{"next": half}]
        assert said.busy
        said._on_message(piece(content, half, len(content)))
        await until(lambda: state.opened)
        assert not said.busy

    asyncio.run(visit())
    assert state.opened is not None
    assert state.opened.name == "mine.nc"
    assert answered.answer is not None
    assert state.text == answered.answer.request.text


def test_what_is_no_such_file_is_refused_and_the_page_stays(answered: State, asked: list[dict[str, Any]]) -> None:
    view, before = OpenFile(answered), answered.answer

    async def visit() -> None:
        said = button(view)
        said._on_message(piece(b"no such thing", 0, 13))
        await until(lambda: said.refused)

    asyncio.run(visit())
    assert "mine.nc cannot be opened" in button(view).said
    assert answered.answer is before
    assert asked == []


@pytest.mark.parametrize(
    "data",
    [
        {"name": "x", "size": open_file.MOST_BYTES + 1, "start": 0, "data": ""},
        {"name": "x", "size": 10, "start": 5, "data": "AAAA"},
        {"name": "x", "size": 2, "start": 0, "data": "AAAA"},
        {"name": "x", "size": 10, "start": 0, "data": "no base64!"},
        {"name": "x", "size": 10, "start": 0, "data": ""},
        {"name": "x", "size": -5, "start": -5, "data": ""},
        {"name": "x", "size": 10, "start": 0, "data": "Zürich"},
    ],
)
def test_pieces_that_do_not_fit_are_refused(state: State, asked: list[dict[str, Any]], data: dict[str, Any]) -> None:
    view = OpenFile(state)
    button(view)._on_message(data)
    assert button(view).refused
    assert asked == []
    if data.get("size") == open_file.MOST_BYTES + 1:
        assert "at most 256 MiB" in button(view).said


def test_no_file_is_left_behind(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    state = State(["another"])
    view = OpenFile(state)

    async def visit() -> None:
        button(view)._on_message(piece(content, 0, len(content)))
        await until(lambda: state.opened)

    asyncio.run(visit())
    assert list(tmp_path.iterdir()) == []
