"""What stands above a view."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.part import Part


class Heading(Part):
    """A view's title, what it shows at this moment, and what its numbers mean."""

    title = param.String()
    detail = param.String()
    help = param.String()
    live = param.Boolean(default=False, doc="Whether screen readers say what is shown whenever it changes.")

    _esm = Path(__file__).with_suffix(".js")
