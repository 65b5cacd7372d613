"""Two lists of neighbours side by side."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.part import STYLE, Part


class TwoLists(Part):
    """Two lists of neighbours side by side, under a note: see `attnxr.dashboard.rows.compare.neighbor_lists`."""

    lists = param.List(item_type=dict)
    note = param.String()

    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
