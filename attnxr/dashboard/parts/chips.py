"""A row of chips."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import index
from attnxr.dashboard.parts.part import STYLE, Packed, Part


class Chips(Part):
    """A row of chips that wraps; sends ``{"index": …}`` when one is pressed. Without items it waits.

    ``paint`` has colour, ink and a note for each chip, or is empty: then none is coloured. ``key`` says what the
    colours mean: ``label``, and ``steps`` of (colour, ink, what it stands for).
    """

    items = Packed([])
    paint = Packed([])
    key = Packed({})
    chosen = param.Integer(default=-1)
    caption = param.String()

    _sends = {"index": index()}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
