"""Visitors without a browser: they speak Bokeh's protocol, and draw nothing of what they are sent."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

_LARGEST = 1 << 28  # bytes of a message


@dataclass
class WireVisitor:
    """One visitor.

    Attributes
    ----------
    patched : list of (float, str)
        When patches came, and what was in them.
    position : int
        The chosen token.
    """

    patched: list[tuple[float, str]] = field(default_factory=list)
    position: int = 1

    async def arrive(self, address: str) -> None:
        """Open the page, and wait until the first answer is there."""
        reply = await AsyncHTTPClient().fetch(address, request_timeout=60)
        token = re.search(r'"token":\s*"([^"]+)"', reply.body.decode())
        assert token is not None, "the page has no session"
        self._socket: WebSocketClientConnection = await websocket_connect(
            f"ws{address.removeprefix('http')}/ws", subprotocols=["bokeh", token[1]], max_message_size=_LARGEST
        )
        self._socket.protocol.set_nodelay(True)  # as browsers do
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._document: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._listener = asyncio.create_task(self._listen())
        async with asyncio.timeout(60):
            await self._greeted  # the server hangs up on whoever speaks before it has said that it is ready
        await self._send("PULL-DOC-REQ", {})
        parts = [(each["id"], _attributes(_attributes(each).get("data"))) for each in _objects(await self._document)]
        ((self._chips, tokens),) = (
            (part, has["items"]) for part, has in parts if has.get("caption") == "Tokens of the text"
        )
        (self._text_box,) = (part for part, has in parts if "text" in has)
        await self._event("document_ready", None)
        if tokens == "[]":
            await self.until('"items"')

    async def leave(self) -> None:
        """Close the page."""
        self._listener.cancel()
        self._socket.close()

    async def choose_another(self, tokens: int) -> None:
        """Click the next token, of so many."""
        self.position = 1 + self.position % (tokens - 2)
        await self._message(self._chips, "index", self.position)

    async def run(self, text: str) -> None:
        """Ask about another text, of which the page chooses the first word."""
        self.position = 1
        await self._message(self._text_box, "text", text)

    async def until(self, named: str, since: float = 0.0) -> None:
        """Wait for a patch in which something occurs."""
        async with asyncio.timeout(120):
            while not any(named in content for when, content in self.patched if when >= since):
                await asyncio.sleep(0.005)

    async def _message(self, part: str, name: str, value: object) -> None:
        data = {"type": "map", "entries": [[name, value]]}
        await self._event("data_event", [["model", {"id": part}], ["data", data]])

    async def _event(self, name: str, entries: list[Any] | None) -> None:
        values = {"type": "map"} if entries is None else {"type": "map", "entries": entries}
        event = {"type": "event", "name": name, "values": values}
        await self._send(
            "PATCH-DOC", {"events": [{"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": event}]}
        )

    async def _send(self, kind: str, content: dict[str, Any]) -> None:
        for part in ({"msgid": uuid.uuid4().hex, "msgtype": kind}, {}, content):
            await self._socket.write_message(json.dumps(part))

    async def _listen(self) -> None:
        while (part := await self._socket.read_message()) is not None:
            header = json.loads(part)
            await self._socket.read_message()  # metadata
            content = await self._socket.read_message()
            for _ in range(2 * header.get("num_buffers", 0)):
                await self._socket.read_message()
            if header["msgtype"] == "PATCH-DOC":
                self.patched.append((time.perf_counter(), str(content)))
            elif header["msgtype"] == "ACK":
                self._greeted.set_result(None)
            elif header["msgtype"] == "PULL-DOC-REPLY":
                self._document.set_result(json.loads(content or ""))


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """All that has an id in a document."""
    if isinstance(node, dict):
        if "id" in node and "attributes" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _objects(child)


def _attributes(node: Any) -> dict[str, Any]:
    return node.get("attributes", {}) if isinstance(node, dict) else {}
