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

from attnxr.dashboard.session.asking import CONTINUED, K, no_meaning
from attnxr.dashboard.session.state import MASKS, QUESTION, READING, VERSUS, State, first_word
from attnxr.options import MOST_SEED, NAMED_LAYERS, VocabLayer

MOST_CHARACTERS = 2_000
"""The longest text that an address holds."""

_MASKS = {name: value for name, value in MASKS.items() if value is not None}
_SWITCH = {"on": True, "off": False}
CHOICES = ("measure", "quantity", "map_over", "map_method", "versus", "difference")
"""Parameters that say how the answer is shown, each one of a few values; their names are the address's."""
_VECTORS = ("of", "space", "versus_of", "versus_space", "versus_metric")
_CHOICES = ("model", "metric", "read_as", *_VECTORS, *CHOICES)
_LAYERS = ("vocab_layer", "versus_vocab_layer")
_INDICES = {"layer": "layer", "head": "head", "position": "at"}
# A text too long for an address has a digest in it: known again where the text was seen, and nowhere else.
TEXTS = {"text": "long", "target": "target_long", "versus_text": "versus_long"}
"""Parameters that are texts, and the names of what stands for those too long for an address."""
_NAMES = {"text": "text", "target": "target", "versus_text": "text"}

NAMES = (
    *("text", "long", "target", "target_long", *READING, "model", *QUESTION, "metric", "positional", "k", "mask"),
    *("layer", "head", "at", "controls", "panel", *CHOICES),
    *("versus_text", "versus_long", "versus_model", *VERSUS),
)
"""Names in the query that are the dashboard's; others are left as they are."""


@dataclass(frozen=True)
class Target:
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
    for name, long in TEXTS.items():
        text = getattr(state, name)
        if name == "target" and state.stack is None:
            continue  # nothing reads it
        if len(text) > MOST_CHARACTERS:
            said[long] = digest(text)
            notices.append(
                f"The {name.replace('versus_', 'other ')} has {len(text):,} characters, and an address holds at most "
                f"{MOST_CHARACTERS:,}: a copied link would not show it."
                + " It can be saved as a file instead (Take away)."
                * (name != "versus_text")
            )
        elif text != state.param[name].default:
            said[name] = text
    if state.opened is not None:
        notices.append("A copied link does not hold the file: it runs the text again, on this server's model.")
    for name in ("metric", "panel", "read_as", "stack", *CHOICES, "versus_model", *_VECTORS, *_LAYERS):
        if getattr(state, name) != state.param[name].default:
            said[name] = str(getattr(state, name))
    if state.k != state.param["k"].default and state.k in K:
        said["k"] = str(state.k)
    if state.continued and state.continued in CONTINUED:
        said["continued"] = str(state.continued)
        if state.seed is not None:
            said["seed"] = str(state.seed)
    if not state.positional:
        said["positional"] = "off"
    if not state.controls:
        said["controls"] = "off"
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


def read(query: str, state: State, texts: Mapping[str, str]) -> Target:
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
    Target
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
    names = (*TEXTS, *READING, "positional", "causal", "controls", "panel", "versus_model", "k", *_LAYERS, *_CHOICES)
    inputs: dict[str, Any] = {name: state.param[name].default for name in names}
    inputs["model"] = state.param["model"].objects[0]
    for name, long in TEXTS.items():
        if long in said:
            if said[long] in texts:
                inputs[name] = texts[said[long]]
            else:
                notices.append(
                    f"The address is of a {_NAMES[name]} too long for it, which it does not hold. Paste it again."
                )
        elif len(said.get(name, "")) > MOST_CHARACTERS:
            notices.append(
                f"The {_NAMES[name]} in the address has {len(said[name]):,} characters; at most {MOST_CHARACTERS:,} "
                f"are read from it. Paste the {_NAMES[name]} into the box."
            )
        elif name in said:
            inputs[name] = said[name]
    if "panel" in said:
        inputs["panel"] = said["panel"]
    choices: dict[str, Mapping[str, Any]] = {
        name: {each: each for each in list(state.param[name].objects)} for name in _CHOICES
    }
    choices |= {"mask": _MASKS, "positional": _SWITCH, "controls": _SWITCH, "versus_model": choices["model"]}
    choices["stack"] = {"encoder": None, "decoder": "decoder"}
    choices["k"] = {str(k): k for k in K}
    choices["continued"] = {str(n): n for n in CONTINUED}
    for name, options in choices.items():
        if name in said and said[name] in options:
            inputs["causal" if name == "mask" else name] = options[said[name]]
        elif name in said:
            notices.append(f"The address asks for {name} “{_short(said[name])}”; there is {', '.join(options)}.")
    for name in _LAYERS:
        if name in said and (layer := _layer(said[name])) is not None:
            inputs[name] = layer
        elif name in said:
            notices.append(f"The address asks for {name} “{_short(said[name])}”; there is input, same, or a number.")
    if inputs["stack"] is None and {"target", "target_long"} & said.keys():
        inputs["target"] = state.param["target"].default
        notices.append("The address has a target, and asks for no stack that reads one: stack=decoder.")
    seed = said.get("seed", "")
    if inputs["continued"] and re.fullmatch("[0-9]{1,10}", seed, re.ASCII) and int(seed) <= MOST_SEED:
        inputs["seed"] = int(seed)
    elif "seed" in said:
        notices.append(
            f"The address asks for seed “{_short(seed)}”; expected a whole number, 0 to {MOST_SEED:,}, with continued."
        )
    for other in ("", "versus_"):
        question = [other + name for name in QUESTION]
        refusal = no_meaning(*(inputs[name] for name in question))
        if refusal:
            notices.append(f"The address asks a question that has no meaning. {refusal}")
            inputs |= {name: state.param[name].default for name in question}
    selection = {}
    for name, short in _INDICES.items():
        value = said.get(short, "")
        if re.fullmatch("[0-9]{1,9}", value, re.ASCII):
            selection[name] = int(value)
        elif short in said:
            notices.append(f"The address asks for {name} “{_short(value)}”, which is no whole number.")
    return Target(inputs, selection, notices)


def kept(query: str) -> str:
    """What of a query is about the text and how it is shown, as it stands there."""
    said = query.removeprefix("?").split("&")
    return "&".join(each for each in said if each.partition("=")[0] in NAMES)


def digest(text: str) -> str:
    """What stands for a text that is too long for an address."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _layer(value: str) -> VocabLayer | None:
    """Which layer an address says; None where it says none."""
    if re.fullmatch("[0-9]{1,4}", value, re.ASCII):
        return int(value)
    return next((name for name in NAMED_LAYERS if name == value), None)


def _short(value: str) -> str:
    return value if len(value) <= 40 else value[:40] + "…"
