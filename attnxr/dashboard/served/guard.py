"""What a server says of its visitors to its log, and to browsers of what a page may do and how it comes.

Addresses carry texts, and so do messages: neither is logged. An error is logged as its kind and its place.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import GZipContentEncoding, OutputTransform, RequestHandler

HEADERS: Mapping[str, str] = {
    # Bokeh's pages have scripts in them and make functions of texts; Panel fetches components from blobs.
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self' blob: data:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'self'",
        )
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
"""Of every answer: a page loads nothing from elsewhere, tells nobody its address, stands in no other site's frame."""

# These say what was asked for, or what a message had in it.
_TALKATIVE = (
    *("bokeh.server.protocol_handler", "bokeh.server.views.ws", "bokeh.server.views.doc_handler"),
    *("bokeh.document", "bokeh.application.application", "bokeh.core.property.validation"),
    *("tornado.access", "tornado.application", "tornado.general", "asyncio", "panel"),
)
# Bokeh warns so of each message to one who leaves while the page opens; that he has left is told beside it.
_LEFT = "Failed sending message as connection was closed"
_access = logging.getLogger("attnxr.access")


class Headers(OutputTransform):
    """Puts `HEADERS` on every answer of a Tornado application.

    Parameters
    ----------
    request : tornado.httputil.HTTPServerRequest
    frames : sequence of str
        Hosts whose pages may have this one in a frame.
    """

    def __init__(self, request: HTTPServerRequest, frames: Sequence[str] = ()) -> None:
        super().__init__(request)
        self._headers = dict(HEADERS)
        if frames:
            own = "frame-ancestors 'self'"
            policy = self._headers["Content-Security-Policy"].replace(own, " ".join([own, *frames]))
            self._headers["Content-Security-Policy"] = policy
            del self._headers["X-Frame-Options"]  # which knows no other hosts

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Add them; Tornado calls it."""
        for name, value in self._headers.items():
            headers.setdefault(name, value)
        headers.pop("Server", None)
        return status_code, headers, chunk


class Compressed(OutputTransform):
    """Compresses what a page loads, where the browser takes that.

    A page itself stays as it is: it repeats what stands in its address, and from the length of a compressed one a
    stranger who chose the address could tell what else is in it.

    Parameters
    ----------
    request : tornado.httputil.HTTPServerRequest
    """

    def __init__(self, request: HTTPServerRequest) -> None:
        super().__init__(request)
        self._request = request
        self._how = OutputTransform(request)

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Begin; Tornado calls it."""
        if status_code == 200 and not headers.get("Content-Type", "").startswith("text/html"):  # nor parts of a file
            self._how = _Quick(self._request)
        return self._how.transform_first_chunk(status_code, headers, chunk, finishing)

    def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:
        """Go on; Tornado calls it."""
        return self._how.transform_chunk(chunk, finishing)


class _Quick(GZipContentEncoding):
    GZIP_LEVEL = 1  # Panel's scripts become a third; higher levels take away little more, and twice the time


def log_request(handler: RequestHandler) -> None:
    """Log a request without its query and its visitor: method, path, status and time."""
    request, status = handler.request, handler.get_status()
    level = logging.ERROR if status >= 500 else logging.INFO
    _access.log(level, "%d %s %.100s %.0f ms", status, request.method, request.path, 1000 * request.request_time())


class Discreet(logging.Filter):
    """Rewrites what a library logs of an error: in one line, without what a visitor sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite a record, and let it through, unless it says no more than that a visitor has left."""
        if record.msg == _LEFT:
            return False
        error = record.exc_info[1] if record.exc_info else _error_in(record.args)
        first = str(record.msg).partition("\n")[0]
        said = re.sub(r"%[-#0-9.]*[a-zA-Z]", "…", first) if record.args else re.sub(r"\?\S*", "?…", first)
        record.msg, record.args = said[:200] + (f" ({_place(error)})" if error else ""), ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def be_discreet() -> None:
    """Have those libraries log no more than that; once for a process."""
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        if not any(isinstance(each, Discreet) for each in logger.filters):
            logger.addFilter(Discreet())


def _error_in(args: Any) -> BaseException | None:
    values = args.values() if isinstance(args, Mapping) else args or ()
    return next((each for each in values if isinstance(each, BaseException)), None)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
