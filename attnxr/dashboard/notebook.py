"""What a notebook must have loaded before it can show a view."""

from __future__ import annotations

import sys
from typing import Any

import holoviews as hv
import panel as pn

_cell: str | None = None  # the cell whose output holds the scripts


def load_scripts() -> None:
    """Put the scripts that draw the views into the output of the cell that is running, once, and from this machine.

    Does nothing outside a notebook, or where the user has loaded them by ``pn.extension`` or ``hv.extension``. A cell
    that is run again gets them again, since its output is replaced.
    """
    global _cell
    shell: Any = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if not hasattr(shell, "kernel"):
        return
    cell = shell.get_parent().get("metadata", {}).get("cellId")
    loaded = pn.extension._loaded or hv.extension._loaded
    if not loaded or (cell is not None and cell == _cell):
        pn.extension(inline=True)
        _cell = cell
