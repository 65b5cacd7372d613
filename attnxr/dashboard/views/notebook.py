"""What a notebook must have loaded before it can show a view."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import holoviews as hv
import panel as pn

from attnxr.dashboard.parts.alone import LEGIBLE

_SCRIPT = LEGIBLE + Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_ran: tuple[str | None, str] | None = None  # the cell whose output holds the scripts, and which run of it


def load_scripts() -> None:
    """Put the scripts that draw the views into the output of the cell that is running, once, and from this machine.

    Does nothing outside a notebook. Those that the user has loaded by ``pn.extension`` or ``hv.extension`` are not
    loaded again. A cell that is run again gets them again, since its output is replaced.
    """
    global _ran
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    # What is captured reaches no page: they are loaded when the view is displayed.
    if not hasattr(shell, "kernel") or type(shell.display_pub).__name__ == "CapturingDisplayPublisher":
        return
    parent = shell.get_parent()
    cell, run = parent.get("metadata", {}).get("cellId"), parent["header"]["msg_id"]
    again = _ran is not None and cell is not None and cell == _ran[0] and run != _ran[1]
    if again or not (pn.extension._loaded or hv.extension._loaded):
        pn.extension(inline=True)
    if again or _ran is None:
        shell.display_pub.publish({"application/javascript": _SCRIPT})
        _ran = cell, run
