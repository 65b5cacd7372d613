"""Who has left is forgotten: of a visit nothing stays in memory but its answers, which others may ask for."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import panel as pn
import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

from attnxr.dashboard.served import server
from attnxr.dashboard.served.page import open_page
from benchmarks.parts.app.wire import WireVisitor

TEXTS = ("Time flies like an arrow.", "Fruit flies like a banana.")
OWN = ("attnxr.dashboard.", "bokeh.", "holoviews.", "panel.", "panel_material_ui.")
VISITS = 4
QUIET = 5  # seconds after which whoever left is forgotten


@contextmanager
def served() -> Iterator[str]:
    """The page's address, on a server in this process that looks often for who has left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = pn.serve(
        {"/app": lambda: open_page(["minilm"])},
        port=port,
        address="127.0.0.1",
        threaded=True,
        show=False,
        verbose=False,
        check_unused_sessions_milliseconds=100,
        unused_session_lifetime_milliseconds=100,
        **server.options(),
    )
    try:
        yield f"http://127.0.0.1:{port}/app"
    finally:
        made.stop()
        made.join(60)


async def visit(address: str) -> None:
    """Come, ask two texts and click in each, and leave."""
    visitor = WireVisitor()
    async with asyncio.timeout(120):
        while True:
            try:
                await visitor.arrive(address)
                break
            except ConnectionRefusedError:  # the server is starting
                await asyncio.sleep(0.1)
    for text in TEXTS:
        visitor.patched.clear()
        await visitor.run(text)
        await visitor.until('\\"own\\"')
        for _ in range(2):
            visitor.patched.clear()
            await visitor.choose_another(7)
            await visitor.until('\\"own\\"')
    await visitor.leave()


def live() -> Counter[str]:
    """How many objects there are of each kind that a page is made of."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    return Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if f"{kind.__module__}".startswith(OWN))


def test_visitors_who_have_left_leave_nothing_of_their_pages() -> None:
    logging.disable(logging.INFO)  # pytest keeps what is logged, and Panel logs what it is told, with its page
    with served() as address:
        for _ in range(2):
            asyncio.run(visit(address))  # what is made once is made
        before = when_nobody_is_there(Counter())
        for _ in range(VISITS):
            asyncio.run(visit(address))
        more = when_nobody_is_there(before)
    logging.disable(logging.NOTSET)
    of_each_visit = {kind: count for kind, count in more.items() if count >= VISITS}
    assert not of_each_visit


async def leave_early(address: str, after: int, properly: bool) -> None:
    """Begin to come, and leave after so many steps of it: the socket, the greeting, the page."""
    reply = await AsyncHTTPClient().fetch(address, request_timeout=120)
    (token,) = re.findall(r'"token":\s*"([^"]+)"', reply.body.decode())
    socket_ = await websocket_connect(f"ws{address.removeprefix('http')}/ws", subprotocols=["bokeh", token])
    drawn = {"type": "event", "name": "document_ready", "values": {"type": "map"}}
    told = {"events": [{"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": drawn}]}
    for kind, content in [("PULL-DOC-REQ", {}), ("PATCH-DOC", told)][: max(0, after - 1)]:
        await socket_.read_message()
        for part in ({"msgid": uuid.uuid4().hex, "msgtype": kind}, {}, content):
            await socket_.write_message(json.dumps(part))
    if not properly:
        socket_.protocol.stream.close()
    socket_.close()


def test_who_leaves_while_the_page_opens_is_no_matter_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with served() as address, caplog.at_level(logging.WARNING):
        asyncio.run(visit(address))

        async def all_of_them() -> None:
            for after in range(4):
                await asyncio.gather(*(leave_early(address, after, properly) for properly in (True, False) * 2))

        asyncio.run(all_of_them())
        when_nobody_is_there(Counter())
        said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert not said


def when_nobody_is_there(before: Counter[str]) -> Counter[str]:
    """What there is more of than before, as soon as that becomes no less; what comes and goes is no reason to wait."""
    found, since = live() - before, time.monotonic()
    while found and time.monotonic() - since < QUIET:
        time.sleep(0.5)
        left = live() - before
        if sum(left.values()) < sum(found.values()):
            found, since = left, time.monotonic()
    return found
