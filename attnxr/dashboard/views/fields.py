"""The lists and switches by which a state's parameters are chosen."""

from __future__ import annotations

from typing import Any

from attnxr.dashboard.session.state import State


def choice_field(state: State, name: str, label: str) -> dict[str, Any]:
    """What a row of choices shows of a parameter with a list of values.

    Parameters
    ----------
    state : State
        Whose parameter it is.
    name : str
        Name of the parameter.
    label : str
        What stands beside the list.

    Returns
    -------
    dict
        A field of `attnxr.dashboard.parts.Choices`.
    """
    known = state.param[name]
    return {
        "name": name,
        "label": label,
        "help": known.doc,
        "value": getattr(state, name),
        "options": [[value, words] for words, value in known.names.items()],
        "disabled": False,
    }
