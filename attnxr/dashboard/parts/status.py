"""The line that says what is going on."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import one_of
from attnxr.dashboard.parts.part import Part


class Status(Part):
    """One line on what is going on or was found, in its corner how it was checked; then errors and notices.

    What is going on may have a button that calls it off, which sends ``{"cancel": True}``.

    Of a check there are ``passed``, ``lead`` (its outcome in words), ``figures`` (text and whether it is within what is
    allowed) and ``help``, a list of paragraphs. Without any the corner is empty.
    """

    message = param.String()
    busy = param.Boolean()
    cancellable = param.Boolean()
    fraction = param.Number(default=None, allow_None=True)
    error = param.String()
    notices = param.List(item_type=str)
    check = param.Dict(default={})

    _sends = {"cancel": one_of(True)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
