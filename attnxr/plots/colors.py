"""Colours that all plots share, and that can be told apart without colour vision."""

from __future__ import annotations

from bokeh.palettes import YlGnBu9, interp_palette

RAMP = interp_palette(YlGnBu9, 256)
"""From dark blue to pale yellow, lightness rising evenly all the way."""
CHOSEN = "#e8710a"
MISSING = "#8080801f"
OWN = "#0f9d6e"
QUIET = "#7a8fa8"
