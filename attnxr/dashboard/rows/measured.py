"""The chosen measure, as every view that it colours needs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from attnxr.dashboard.session.answer import Answer, Aspect
from attnxr.dashboard.session.state import State
from attnxr.plots import MEASURES, Measure, measure_values
from attnxr.plots.colors import ink_on
from attnxr.plots.measures import Values

_KINDS = {"q_value": "significance", "recovered": "recovered"}  # of the aspects that measures are made of
FOLLOWED = ("measure", "arrived")
"""Parameters of the state that its values depend on, beside the answer and the selection."""


def chosen(state: State) -> Measure:
    """The measure that a state names."""
    return MEASURES[state.measure]


def landed(answer: Answer, name: str) -> list[xr.Dataset]:
    """What has come by now of what a measure needs of an answer beside its neighbours."""
    kind = _KINDS.get(name)
    return [found for aspect, found in answer.aspects.items() if aspect.kind == kind]


def known(answer: Answer, name: str) -> dict[str, Any]:
    """What is known of an answer beside its neighbours, as functions of `attnxr.plots` take it for a measure."""
    return {
        "significance": landed(answer, name) if name == "q_value" else (),
        "overlaps": answer.overlap if name == "overlap" else None,
        "effects": landed(answer, name) if name == "recovered" and answer.columns == "head" else (),
    }


def _needed(state: State) -> Aspect | None:
    """What the chosen measure needs at the selection, if it needs anything."""
    kind = _KINDS.get(state.measure)
    if kind is None or (kind == "recovered" and state.answer is not None and state.answer.columns != "head"):
        return None
    return Aspect(kind, layer=state.layer) if kind == "significance" else Aspect(kind, position=state.position)


def reading(state: State, value: float) -> str:
    """The value of the chosen measure at the selection, in words."""
    measure = chosen(state)
    needed = _needed(state)
    if needed is not None and value != value and state.aspect(needed) is None:
        return state.refusal(needed) or f"{measure.short} still to come"
    return f"{measure.short}: {measure.write(value)}"


def token_paint(state: State, dark: bool = False) -> tuple[dict[str, Any], list[list[str | None]]]:
    """How the chosen measure colours the tokens at the chosen layer and head.

    Parameters
    ----------
    state : State
    dark : bool
        Whether the tokens stand on a dark background.

    Returns
    -------
    tuple of dict and list
        What colours mean: ``label``, and ``steps`` of (colour, ink, value); and of each token its colour, the ink that
        can be read on it, and the value in words. Without neighbours both are empty.
    """
    answer = state.answer
    if answer is None or "own_rank" not in answer.neighbors:
        return {}, []
    measure, column = chosen(state), answer.column(state.head)
    limits = measure.limits(answer.near)
    values = measure_values(state.measure, answer.near, head=column, **known(answer, state.measure))
    key = {
        "label": f"In {answer.where(state.layer, state.head)}: {measure.title}",
        "steps": scale(measure, limits, dark),
    }
    colored = painted(measure, values[state.layer], limits, dark)
    return key, [[color, ink, f"{measure.short}: {written}"] for color, ink, written in colored]


def scale(measure: Measure, limits: tuple[float, float], dark: bool = False) -> list[list[str | None]]:
    """Steps of a measure's colours: of each the colour, the ink that can be read on it, and the value in words."""
    return painted(measure, _steps(measure, limits), limits, dark)


def painted(measure: Measure, values: Values, limits: tuple[float, float], dark: bool) -> list[list[str | None]]:
    """The colour of each value, the ink that can be read on it, and the value in words."""
    colors = measure.colors(values, limits, dark)
    return [[color, color and ink_on(color), measure.write(value)] for color, value in zip(colors, values, strict=True)]


def _steps(measure: Measure, limits: tuple[float, float]) -> Values:
    """Values that stand for the whole scale."""
    if measure.categories:
        return np.arange(len(measure.categories), dtype=float)
    if not measure.log:
        return np.linspace(*limits, 5)
    lower, upper = np.log10(limits)
    return 10.0 ** np.arange(np.ceil(lower), np.floor(upper) + 1)


class Demand:
    """Asks for what the chosen measure needs at the selection, as long as some view shows it.

    Parameters
    ----------
    state : State
        What to follow.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._shown = True
        state.param.watch(self._ask, ["answer", "layer", "position", "measure"])
        self._ask()

    def show(self, shown: bool) -> None:
        """Ask from now on, or no longer."""
        self._shown = shown
        self._ask()

    def _ask(self, *_events: object) -> None:
        state = self._state
        state.want(self, _needed(state) if self._shown and state.answer is not None else None)
