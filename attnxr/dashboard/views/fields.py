"""The lists and switches by which a state's parameters are chosen."""

from __future__ import annotations

from typing import Any

import param


def choice_field(state: param.Parameterized, name: str, label: str) -> dict[str, Any]:
    """What a row of choices shows of a parameter with a list of values.

    Parameters
    ----------
    state : param.Parameterized
        Whose parameter it is: a State, or what else holds what a visitor has chosen.
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
