"""No text of a visitor is in the log, and every answer says what its page may do."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import panel as pn
import pytest
from tornado.httputil import HTTPHeaders

from attnxr.dashboard.compute.jobs import ANSWER
from attnxr.dashboard.served import guard, server
from attnxr.dashboard.served.health import Health
from attnxr.errors import InputError

SECRET = "what-a-visitor-typed"


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    guard.be_discreet()
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for name in guard._TALKATIVE:
        logger = logging.getLogger(name)
        logger.filters = [each for each in logger.filters if not isinstance(each, guard.Discreet)]


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


def fail() -> None:
    raise ValueError(SECRET)


def with_traceback(logger: logging.Logger) -> None:
    try:
        fail()
    except ValueError as error:
        # As bokeh.server.protocol_handler does, and tornado.web.
        logger.error("error handling message\n message: %r \n error: %r", {"text": SECRET}, error, exc_info=True)


@pytest.mark.parametrize("name", guard._TALKATIVE)
@pytest.mark.parametrize(
    "say",
    [
        with_traceback,
        lambda logger: logger.warning("404 GET /x?text=%s (127.0.0.1) 0.5ms" % SECRET),  # noqa: UP031
        lambda logger: logger.warning("%d %s %.2fms", 404, f"GET /x?text={SECRET}", 0.5),
        lambda logger: logger.error("Handler threw an exception: %r: %r", ValueError(SECRET), SECRET),
    ],
)
def test_libraries_tell_the_log_what_went_wrong_without_what_was_sent(
    heard: pytest.LogCaptureFixture, name: str, say: Callable[[logging.Logger], None]
) -> None:
    logger, records = logging.getLogger(name), Records()
    logger.addHandler(records)  # older releases of Bokeh pass nothing on to the root
    try:
        with heard.at_level(logging.DEBUG, logger=name):  # Bokeh and Panel set levels of their own
            say(logger)
    finally:
        logger.removeHandler(records)
    (record,) = records.kept
    assert SECRET not in records.format(record)
    assert len(record.getMessage()) < 300
    assert "\n" not in record.getMessage()
    if say is with_traceback:
        assert "ValueError at served/test_guard.py:" in record.getMessage()


@pytest.fixture
def address() -> Iterator[str]:
    """A server with all that `serve` gives it, but for the page, whose making takes seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = pn.serve(
        {"/app": lambda: pn.pane.Str(SECRET)},
        port=port,
        address="127.0.0.1",
        threaded=True,
        show=False,
        verbose=False,
        **server.options(origins=["example.org"], prefix="lab"),
    )
    address = f"http://127.0.0.1:{port}/lab"
    while True:
        with contextlib.suppress(urllib.error.URLError):
            urllib.request.urlopen(f"{address}/health").close()
            break
    yield address
    made.stop()
    made.join(60)


def test_every_answer_has_the_headers_and_no_address_is_logged_whole(
    heard: pytest.LogCaptureFixture, address: str
) -> None:
    with urllib.request.urlopen(f"{address}/health") as answer:
        assert json.load(answer) == {"status": "ok", "waiting": ANSWER.waiting}
        assert answer.headers["Cache-Control"] == "no-store"
        found = [answer.headers]
    with urllib.request.urlopen(f"{address}/app?text={SECRET}") as answer:
        assert b"Bokeh" in answer.read()
        found.append(answer.headers)
    with pytest.raises(urllib.error.HTTPError) as missing:
        urllib.request.urlopen(f"{address}/nothing?text={SECRET}")
    found.append(missing.value.headers)
    missing.value.close()
    for headers in found:
        assert {name: headers[name] for name in guard.HEADERS} == dict(guard.HEADERS)
        assert headers["Server"] is None
    access: list[str] = []
    deadline = time.monotonic() + 60
    while (
        not any("404" in line for line in access) and time.monotonic() < deadline
    ):  # a request is logged after its answer is sent
        time.sleep(0.05)
        access = [record.getMessage() for record in heard.records if record.name == "attnxr.access"]
    assert SECRET not in heard.text
    assert {line.rpartition(" ")[0].rpartition(" ")[0] for line in access} == {
        "200 GET /lab/health",
        "200 GET /lab/app",
        "404 GET /lab/nothing",
    }


def loaded(address: str, **headers: str) -> tuple[bytes, Any]:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return answer.read(), answer.headers


def test_what_a_page_loads_comes_compressed_and_the_page_does_not(address: str) -> None:
    takes = {"Accept-Encoding": "gzip"}
    page, of_page = loaded(f"{address}/app", **takes)
    assert of_page["Content-Encoding"] is None
    host = address.removesuffix("/lab")
    scripts = [each for each in re.findall(r'src="([^"]+)"', page.decode()) if each.startswith(("/", "static"))]
    assert len(scripts) > 3
    plain = less = 0
    for each in scripts:
        script = each if each.startswith("/") else f"/lab/{each}"
        whole, of_whole = loaded(host + script)
        packed, of_packed = loaded(host + script, **takes)
        assert of_whole["Content-Encoding"] is None
        assert (of_packed["Content-Encoding"], of_packed["Vary"]) == ("gzip", "Accept-Encoding")
        assert gzip.decompress(packed) == whole
        assert {name: of_packed[name] for name in guard.HEADERS} == dict(guard.HEADERS)
        plain, less = plain + len(whole), less + len(packed)
    assert less < 0.4 * plain
    part, of_part = loaded(host + script, Range="bytes=5-9", **takes)
    assert (part, of_part["Content-Encoding"]) == (whole[5:10], None)


def test_hosts_that_may_frame_the_page_are_named_and_no_others() -> None:
    headers, _ = server.options(frames=["https://example.org", "localhost:8888"])["transforms"]
    _, found, _ = headers(None).transform_first_chunk(200, HTTPHeaders(), b"", True)
    policy = found["Content-Security-Policy"]
    assert policy.endswith("; frame-ancestors 'self' https://example.org localhost:8888")
    assert policy.startswith(guard.HEADERS["Content-Security-Policy"])
    assert "X-Frame-Options" not in found
    for no_host in ("example.org; script-src *", "'none'", "", "https://example.org/page", "a b"):
        with pytest.raises(InputError, match="expected one such as"):
            server.options(frames=[no_host])


def test_a_page_of_another_host_cannot_connect(address: str) -> None:
    for origin, status in (("http://elsewhere.example", 403), ("http://example.org", 101)):
        host, port = address.removeprefix("http://").removesuffix("/lab").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            lines = [
                "GET /lab/app/ws HTTP/1.1",
                f"Host: {host}:{port}",
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Origin: {origin}",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Protocol: bokeh, none",
            ]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            assert connection.recv(12).decode() == f"HTTP/1.1 {status}"


def test_several_processes_are_refused_where_there_is_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(InputError, match="cannot fork"):
        server.serve(["minilm"], port=0, num_procs=2)


def test_health_is_there_without_a_page() -> None:
    assert dict(server.options()["extra_patterns"])["/health"] is Health
