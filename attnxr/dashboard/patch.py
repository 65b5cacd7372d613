"""How changes reach a visitor's page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import panel as pn


def in_one_patch(change: Callable[[], object]) -> None:
    """Make a change on the event loop, holding the page's lock, and send all that follows from it in one go.

    Panel's own ``hold`` sends without the lock. Where its writes overlap (Panel 1.9, ``_dispatch_msgs``) a patch can
    be left lying until the visitor's next click; Bokeh's hold, under the lock, sends everything, in order.

    Parameters
    ----------
    change : callable
        What to do.
    """

    def run() -> None:
        with _held():
            change()

    pn.state.execute(run, schedule=True)


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
        document.unhold()
