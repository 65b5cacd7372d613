"""What stands on the page before its scripts have come: the same parts, drawn by their own scripts alone.

A page of Panel is blank until megabytes of scripts have run and a connection stands. But the server knows the answer,
the parts are plain scripts of some lines, and so both go with the first bytes. When the page proper has drawn what
these show, it takes their place, which is the same place.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import panel as pn
from jinja2 import Template
from panel.layout import Row
from panel.layout.base import ListPanel
from panel_material_ui.base import BASE_TEMPLATE

from attnxr.dashboard.parts import Part, Tabs
from attnxr.dashboard.parts.alone import LEGIBLE, body, kind, own_properties
from attnxr.dashboard.parts.part import STYLE

_HERE = Path(__file__).parent


def first(title: str, tagline: str, views: Iterable[Any], *, bar: bool, dark: bool) -> dict[str, Any]:
    """Give what the template draws before there are scripts: variables of it.

    Parameters
    ----------
    title, tagline : str
        What stands in the bar.
    views : iterable
        What the page has below it.
    bar : bool
        Whether there is a bar.
    dark : bool
        Whether the page is dark.

    Returns
    -------
    dict
        ``base_page``, the template that is extended, and ``first``, what there is to draw.
    """
    kinds: dict[str, Any] = {}
    tree = [drawn for each in views if (drawn := _drawn(pn.panel(each), kinds))]
    return {
        "base_page": BASE_TEMPLATE,
        "first": {
            "title": title,
            "tagline": tagline,
            "bar": bar,
            "dark": dark,
            "tree": tree,
            "kinds": {each.__name__: _kind(each) for each in kinds.values()},
            "shared": STYLE,
            "scripts": {each.__name__: body(each) for each in kinds.values()},
        },
        "first_style": _read("first.css"),
        "first_script": _read("first.js"),
        "legible": LEGIBLE,
    }


@cache
def template() -> Template:
    """The page's template, around the one of Panel Material UI."""
    return BASE_TEMPLATE.environment.from_string(_read("first.html"))


def _drawn(view: Any, kinds: dict[str, Any]) -> dict[str, Any] | None:
    """What is shown of a view and all in it; nothing where nothing is."""
    if not view.visible or (isinstance(view, Part) and view.reaches_out):
        return None
    place: dict[str, Any] = {"margin": _pixels(view.margin), "styles": dict(view.styles), "height": view.height}
    if isinstance(view, Part):
        kinds[type(view).__name__] = type(view)
        names = [name for name in own_properties(type(view)) if name != "views"]
        properties = view._process_param_change({name: getattr(view, name) for name in names})
        properties = {name: properties[name] for name in names if name in properties}
        place |= {"part": type(view).__name__, "properties": properties}
        # What a part wears beside what its kind does.
        place["sheets"] = [sheet for sheet in view.stylesheets if sheet not in type(view)._stylesheets]
        children = view.views if isinstance(view, Tabs) else []
    elif isinstance(view, ListPanel):
        place |= {"row": isinstance(view, Row), "classes": list(view.css_classes), "sheets": list(view.stylesheets)}
        children = list(view)
    else:
        children = []  # a figure, whose place is kept
    return {**place, "children": [_drawn(pn.panel(each), kinds) for each in children]}


def _pixels(margin: int | tuple[int, ...] | None) -> str:
    each = margin if isinstance(margin, tuple) else (margin or 0,)
    return " ".join(f"{number}px" for number in each)


@cache
def _kind(part: type[Part]) -> dict[str, Any]:
    # What all wear goes once.
    own = "\n".join(sheet for sheet in part._stylesheets if sheet != STYLE)
    return {**kind(part), "style": own}


@cache
def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
