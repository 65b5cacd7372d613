"""Keeps a page's address in step with what it shows, and the page in step with the browser's back and forward."""

from __future__ import annotations

from cachetools import LRUCache

from attnxr.dashboard.address import codec
from attnxr.dashboard.parts import AddressBar
from attnxr.dashboard.session.state import REQUEST, State

_LONG_TEXTS = 20
_SHOWN = ("layer", "head", "position", "panel", *codec.CHOICES, "versus_text", "versus_model")


class History:
    """The page's address, and what it was before.

    Parameters
    ----------
    state : State
        What to follow, and what an address changes.
    query : str
        Query of the address that the visitor came by.
    """

    def __init__(self, state: State, query: str) -> None:
        self._state = state
        # What is too long for an address can be gone back to as long as the page is open.
        self._long_texts: LRUCache[str, str] = LRUCache(_LONG_TEXTS)
        self._arriving = True
        self.part = AddressBar(lambda data: self._go_to(data["query"]), names=list(codec.NAMES))
        state.param.watch(self._write, [*REQUEST, *_SHOWN, "answer", "error", "cancelled"])
        self._go_to(query)

    def _go_to(self, query: str) -> None:
        state = self._state
        target = codec.read(query, state, self._long_texts)
        self._arriving = True
        state.notices = target.notices
        state.go_to(target.inputs, target.selection)
        self._write()

    def _write(self, *_events: object) -> None:
        state = self._state
        if state.answer is None and not state.error and not state.cancelled:
            return  # what will be selected is not known yet
        query, notices = codec.write(state)
        for text in (getattr(state, name) for name in codec.TEXTS):
            if len(text) > codec.MOST_CHARACTERS:
                self._long_texts[codec.digest(text)] = text
        if self._arriving:
            # What was in the address and cannot be shown is told until the visitor goes on.
            self._arriving = False
            state.notices = list(dict.fromkeys([*state.notices, *notices]))
        elif query != self.part.query:
            state.notices = notices
        self.part.query = query
