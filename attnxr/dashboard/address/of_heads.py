"""What a page shows of a corpus' heads, as part of the query of its address, and back.

As of `attnxr.dashboard.address.codec`: what cannot be shown is told, and the rest is shown.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from attnxr.dashboard.session.heads import MOST_SEARCHED, Heads

_CHOICES = {"x": "x", "y": "y", "color": "color", "sort": "sort"}
_PLACES = {"card": "chosen", "pin": "pinned"}
SHOWN = ("open", *_CHOICES.values(), "descending", "words", "of_layer", *_PLACES.values())
"""Parameters that the address holds."""
NAMES = ("page", *_CHOICES, "order", "words", "of_layer", *_PLACES)
"""Names in the query."""


def write(heads: Heads) -> str:
    """Query of what is shown; what is as on a new page is left out."""
    said: dict[str, str] = {}
    if heads.open:
        said["page"] = "heads"
    for name, parameter in _CHOICES.items():
        if getattr(heads, parameter) != heads.param[parameter].default:
            said[name] = getattr(heads, parameter)
    if heads.descending:
        said["order"] = "down"
    if heads.words:
        said["words"] = heads.words
    if heads.of_layer is not None:
        said["of_layer"] = str(heads.of_layer)
    for name, parameter in _PLACES.items():
        index = getattr(heads, parameter)
        if index != heads.param[parameter].default:
            said[name] = ".".join(map(str, heads.corpus.place(index)))
    return urlencode({name: said[name] for name in NAMES if name in said})


def read(query: str, heads: Heads) -> None:
    """Show what a query asks for; what it does not say is as on a new page.

    Parameters
    ----------
    query : str
        The query, with or without the question mark.
    heads : Heads
        What is shown, and what there is to choose from.
    """
    try:
        pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        pairs = []  # the page of one text says so
    said = {name: value for name, value in reversed(pairs) if name in NAMES}  # of several the first
    found: dict[str, Any] = {name: heads.param[name].default for name in SHOWN}
    notices = []
    found["open"] = said.get("page") == "heads"
    for name, parameter in _CHOICES.items():
        if said.get(name) in heads.corpus.figures:
            found[parameter] = said[name]
        elif name in said:
            notices.append(f"The address asks for {name} “{said[name]:.40}”, which was not measured of these heads.")
    found["descending"] = said.get("order") == "down"
    found["words"] = " ".join(said.get("words", "")[:MOST_SEARCHED].split())
    layers = {str(layer): layer for layer in heads.corpus.layers}
    if said.get("of_layer") in layers:
        found["of_layer"] = layers[said["of_layer"]]
    elif "of_layer" in said:
        notices.append(f"The address asks for heads of layer “{said['of_layer']:.40}”, which the corpus does not have.")
    for name, parameter in _PLACES.items():
        numbers = re.fullmatch(r"([0-9]{1,7})\.([0-9]{1,7})", said.get(name, ""), re.ASCII)
        index = heads.corpus.index(*map(int, numbers.groups())) if numbers else None
        if index is not None:
            found[parameter] = index
        elif name in said:
            notices.append(f"The address asks for head “{said[name]:.40}”, which the corpus does not have.")
    heads.param.update(**found, notices=notices)
