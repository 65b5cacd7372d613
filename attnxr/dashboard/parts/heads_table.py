"""A table of many heads, with a box that filters them."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import index, one_of, string
from attnxr.dashboard.parts.part import STYLE, Packed, Part


class HeadsTable(Part):
    """Rows of heads, to be ordered by any column and searched for words.

    Of a table there are ``rows`` of (index of the head, its cells, its words) and ``columns`` of (name, how it is
    called), without that of the words, which is there if `searched` is not None.

    Sends ``{"do": "choose", "at": …, "words": ""}`` with the index of a head, ``"order"`` with that of a column, and
    ``"search"`` with what was typed.
    """

    table = Packed({"columns": [], "rows": []})
    sort = param.String()
    descending = param.Boolean()
    head = param.Integer(default=-1)
    pinned = param.Integer(default=-1)
    searched = param.String(default=None, allow_None=True)
    said = param.String()
    caption = param.String()

    _sends = {"do": one_of("choose", "order", "search"), "at": index(), "words": string(1000)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
