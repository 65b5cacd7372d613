"""What a page shows, as the query of its address, and back: pure functions.

An address is a visitor's input. What is in it and cannot be shown is told, and the rest is shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from attnxr.dashboard.state import MASKS, State, first_word

MOST_CHARACTERS = 2_000
"""The longest text that an address holds."""

_MASKS = {name: value for name, value in MASKS.items() if value is not None}
_SWITCH = {"on": True, "off": False}
_CHOICES = ("model", "metric", "measure")
_INDICES = {"layer": "layer", "head": "head", "position": "at"}
_LONG = "long"  # stands for a text that an address does not hold: known again where it was seen, and nowhere else

NAMES = ("text", _LONG, "model", "metric", "positional", "mask", "layer", "head", "at", "measure", "panel")
"""Names in the query that are the dashboard's; others are left as they are."""


@dataclass(frozen=True)
class Place:
    """What an address asks for.

    Parameters
    ----------
    inputs : dict
        Values of the state's parameters.
    selection : dict
        ``layer`` (its number in the model), ``head`` and ``position`` to choose, where the address says them.
    notices : list of str
        What to tell the visitor of what cannot be shown.
    """

    inputs: dict[str, Any]
    selection: dict[str, int]
    notices: list[str] = field(default_factory=list)


def write(state: State) -> tuple[str, list[str]]:
    """Query of the address that shows what a state shows; what is as on a new page is left out.

    Parameters
    ----------
    state : State
        What is shown.

    Returns
    -------
    query : str
        Without the question mark.
    notices : list of str
        What to tell the visitor of what the address does not hold.
    """
    said: dict[str, str] = {}
    notices = []
    if len(state.text) > MOST_CHARACTERS:
        said[_LONG] = digest(state.text)
        notices.append(
            f"The text has {len(state.text):,} characters, and an address holds at most {MOST_CHARACTERS:,}: a copied "
            "link would not show it. It can be saved as a file instead (Take away)."
        )
    if state.opened is not None:
        notices.append("A copied link does not hold the file: it runs the text again, on this server's model.")
    if len(state.text) <= MOST_CHARACTERS and state.text != state.param["text"].default:
        said["text"] = state.text
    for name in ("metric", "measure", "panel"):
        if getattr(state, name) != state.param[name].default:
            said[name] = getattr(state, name)
    if not state.positional:
        said["positional"] = "off"
    if state.causal is not None:
        said["mask"] = "on" if state.causal else "off"
    if state.answer is not None:
        if state.layer:
            said["layer"] = str(state.answer.layers[state.layer])
        if state.head:
            said["head"] = str(state.head)
        if state.position != first_word(state.answer.encodings):
            said["at"] = str(state.position)
    # Which model a server starts with may change: a link that says anything says the model too.
    offered = state.param["model"].objects
    if state.model != offered[0] or (said and len(offered) > 1):
        said["model"] = state.model
    ordered = {name: said[name] for name in NAMES if name in said}
    return urlencode(ordered, errors="replace"), notices


def read(query: str, state: State, texts: Mapping[str, str]) -> Place:
    """What the query of an address asks a page for; what it does not say is as on a new page.

    Parameters
    ----------
    query : str
        The query, with or without the question mark.
    state : State
        Whose parameters say what there is to choose from.
    texts : mapping
        Long texts that are known, by their `digest`.

    Returns
    -------
    Place
        What to show.
    """
    try:
        pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        pairs = []
        notices = ["The address has too many parts, so none of it is shown."]
    else:
        notices = []
    said = {name: value for name, value in reversed(pairs) if name in NAMES}  # of several the first
    names = ("text", "positional", "causal", "panel", *_CHOICES)
    inputs: dict[str, Any] = {name: state.param[name].default for name in names}
    inputs["model"] = state.param["model"].objects[0]
    if _LONG in said:
        if said[_LONG] in texts:
            inputs["text"] = texts[said[_LONG]]
        else:
            notices.append("The address is of a text too long for it, which it does not hold. Paste the text again.")
    elif len(said.get("text", "")) > MOST_CHARACTERS:
        notices.append(
            f"The text in the address has {len(said['text']):,} characters; at most {MOST_CHARACTERS:,} are read from "
            "it. Paste the text into the box."
        )
    elif "text" in said:
        inputs["text"] = said["text"]
    if "panel" in said:
        inputs["panel"] = said["panel"]
    choices: dict[str, Mapping[str, Any]] = {
        name: {each: each for each in list(state.param[name].objects)} for name in _CHOICES
    }
    choices |= {"mask": _MASKS, "positional": _SWITCH}
    for name, options in choices.items():
        if name in said and said[name] in options:
            inputs["causal" if name == "mask" else name] = options[said[name]]
        elif name in said:
            notices.append(f"The address asks for {name} “{_short(said[name])}”; there is {', '.join(options)}.")
    selection = {}
    for name, short in _INDICES.items():
        value = said.get(short, "")
        if re.fullmatch("[0-9]{1,9}", value, re.ASCII):
            selection[name] = int(value)
        elif short in said:
            notices.append(f"The address asks for {name} “{_short(value)}”, which is no whole number.")
    return Place(inputs, selection, notices)


def digest(text: str) -> str:
    """What stands for a text that is too long for an address."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _short(value: str) -> str:
    return value if len(value) <= 40 else value[:40] + "…"
