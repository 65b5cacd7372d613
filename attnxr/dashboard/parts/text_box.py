"""Where a text is typed."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import string
from attnxr.dashboard.parts.part import Part
from attnxr.dashboard.session.limits import LIMITS


class TextBox(Part):
    """Where a text is typed; sends ``{"text": …}`` when Enter or the button is pressed."""

    text = param.String()
    label = param.String("Text")
    caption = param.String(doc="What stands above it; nothing where it is the only one.")
    most = param.Integer(default=LIMITS.text_characters, doc="Characters that a text may have.")

    _sends = {"text": string(LIMITS.text_characters)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
