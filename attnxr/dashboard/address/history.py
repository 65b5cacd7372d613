"""Keeps a page's address in step with what it shows, and the page in step with the browser's back and forward."""

from __future__ import annotations

from cachetools import LRUCache

from attnxr.dashboard.address import codec, of_heads
from attnxr.dashboard.parts import AddressBar
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.session.state import REQUEST, VERSUS, State

_LONG_TEXTS = 20
SHOWN = ("layer", "head", "position", "panel", "controls", *codec.CHOICES, "versus_text", "versus_model", *VERSUS)
"""Parameters that say how an answer is shown."""


class History:
    """The page's address, and what it was before.

    Parameters
    ----------
    state : State
        What to follow, and what an address changes.
    query : str
        Query of the address that the visitor came by.
    heads : Heads, optional
        What of a corpus' heads is shown, where there are any; the address holds it too.
    """

    def __init__(self, state: State, query: str, heads: Heads | None = None) -> None:
        self._state = state
        self._heads = heads
        # What is too long for an address can be gone back to as long as the page is open.
        self._long_texts: LRUCache[str, str] = LRUCache(_LONG_TEXTS)
        self._arriving = True
        state.has_address = True
        self._going = False
        self._of_text = ""
        self.part = AddressBar(lambda data: self._go_to(data["query"]), names=[*codec.NAMES, *of_heads.NAMES])
        state.param.watch(self._write, [*REQUEST, *SHOWN, "answer", "error", "cancelled"])
        if heads is not None:
            heads.param.watch(self._write, list(of_heads.SHOWN))
        self._go_to(query)

    def _go_to(self, query: str) -> None:
        state = self._state
        target = codec.read(query, state, self._long_texts)
        self._arriving = True
        self._of_text = codec.kept(query)
        state.notices = target.notices
        self._going = True  # text and heads: what is in between is no address
        state.go_to(target.inputs, target.selection)
        if self._heads is not None:
            of_heads.read(query, self._heads)
        self._going = False
        self._write()

    def _write(self, *_events: object) -> None:
        if self._going:
            return
        state = self._state
        if state.answer is None and not state.error and not state.cancelled:
            # What will be selected is not known yet. The heads wait for no answer, and leave of the text what was said.
            if self._heads is not None and self._heads.open:
                self.part.query = self._with_heads()
            return
        self._of_text, notices = codec.write(state)
        query = self._with_heads()
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

    def _with_heads(self) -> str:
        of_these = "" if self._heads is None else of_heads.write(self._heads)
        return "&".join(filter(None, (self._of_text, of_these)))
