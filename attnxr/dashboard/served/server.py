"""A server of the page, which runs until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any

import panel as pn
import panel_material_ui as pmui
from tornado.ioloop import PeriodicCallback
from tornado.process import task_id

from attnxr.dashboard.compute.cache import ANSWERS
from attnxr.dashboard.compute.jobs import end_all
from attnxr.dashboard.served.corpora import CORPORA, asked_for
from attnxr.dashboard.served.guard import Compressed, Headers, be_discreet, log_request
from attnxr.dashboard.served.health import Health
from attnxr.dashboard.served.page import open_page
from attnxr.dashboard.served.shelf import SHELF
from attnxr.dashboard.session.state import State
from attnxr.errors import AttnxrError, InputError

_HEALTH = "/health"
_HOST = re.compile(r"(https?://)?[A-Za-z0-9*]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?", re.ASCII)
_HEAD_START = 2  # seconds: a first visitor who came before would have his answer later, since both want the processor
_PATIENCE = 10  # seconds
_PATH = "/app"  # as of `panel serve app`, so that addresses that people keep stay good


def options(*, origins: Sequence[str] = (), prefix: str = "", frames: Sequence[str] = ()) -> dict[str, Any]:
    """What makes a server of Panel's this one, whatever it serves.

    Parameters
    ----------
    origins, prefix, frames
        As of `serve`.

    Returns
    -------
    dict
        Options of ``panel.serve``.

    Raises
    ------
    InputError
        If one of `frames` is no host.
    """
    for each in frames:
        if not _HOST.fullmatch(each):
            raise InputError(
                f"{each!r} was given as a host whose pages may have this one in a frame; expected one such as "
                "'example.org', 'https://example.org' or 'localhost:8888'."
            )
    return {
        "websocket_origin": list(origins) or None,
        "prefix": prefix,
        "extra_patterns": [(_HEALTH, Health)],
        "log_function": log_request,
        "transforms": [partial(Headers, frames=tuple(frames)), Compressed],
    }


def serve(
    arguments: Sequence[str],
    *,
    port: int,
    address: str | None = None,
    open_browser: bool = False,
    origins: Sequence[str] = (),
    prefix: str = "",
    num_procs: int = 1,
    use_xheaders: bool = False,
    frames: Sequence[str] = (),
) -> None:
    """Serve the page at ``/app``, to which ``/`` leads, until the process is interrupted or terminated.

    Parameters
    ----------
    arguments : sequence of str
        Names of the models to offer; without any, those of `attnxr.dashboard.served.shelf.offered`. After ``--corpus``
        the place of a corpus, whose heads are shown too.
    port : int
        Where to listen; 0 for any that is free.
    address : str, optional
        On which address of the machine to listen; by default on all of them.
    open_browser : bool
        Whether to open the page in a browser.
    origins : sequence of str
        Hosts, with their ports, whose pages may connect; by default those of the address that it listens on.
    prefix : str
        What stands before ``/app`` in the page's address, where a proxy passes it on.
    num_procs : int
        How many processes serve it.
    use_xheaders : bool
        Whether a proxy says the visitor's scheme and address in ``X-Scheme`` and ``X-Real-Ip``.
    frames : sequence of str
        Hosts whose pages may have this one in a frame; by default only its own.

    Raises
    ------
    InputError
        If it cannot listen there, the corpus cannot be shown, or ``ATTNXR_MODELS`` cannot be read.
    """
    if num_procs > 1 and sys.platform == "win32":
        raise InputError("num_procs was given as more than 1, and Windows cannot fork. Expected 1.")
    models, place = asked_for(arguments)
    if place is not None:
        CORPORA(place)  # so that it is refused at once, and processes that are forked share it
    be_discreet()
    parent = os.getpid()

    def page() -> pmui.Page:
        return open_page(arguments)

    try:
        server = pn.serve(
            {_PATH: page},
            port=port,
            address=address,
            title="attnxr",
            show=open_browser,
            start=False,
            verbose=False,
            num_procs=num_procs,
            use_xheaders=use_xheaders,
            **options(origins=origins, prefix=prefix, frames=frames),
        )
    except OSError as error:
        hint = "Another server has it: stop that one, or pass --port 0, which takes any that is free."
        raise InputError(
            f"The server cannot listen on port {port}{f' of {address!r}' if address else ''} ({error.strerror}). "
            + (hint if error.errno == errno.EADDRINUSE else "Pass another --port or --address.")
        ) from error
    if num_procs > 1:
        PeriodicCallback(lambda: _end_without(parent), 1000).start()
    warming = Thread(target=_warm, args=(models,), name="attnxr-warm", daemon=True)
    warming.start()
    warming.join(_HEAD_START)
    # Not run_until_shutdown: that prints before it stops, and does not stop where nobody reads it any more.
    server.start()
    if os.name != "nt":
        asyncio.get_event_loop().add_signal_handler(signal.SIGTERM, server.io_loop.stop)
    if not task_id():  # of several processes the first
        print(f"attnxr runs at http://{address or 'localhost'}:{server.port}{server.prefix}{_PATH}", flush=True)
    with suppress(KeyboardInterrupt):
        server.io_loop.start()
    server.stop()
    ended = end_all(_PATIENCE)
    warming.join(_PATIENCE if ended else 0)
    if warming.is_alive() or not ended:
        # A large model loads, or is fetched. Python would wait for jobs, which can take for ever, and abort where it
        # ends in the middle of torch's work.
        sys.stdout.flush()
        os._exit(0)


def _warm(models: Sequence[str]) -> None:
    """Have what a new page shows at hand before anyone comes: the first model, and the answer to its first question."""
    with suppress(AttnxrError):  # who asks for it is told
        ANSWERS(State(models).request, SHELF, lambda _message, _fraction: None)


def _end_without(parent: int) -> None:
    """End a process that serves, as its own SIGTERM would, where the one that forked it was ended."""
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
