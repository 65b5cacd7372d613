"""How changes reach a visitor's page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import panel as pn
from bokeh.document import Document
from bokeh.document.callbacks import invoke_with_curdoc
from bokeh.document.events import DocumentPatchedEvent


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
# ``_dispatch_msgs``) a patch can be left lying until the visitor's next click.
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
        _send_together(document)
        document.unhold()  # sends what is left: all of it where there is no server, as in a notebook


def _send_together(document: Document) -> None:
    session: Any = getattr(document.session_context, "session", None)
    if session is None:
        return
    callbacks = document.callbacks
    patches = [event for event in callbacks._held_events if isinstance(event, DocumentPatchedEvent)]
    if not patches:
        return
    callbacks._held_events = [event for event in callbacks._held_events if not isinstance(event, DocumentPatchedEvent)]
    for connection in session._subscribed_connections:
        # Else what is short waits for the browser's word that it has what came before, and browsers take 40 ms for it.
        connection._socket.set_nodelay(True)
        message = connection.protocol.create("PATCH-DOC", patches)
        session._pending_writes.append(connection._socket.send_message(message))
    for event in patches:
        if event.callback_invoker is not None:
            invoke_with_curdoc(document, event.callback_invoker)
