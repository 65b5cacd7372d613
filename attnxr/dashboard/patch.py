"""How changes reach a visitor's page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import panel as pn
from bokeh.document import Document
from bokeh.document.callbacks import invoke_with_curdoc
from bokeh.document.events import DocumentPatchedEvent
from bokeh.server.session import ServerSession


def in_one_patch(change: Callable[[], object]) -> None:
    """Make a change on the event loop, holding the page's lock, and send all that follows from it in one message.

    Parameters
    ----------
    change : callable
        What to do.
    """

    def run() -> None:
        with _held():
            change()

    pn.state.execute(run, schedule=True)


# Bokeh's own hold sends a message for each thing that changed: a dozen a click, which cost the server and the browser
# more than what is in them. Panel's sends one, but without the lock: where its writes overlap (Panel 1.9,
# ``_dispatch_msgs``) a patch can be left lying until the visitor's next click. So what was held is sent from here where
# this Bokeh lets it be, and Bokeh sends the rest: all of it where it does not, or where there is no server.
@contextmanager
def _held() -> Iterator[None]:
    document = pn.state.curdoc
    if document is None or document.callbacks.hold_value:
        yield
        return
    document.hold("combine")
    try:
        yield
    finally:
        session = getattr(document.session_context, "session", None)
        if session is not None:
            _send_at_once(session)
            if awaits_writes() and _has_what_it_takes(session, document):
                _send_together(session, document)
        document.unhold()


def _send_at_once(session: Any) -> None:
    """Have sockets send what is short without the browser's word that it has what came before, which takes 40 ms."""
    for connection in tuple(getattr(session, "_subscribed_connections", ())):
        socket: Any = getattr(connection, "_socket", None)
        # Of a visitor who has just left, it has no connection any more, and would fail.
        if getattr(socket, "ws_connection", None) is not None:
            socket.set_nodelay(True)


def awaits_writes() -> bool:
    """Whether Bokeh's sessions await what is put into their list of writes, as until 3.9: a click is one message then.

    Since 3.10 they make messages of what is in there, and what they do with the rest of what is private here is
    unknown: Bokeh sends a message for each thing that changed.
    """
    return "Awaitable" in str(ServerSession.__annotations__.get("_pending_writes"))


def _has_what_it_takes(session: Any, document: Document) -> bool:
    return (
        isinstance(getattr(session, "_pending_writes", None), list)
        and isinstance(getattr(document.callbacks, "_held_events", None), list)
        and all(hasattr(connection, "_socket") for connection in getattr(session, "_subscribed_connections", [None]))
    )


def _send_together(session: Any, document: Document) -> None:
    callbacks = document.callbacks
    patches = [event for event in callbacks._held_events if isinstance(event, DocumentPatchedEvent)]
    if not patches:
        return
    callbacks._held_events = [event for event in callbacks._held_events if not isinstance(event, DocumentPatchedEvent)]
    for connection in session._subscribed_connections:
        message = connection.protocol.create("PATCH-DOC", patches)
        session._pending_writes.append(connection._socket.send_message(message))
    for event in patches:
        if event.callback_invoker is not None:
            invoke_with_curdoc(document, event.callback_invoker)
