"""The page's address."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import string
from attnxr.dashboard.parts.part import Part


class AddressBar(Part):
    """Keeps the page's address; sends ``{"query": …}`` when the visitor goes back or forward.

    Nothing to see. Each new query makes an entry in the browser's history, except the first one. Of the address only
    the parts called `names` change.
    """

    query = param.String(default=None, allow_None=True)
    names = param.List(item_type=str)

    reaches_out = True

    _sends = {"query": string(100_000)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
