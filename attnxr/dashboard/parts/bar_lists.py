"""Lists of numbers by name, each with a bar."""

from __future__ import annotations

from pathlib import Path

from attnxr.dashboard.parts.part import STYLE, Packed, Part


class BarLists(Part):
    """Lists, each a table with a bar a row: see `attnxr.dashboard.rows.doing`.

    A list has ``title``, ``columns`` (of the names, the numbers and the notes), ``rows`` of (name, length of the bar,
    number, note), and ``wait``, what is said in place of the rows where there are none. A bar is as long as the share
    of the list's width, −1 … 1, and to the left of the middle where some are negative.
    """

    lists = Packed([])

    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
