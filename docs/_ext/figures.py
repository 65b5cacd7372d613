"""HoloViews elements as HTML that draws itself with no network, for the pages that are run when the site is built."""

from typing import Any

import holoviews as hv
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import FIXED_SIZING_MODE
from bokeh.embed import components
from bokeh.resources import INLINE
from IPython import get_ipython
from IPython.display import HTML, display


def _as_html(element: Any, include: Any = None, exclude: Any = None) -> dict[str, str]:
    root = hv.render(element, backend="bokeh")
    if root.sizing_mode == "stretch_both":  # as on the page of the app, where the room is known
        root.sizing_mode, root.height = "stretch_width", 300
    script, figure = components(root)
    return {"text/html": figure + script, "text/plain": repr(element)}


def live() -> None:
    """Put Bokeh's script into the page, once, and have the elements that cells end with drawn by it."""
    silence(FIXED_SIZING_MODE)
    get_ipython().display_formatter.mimebundle_formatter.for_type(hv.core.Dimensioned, _as_html)
    display(HTML(INLINE.render_js()))
