"""What a card is of, with buttons beside it."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import string
from attnxr.dashboard.parts.part import STYLE, Part


class CardHeading(Part):
    """A heading, a line and buttons; sends ``{"name": …}`` when one is pressed.

    A button is (name, what stands on it). `mark` is "chosen" or "pinned", as the card's head is marked elsewhere.
    (Material UI takes what is called "…Title" for a title of Bokeh's.)
    """

    title = param.String()
    detail = param.String()
    mark = param.String()
    buttons = param.List(item_type=tuple)

    _sends = {"name": string(100)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
