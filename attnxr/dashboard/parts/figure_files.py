"""Buttons for the pictures of a figure."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import one_of
from attnxr.dashboard.parts.part import STYLE, Part
from attnxr.dashboard.parts.take_away import FILES_STYLE


class FigureFiles(Part):
    """Buttons for the pictures of the figure beside it; sends ``{"format": …}`` when one is pressed.

    It saves the picture when `send` says ``{"format": …, "file": …, "caption": […]}``. An SVG has the caption below the
    figure, a paragraph each.
    """

    title = param.String()

    _sends = {"format": one_of("png", "svg")}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, FILES_STYLE]  # noqa: RUF012
