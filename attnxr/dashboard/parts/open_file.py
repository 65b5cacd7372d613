"""A button that opens a file of the visitor's."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import index, string
from attnxr.dashboard.parts.part import STYLE, Part
from attnxr.dashboard.parts.take_away import FILES_STYLE


class OpenFileButton(Part):
    """A button for a file of the visitor's; sends ``{"name": …, "size": …, "start": …, "data": …}``, a piece of it.

    Data is base64. It sends the piece that begins at ``next`` when `send` says ``{"next": …}``.
    """

    help = param.String()
    said = param.String()
    refused = param.Boolean()
    busy = param.Boolean()

    _sends = {"name": string(1000), "size": index(), "start": index(), "data": string(3 << 20)}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, FILES_STYLE]  # noqa: RUF012
