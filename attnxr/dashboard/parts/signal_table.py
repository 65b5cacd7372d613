"""A table of heads, a row each."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import index
from attnxr.dashboard.parts.part import STYLE, Packed, Part


class SignalTable(Part):
    """A row of cells for each head, under named lines of text; sends ``{"head": …}`` when a row is chosen.

    Without rows it waits.
    """

    rows = Packed([])
    lines = param.List(item_type=list)
    head = param.Integer(default=-1)
    caption = param.String()
    column = param.String(default="head", doc="What a row is of; empty where there is one row, of no head.")

    _sends = {"head": index()}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
