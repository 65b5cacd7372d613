"""What was found of the chosen head, in a line each."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import string
from attnxr.dashboard.parts.part import STYLE, Packed, Part


class Findings(Part):
    """Short findings, one a line or side by side where there is room; sends ``{"name": …}`` when a button is pressed.

    A finding has ``name``, ``help`` (what the name means), ``text``, ``busy`` (whether the text is still to come) and
    ``buttons``, a list of (name, what stands on it).
    """

    findings = Packed([])
    caption = param.String()

    _sends = {"name": string(100)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
