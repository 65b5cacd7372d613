"""The card of one head of a corpus: what was measured of it, and texts it is active in."""

from __future__ import annotations

from collections.abc import Callable

import panel as pn
from panel.viewable import Viewer

from attnxr.dashboard.parts import BarLists, CardHeading, HeadExamples
from attnxr.dashboard.rows.heads import about, card_lists, examples
from attnxr.dashboard.session.heads import Heads

# Narrow columns, as many as there is room for.
_NARROW = """
.bar-lists { display: block; columns: 260px auto; column-gap: 22px; }
.bar-lists table { break-inside: avoid; margin: 0 0 14px; }
.bar-lists thead th:first-child, .bar-lists tbody th { width: 40%; }
.bar-lists .bar { width: 15%; }
.bar-lists thead th.figure, .bar-lists td.figure { width: 19%; }
.bar-lists thead th.note, .bar-lists td.note { width: 26%; text-align: right; }
"""
OpenText = Callable[[int, int, int], None]
"""Told which head, which of its examples and which token of that a visitor wants to see on the page of one text."""


class HeadCard(Viewer):
    """The card of the chosen head, or of the pinned one.

    Parameters
    ----------
    heads : Heads
        What to follow.
    which : str
        "chosen" or "pinned": a parameter of `heads`.
    open_text : callable
        See `OpenText`.
    refusal : str
        Why no text can be opened; empty where one can.
    """

    def __init__(self, heads: Heads, which: str, open_text: OpenText, refusal: str = "") -> None:
        super().__init__()
        self._heads, self._which, self._open_text = heads, which, open_text
        self._drawn = -1
        self._title = CardHeading(self._press, mark=which)
        self._lists = BarLists(stylesheets=[*BarLists._stylesheets, _NARROW])
        self._examples = HeadExamples(self._open, refusal=refusal)
        heads.param.watch(self._follow, [which, "pinned", "open"])
        self._follow()

    @property
    def _head(self) -> int:
        return int(getattr(self._heads, self._which))

    def _follow(self, *_events: object) -> None:
        heads, head = self._heads, self._head
        if not heads.open or head < 0:
            return
        is_pinned = head == heads.pinned
        corpus = heads.corpus
        self._title.param.update(
            title=corpus.name(head).capitalize() + (" (pinned)" if self._which == "pinned" else ""),
            detail=about(corpus, head),
            buttons=[("unpin", "Unpin")] if is_pinned else [("pin", "Pin beside another")],
        )
        if head != self._drawn:
            self._drawn = head
            self._lists.lists = card_lists(corpus, head)
            self._examples.examples = examples(corpus, head)

    def _press(self, data: dict[str, str]) -> None:
        if data["name"] == "pin":
            self._heads.pin(self._head)
        elif data["name"] == "unpin":
            self._heads.pin(-1)

    def _open(self, data: dict[str, int]) -> None:
        self._open_text(self._head, data["example"], data["position"])

    def __panel__(self) -> pn.Column:
        return pn.Column(self._title, self._lists, self._examples, sizing_mode="stretch_width")
