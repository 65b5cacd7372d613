"""Addresses to be copied."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.part import STYLE, Part


class Links(Part):
    """Lines of text with an address in them, to be copied.

    A link has ``label``, ``note``, ``words``, in which ``{address}`` stands for the address, and the ``query`` of it.
    """

    links = param.List(item_type=dict)

    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
