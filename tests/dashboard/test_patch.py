"""How a change reaches a page that is open: a real server and a real connection, with whatever Bokeh is installed."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import panel as pn
import pytest
from bokeh.models import Div, TextInput
from bokeh.server.session import ServerSession
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

from attnxr.dashboard.patch import _send_at_once, in_one_patch

PATIENCE = 60  # seconds


@pytest.fixture
def address() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    server = pn.serve(_page, port=port, threaded=True, show=False, verbose=False)
    yield f"localhost:{port}"
    server.stop()
    server.join(PATIENCE)


def test_changes_reach_the_page(address: str) -> None:
    assert asyncio.run(_answers(address)) == ["once", "once, and more", "twice", "twice, and more"]


def test_they_do_where_bokeh_takes_no_writes_but_its_own(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As since Bokeh 3.10; older ones send what is held themselves too.
    monkeypatch.setitem(ServerSession.__annotations__, "_pending_writes", "list[_PendingPatch] | None")
    assert asyncio.run(_answers(address)) == ["once", "once, and more", "twice", "twice, and more"]


def test_a_visitor_who_has_just_left_is_sent_nothing_and_nothing_is_logged(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Between the end of a socket and the moment when the session hears of it: the handler is still subscribed.
    asyncio.run(_left(address))
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert "AssertionError" not in caplog.text


async def _left(address: str) -> None:
    page = await _fetched(f"http://{address}/")
    token = re.search(r'"token":\s*"([^"]+)"', page)
    assert token is not None
    connection = await websocket_connect(f"ws://{address}/ws", subprotocols=["bokeh", token[1]])
    assert (await _received(connection))[0] == "ACK"
    heard: list[BaseException | None] = []
    done = asyncio.Event()
    here = asyncio.get_running_loop()

    def leave() -> None:
        (session,) = [each for each in _sessions() if each._subscribed_connections]
        (there,) = session._subscribed_connections
        there._socket.ws_connection = None  # as tornado.websocket.WebSocketHandler.on_connection_close leaves it
        try:
            _send_at_once(session)
            heard.append(None)
        except BaseException as error:
            heard.append(error)
        here.call_soon_threadsafe(done.set)

    next(iter(_servers())).io_loop.add_callback(leave)
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    connection.close()
    assert heard == [None]


def _servers() -> list[Any]:
    return [server for server, *_ in pn.state._servers.values()]


def _sessions() -> list[ServerSession]:
    return [session for server in _servers() for session in server.get_sessions()]


def _page() -> pn.Column:
    """An input that is answered with two changes."""
    asked, said, more = TextInput(), Div(), Div()

    def change(text: str) -> None:
        said.text = text
        more.text = f"{text}, and more"

    asked.on_change("value", lambda _attr, _old, new: in_one_patch(partial(change, new)))
    return pn.Column(asked, said, more)


async def _answers(address: str) -> list[str]:
    """What a page is sent when its input becomes one text, then another."""
    page = await _fetched(f"http://{address}/")
    token = re.search(r'"token":\s*"([^"]+)"', page)
    assert token is not None
    connection = await websocket_connect(f"ws://{address}/ws", subprotocols=["bokeh", token[1]])
    assert (await _received(connection))[0] == "ACK"
    await _send(connection, "PULL-DOC-REQ", {})
    _, document = await _received(connection)
    asked = re.search(r'"name": ?"TextInput", ?"id": ?"(\w+)"', json.dumps(document))
    assert asked is not None
    answers: list[str] = []
    for text in ("once", "twice"):
        change = {"kind": "ModelChanged", "model": {"id": asked[1]}, "attr": "value", "new": text}
        await _send(connection, "PATCH-DOC", {"events": [change]})
        until = len(answers) + 2
        while len(answers) < until:
            kind, content = await _received(connection)
            if kind == "PATCH-DOC":
                answers += [event["new"] for event in content["events"] if event.get("attr") == "text"]
    connection.close()
    return answers


async def _fetched(address: str) -> str:
    for _ in range(10 * PATIENCE):
        try:
            return (await AsyncHTTPClient().fetch(address)).body.decode()
        except ConnectionRefusedError:
            await asyncio.sleep(0.1)
    raise TimeoutError(address)


async def _send(connection: WebSocketClientConnection, kind: str, content: dict[str, Any]) -> None:
    for part in ({"msgid": kind, "msgtype": kind}, {}, content):
        await connection.write_message(json.dumps(part))


async def _received(connection: WebSocketClientConnection) -> tuple[str, Any]:
    async with asyncio.timeout(PATIENCE):
        header, _metadata, content = [json.loads(await connection.read_message() or "null") for _ in range(3)]
    return header["msgtype"], content
