"""The arrow keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import param

from attnxr.dashboard.parts.message import index
from attnxr.dashboard.parts.part import Part


class Keys(Part):
    """Listens to the arrow keys; sends ``{"position": …, "layer": …, "head": …}``, each a number of steps.

    One line, `hint`, says so. Where arrows mean something already, in a text box, a list or a tab, they keep their
    meaning.
    """

    hint = param.String(default="Arrow keys move through tokens (← →) and layers (↑ ↓), with Shift through heads.")

    reaches_out = True

    _sends = dict.fromkeys(("position", "layer", "head"), index())
    _esm = Path(__file__).with_suffix(".js")

    def _takes(self, message: dict[Any, Any]) -> bool:
        # Only the arrows that were pressed are named.
        return bool(message) and super()._takes(dict.fromkeys(self._sends, 0) | message)
