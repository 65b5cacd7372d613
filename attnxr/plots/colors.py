"""Colours that all plots share, and that can be told apart without colour vision."""

from __future__ import annotations

from bokeh.palettes import YlGnBu9, interp_palette

RAMP = interp_palette(YlGnBu9, 256)
"""From dark blue to pale yellow, lightness rising evenly all the way."""
CHOSEN = "#e8710a"
MISSING = "#8080801f"
MISSING_BETWEEN = "#808080a0"
"""Where the middle of the colours is the background's, which `MISSING` is too much like."""
OWN = "#0f9d6e"
QUIET = "#7a8fa8"
FOR, AGAINST = "#4393c3", "#d6604d"
_DIVERGING = {
    False: interp_palette(("#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"), 255),
    True: interp_palette(("#92c5ff", "#2f6ea8", "#2a2e35", "#a8512f", "#ffb28a"), 255),
}


def ramp(dark: bool = False) -> list[str]:
    """256 colours whose first stands out most from the background.

    Parameters
    ----------
    dark : bool
        Whether the background is dark.

    Returns
    -------
    list of str
        Colours in hex notation.
    """
    return list(reversed(RAMP)) if dark else list(RAMP)


def diverging(dark: bool = False) -> list[str]:
    """255 colours from blue over the background's to red, which can be told apart without colour vision.

    Parameters
    ----------
    dark : bool
        Whether the background is dark.

    Returns
    -------
    list of str
        Colours in hex notation.
    """
    return list(_DIVERGING[dark])


def ink_on(color: str) -> str:
    """Black or white, whichever can be read better on a colour: its contrast is 4.5 or more on any.

    Parameters
    ----------
    color : str
        In hex notation.

    Returns
    -------
    str
        In hex notation.
    """
    return "#000000" if luminance(color) > 0.1791 else "#ffffff"


def luminance(color: str) -> float:
    """Relative luminance of a colour, from 0 to 1, as WCAG 2 defines it.

    Parameters
    ----------
    color : str
        In hex notation.

    Returns
    -------
    float
    """
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
