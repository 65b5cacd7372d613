"""Examples of a head: texts whose tokens are shaded by attention."""

from __future__ import annotations

from pathlib import Path

import param

from attnxr.dashboard.parts.message import index
from attnxr.dashboard.parts.part import STYLE, Packed, Part


class HeadExamples(Part):
    """Texts of `attnxr.dashboard.rows.heads.examples`; sends ``{"example": …, "position": …}``, a token to be opened.

    Where `refusal` says why none can be opened, that is said, and nothing is sent.
    """

    examples = Packed([])
    refusal = param.String()
    said = param.String()

    _sends = {"example": index(), "position": index()}  # noqa: RUF012
    _esm = Path(__file__).with_suffix(".js")
    _stylesheets = [STYLE, Path(__file__).with_suffix(".css").read_text(encoding="utf-8")]  # noqa: RUF012
