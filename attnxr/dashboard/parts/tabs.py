"""Views of which one is open."""

from __future__ import annotations

from pathlib import Path

import param
from panel.custom import Children

from attnxr.dashboard.parts.message import string
from attnxr.dashboard.parts.part import STYLE, Part


class Tabs(Part):
    """Views of which one is open; sends ``{"name": …}`` when another one is chosen.

    Where they are pages, of which each takes all room, another one is shown from its top. Told ``{"reveal": True}``, it
    comes into view, and the open tab has the focus.
    """

    names = param.List(item_type=str)
    views = Children()
    open = param.String()
    caption = param.String()
    pages = param.Boolean()

    _sends = {"name": string(100)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
