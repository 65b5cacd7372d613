"""Parts where there is no Panel in the browser: what their scripts must be given there."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from panel.custom import JSComponent

from attnxr.dashboard.parts.part import Packed, Part

LEGIBLE = Path(__file__).parents[1].joinpath("legible.js").read_text(encoding="utf-8")
"""A script that parts use where it is on their page: it gives them the code points of what no font has."""


def kind(part: type[Part]) -> dict[str, Any]:
    """Give what a kind of part has when it is made, which of that travels as JSON text, and its style.

    Parameters
    ----------
    part : type of Part
        The kind.

    Returns
    -------
    dict
        ``properties``, ``packed`` and ``style``, for JSON.
    """
    own = own_properties(part)
    return {
        "properties": {name: part.param[name].default for name in own},
        "packed": [name for name in own if isinstance(part.param[name], Packed)],
        "style": "\n".join(part._stylesheets),
    }


def own_properties(part: type[Part]) -> list[str]:
    """Names of the properties that a kind of part has beside what Panel gives to all."""
    return [name for name in part.param if name not in JSComponent.param]


@cache
def body(part: type[Part]) -> str:
    """The script of a kind of part as it is on the server's page, without being a module: it defines ``render``."""
    script = Path(part._esm).read_text(encoding="utf-8")
    return script.replace("export function render", "function render")
