"""A server of the page, which runs until it is told to stop."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import panel as pn
import panel_material_ui as pmui
from tornado.ioloop import PeriodicCallback
from tornado.process import task_id

from attnxr.dashboard.served.guard import Headers, be_discreet, log_request
from attnxr.dashboard.served.health import Health
from attnxr.dashboard.served.page import open_page
from attnxr.errors import InputError

_HEALTH = "/health"
_PATH = "/app"  # as of `panel serve app`, so that addresses that people keep stay good


def options(*, origins: Sequence[str] = (), prefix: str = "") -> dict[str, Any]:
    """What makes a server of Panel's this one, whatever it serves.

    Parameters
    ----------
    origins, prefix
        As of `serve`.

    Returns
    -------
    dict
        Options of ``panel.serve``.
    """
    return {
        "websocket_origin": list(origins) or None,
        "prefix": prefix,
        "extra_patterns": [(_HEALTH, Health)],
        "log_function": log_request,
        "transforms": [Headers],
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
) -> None:
    """Serve the page at ``/app``, to which ``/`` leads, until the process is interrupted or terminated.

    Parameters
    ----------
    arguments : sequence of str
        Names of the models to offer; without any, those of `attnxr.dashboard.served.shelf.offered`.
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

    Raises
    ------
    InputError
        If it cannot listen there.
    """
    if num_procs > 1 and sys.platform == "win32":
        raise InputError("num_procs was given as more than 1, and Windows cannot fork. Expected 1.")
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
            **options(origins=origins, prefix=prefix),
        )
    except OSError as error:
        hint = "Another server has it: stop that one, or pass --port 0, which takes any that is free."
        raise InputError(
            f"The server cannot listen on port {port}{f' of {address!r}' if address else ''} ({error.strerror}). "
            + (hint if error.errno == errno.EADDRINUSE else "Pass another --port or --address.")
        ) from error
    if num_procs > 1:
        PeriodicCallback(lambda: _end_without(parent), 1000).start()
    if not task_id():  # of several processes the first
        print(f"attnxr runs at http://{address or 'localhost'}:{server.port}{server.prefix}{_PATH}", flush=True)
    server.run_until_shutdown()


def _end_without(parent: int) -> None:
    """End a process that serves, as its own SIGTERM would, where the one that forked it was ended."""
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
