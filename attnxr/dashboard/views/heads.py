"""The page of a corpus' heads: all as points and as a table, and the cards of one or two."""

from __future__ import annotations

from typing import Any

import panel as pn
import param

from attnxr.dashboard.files.exports import heads_csv, plain_name
from attnxr.dashboard.parts import Choices, HeadsTable, Status, TakeAwayFiles
from attnxr.dashboard.rows.heads import columns, summary, table_rows
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.views.fields import choice_field
from attnxr.dashboard.views.head_card import HeadCard, OpenText
from attnxr.dashboard.views.heads_scatter import HeadScatter
from attnxr.dashboard.views.view import CARD, View

_LABELS = {"x": "Across", "y": "Up", "color": "Colour", "of_layer": "Layers"}
# Points and table lie beside each other from about 950 pixels, and beside the cards from about 1,700.
_ROW = {"flex-wrap": "wrap", "align-items": "flex-start", "gap": "0 12px"}
_NARROW = ".choices select { max-width: 200px; }"  # so that all of them are in one line
_SHORT = ".file { grid-template-columns: minmax(100px, 130px) minmax(0, 1fr); }"
_CSV = {
    "name": "table",
    "label": "Table",
    "format": "CSV",
    "note": "The heads that the filters keep, in the order on screen: all their figures, and the words they write.",
}


class HeadsPage(View):
    """Everything on the heads of a corpus. Words are there as soon as the page is open, the figure when it is shown.

    Parameters
    ----------
    heads : Heads
        What to follow.
    open_text : callable
        See `OpenText`.
    refusal : str
        Why no text can be opened; empty where one can.
    **params
        Starting values of the parameters.
    """

    def __init__(self, heads: Heads, open_text: OpenText, refusal: str = "", **params: Any) -> None:
        super().__init__(**params)
        self._heads = heads
        self._status = Status()
        self._choices = Choices(self._choose, stylesheets=[*Choices._stylesheets, _NARROW])
        self._scatter = HeadScatter(heads, dark=self.dark, shown=self.shown)
        searched = "" if heads.corpus.has_words else None
        self._table = HeadsTable(self._do, caption="Heads of the corpus", searched=searched)
        styles = [*TakeAwayFiles._stylesheets, _SHORT]
        self._files = TakeAwayFiles(self._save, files=[_CSV], ready=True, stylesheets=styles)
        self._cards = {which: HeadCard(heads, which, open_text, refusal) for which in ("pinned", "chosen")}
        self._places = {
            which: pn.Column(card, styles={**CARD, "flex": "1 1 420px", "min-width": "0"}, margin=(0, 0, 12, 0))
            for which, card in self._cards.items()
        }
        heads.param.watch(self._offer, ["x", "y", "color", "of_layer"])
        heads.param.watch(self._list, ["x", "y", "color", "of_layer", "words", "sort", "descending", "open"])
        heads.param.watch(self._mark, ["chosen", "pinned"])
        heads.param.watch(self._tell, ["opening", "notices"])
        self._offer()
        self._list()
        self._mark()
        self._tell()

    def cleanup(self) -> None:
        """Clean up the figure."""
        self._scatter.cleanup()

    def _offer(self, *_events: object) -> None:
        self._choices.fields = [choice_field(self._heads, name, label) for name, label in _LABELS.items()]

    @param.depends("shown", watch=True)
    def _show(self) -> None:
        self._scatter.shown = self.shown

    @param.depends("dark", watch=True)
    def _recolor(self) -> None:
        self._scatter.dark = self.dark

    def _list(self, *_events: object) -> None:
        heads = self._heads
        if not heads.open:
            return
        rows = table_rows(heads)
        of = f"{heads.corpus.n:,} heads"
        self._table.param.update(
            sort=heads.sort,
            descending=heads.descending,
            searched=heads.words if heads.corpus.has_words else None,
            said=of if len(rows) == heads.corpus.n else f"{len(rows):,} of {of}",
            table={"columns": columns(heads), "rows": rows},
        )

    def _mark(self, *_events: object) -> None:
        heads = self._heads
        self._table.param.update(head=heads.chosen, pinned=heads.pinned)
        self._places["pinned"].visible = heads.pinned >= 0

    def _tell(self, *_events: object) -> None:
        heads = self._heads
        message = f"{heads.opening} …" if heads.opening else summary(heads.corpus)
        self._status.param.update(message=message, busy=bool(heads.opening), notices=heads.notices)

    def _choose(self, data: dict[str, Any]) -> None:
        if data["name"] in _LABELS:
            self._heads.param.update({data["name"]: data["value"]})

    def _do(self, data: dict[str, Any]) -> None:
        if data["do"] == "choose":
            self._heads.select(data["at"])
        elif data["do"] == "search":
            self._heads.search(data["words"])
        elif 0 <= data["at"] < len(shown := columns(self._heads)):
            self._heads.order(shown[data["at"]][0])

    def _save(self, data: dict[str, str]) -> None:
        heads = self._heads
        if data["name"] == _CSV["name"]:
            name = plain_name(heads.corpus.model, "heads", heads.words, suffix="csv")
            self._files.send({"file": name, "type": "text/csv", "data": heads_csv(heads), "left": 0})
            self._files.said = f"Sent: {name}"

    def __panel__(self) -> pn.Column:
        table = pn.Column(self._table, self._files, styles={"flex": "1 1 440px", "min-width": "0"})
        scatter = pn.Column(self._scatter, styles={"flex": "1 1 440px", "min-width": "0"})
        finder = pn.Column(
            self._choices,
            self._status,
            pn.Row(scatter, table, styles={**_ROW, "gap": "0 22px"}, sizing_mode="stretch_width"),
            styles={**CARD, "flex": "1 1 900px", "min-width": "0"},
            margin=(0, 0, 12, 0),
        )
        cards = pn.Row(*self._places.values(), styles={**_ROW, "flex": "1 1 760px", "min-width": "0"})
        return pn.Column(
            pn.Row(finder, cards, styles=_ROW, sizing_mode="stretch_width"),
            margin=(14, 20),
            sizing_mode="stretch_width",
            styles={"flex": "none", "max-height": "none"},
        )
