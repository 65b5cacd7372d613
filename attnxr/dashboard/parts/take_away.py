"""Buttons for files."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import string
from attnxr.dashboard.parts.part import STYLE, Part

FILES_STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


class TakeAwayFiles(Part):
    """Buttons for files; sends ``{"name": …}`` when one is pressed, and saves what `send` gives it.

    A file has ``name``, ``label``, ``format`` and ``note``. `send` takes ``file`` (its name), ``type``, ``data`` (a
    piece of it) and ``left`` (how many pieces are still to come).
    """

    files = param.List(item_type=dict)
    ready = param.Boolean()
    making = param.String()
    said = param.String()

    _sends = {"name": string(100)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, FILES_STYLE]  # noqa: RUF012
