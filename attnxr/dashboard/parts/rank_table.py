"""A table of ranks by heads."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import index
from attnxr.dashboard.parts.part import Packed, Part


class RankTable(Part):
    """A table of ranks by heads; sends ``{"head": …}`` when a column is chosen. Without a table it waits."""

    table = Packed({})
    head = param.Integer(default=-1)
    caption = param.String()
    expected_rows = param.Integer(default=0)
    has_own = param.Boolean(default=False)
    legend = param.List(item_type=list)

    _sends = {"head": index()}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
