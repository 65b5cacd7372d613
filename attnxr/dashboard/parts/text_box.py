"""Where a text is typed."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import string
from attnxr.dashboard.parts.part import Part
from attnxr.dashboard.session.opened import MOST_TEXT


class TextBox(Part):
    """Where a text is typed; sends ``{"text": …}`` when Enter or the button is pressed."""

    text = param.String()
    label = param.String("Text")
    most = param.Integer(default=MOST_TEXT, doc="Characters that a text may have.")

    _sends = {"text": string(MOST_TEXT)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
