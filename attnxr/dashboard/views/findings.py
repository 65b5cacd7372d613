"""Whether the chosen head's nearest word is a signal, and whether it says what the head said: beside its table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import panel as pn
import param
import xarray as xr

from attnxr.asked import OF_WORDS
from attnxr.dashboard.parts import Findings
from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.rows.doing import effect_line
from attnxr.dashboard.rows.signal import COMPUTING, vector_line
from attnxr.dashboard.session.answer import Answer, Aspect
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views.view import View

REST = 1.2
"""Seconds that a choice must rest before its findings are computed: who looks through heads does without."""
AT_ONCE = 5e9
"""Multiplications of one pass of the text through the model, up to which an effect is computed without being asked."""
_SIGNAL, _EFFECT, _COMPUTE = "Signal or noise", "What it does", "compute"
_SIGNAL_HELP = (
    "There is always a nearest token, so its distance is held against those of vectors as far out that point in random "
    "directions. p is of this one head and token; Signal or noise corrects it for the many of the layer."
)
_EFFECT_HELP = (
    "The model's output is computed again with a word in the place of what the head wrote here: the nearest by centred "
    "cosine in the layer's own space, which may be another one than the table's. Recovered is 100% where the output "
    "stays as it was, 0% where it changes as much as with the head's mean over the text."
)
_LATER = "takes some time of this model and text"
_OF_HEADS = ("encoding", "contribution")


class SignalAndEffect(View):
    """Two short lines on the chosen head at the chosen token, computed when the choice rests, each with a way on.

    Parameters
    ----------
    state : State
        What to follow.
    open_tab : callable
        Opens a tab, by its name.
    **params
        Starting values of the parameters.
    """

    def __init__(self, state: State, open_tab: Callable[[str], None], **params: Any) -> None:
        super().__init__(**params)
        self.state = self._state = state
        self._open_tab = open_tab
        self._turn = 0  # goes up with each choice, so that only the last one's rest ends in a question
        self._asked: tuple[Answer, Aspect] | None = None  # the effect that the visitor asked for
        self._part = Findings(self._press, caption="Signal and effect of the chosen head")
        state.param.watch(self._follow, ["answer", "layer", "head", "position"])
        state.param.watch(self._draw, "arrived")
        self._follow()

    @param.depends("shown", watch=True)
    def _follow(self, *_events: object) -> None:
        self._turn += 1
        for kind in ("effect", "signal"):
            self._state.want((self, kind), None)
        self._draw()
        if self.shown and self._state.answer is not None and _is_served():
            pn.state.execute(partial(self._rest, self._turn))

    async def _rest(self, turn: int) -> None:
        await asyncio.sleep(REST)
        if turn == self._turn:
            in_one_patch(partial(self._ask, turn))

    def _ask(self, turn: int) -> None:
        """Want what is not there yet, unless another choice was made; what is wanted last is computed first."""
        answer = self._state.answer
        if turn != self._turn or answer is None:
            return
        if self._effect() is None and not self._no_effect(answer) and self._wants_effect(answer):
            self._state.want((self, "effect"), self._aspect("effect"))
        if self._signal() is None:
            self._state.want((self, "signal"), self._aspect("signal"))

    def _aspect(self, kind: str) -> Aspect:
        state = self._state
        return Aspect(kind, state.layer, state.head, state.position)

    def _signal(self) -> xr.Dataset | None:
        """What is known of the chosen vector, by itself or among those of its layer."""
        state, answer = self._state, self._state.answer
        assert answer is not None
        of_layer = state.aspect(Aspect("significance", state.layer))
        if of_layer is not None:
            return of_layer.isel(layer=0, head=answer.column(state.head), position=state.position)
        one = state.aspect(self._aspect("signal"))
        return None if one is None else one.isel(layer=0, head=0, position=0)

    def _effect(self) -> xr.Dataset | None:
        """What is known of the chosen head's nearest word in its place, by itself or beside others."""
        state = self._state
        every = state.aspect(Aspect("recovered", position=state.position))
        if every is not None:
            return every.isel(layer=state.layer, head=state.head, position=0).sel(replacement="neighbor 1")
        for kind in ("effect", "effects"):
            one = state.aspect(self._aspect(kind))
            if one is not None:
                return one.isel(layer=0, head=0, position=0).sel(replacement="neighbor 1")
        return None

    def _no_effect(self, answer: Answer) -> str:
        """Why there is none to be computed; empty where nothing is known against it."""
        of = answer.request.of
        if of not in _OF_HEADS:
            return f"only of what heads write; this question asks of “{OF_WORDS[of]}”"
        return self._state.refusal(self._aspect("effect"))

    def _wants_effect(self, answer: Answer) -> bool:
        return pass_cost(answer) <= AT_ONCE or self._asked == (answer, self._aspect("effect"))

    def _press(self, data: dict[str, str]) -> None:
        answer, name = self._state.answer, data["name"]
        if name in (_SIGNAL, _EFFECT):
            self._open_tab(name)
        elif name == _COMPUTE and answer is not None and not self._no_effect(answer):
            self._asked = answer, self._aspect("effect")
            self._ask(self._turn)
            self._draw()

    def _draw(self, *_events: object) -> None:
        answer = self._state.answer
        signal = effect = ""
        buttons = [(_EFFECT, f"{_EFFECT} ›")]
        if answer is not None:
            found, done = self._signal(), self._effect()
            refusal = self._state.refusal(self._aspect("signal"))
            where = (self._state.layer, answer.column(self._state.head), self._state.position)
            vector = f"{named}: " if (named := answer.named(self._state.head)) else ""
            signal = refusal or COMPUTING if found is None else vector + vector_line(answer.near, found, *where)
            effect = self._no_effect(answer)
            if done is not None:
                effect = f"head {self._state.head}: {effect_line(done)}"
            elif not effect and self._wants_effect(answer):
                effect = COMPUTING
            elif not effect:
                effect = _LATER
                buttons = [(_COMPUTE, "Compute"), *buttons]
        self._part.findings = [
            _finding("Signal", _SIGNAL_HELP, signal, [(_SIGNAL, f"{_SIGNAL} ›")]),
            _finding("Effect", _EFFECT_HELP, effect, buttons),
        ]

    def __panel__(self) -> Findings:
        return self._part


def pass_cost(answer: Answer) -> float:
    """About how many multiplications one pass of a text through its model takes, as it is in most models."""
    sizes = answer.encodings["head_encoding"].sizes
    return 12.0 * sizes["layer"] * (sizes["head"] * sizes["feature"]) ** 2 * answer.n_positions


def _finding(name: str, help_: str, text: str, buttons: list[tuple[str, str]]) -> dict[str, Any]:
    return {"name": name, "help": help_, "text": text, "busy": text == COMPUTING, "buttons": buttons}


def _is_served() -> bool:
    """Whether there is an event loop, on which one can wait: in a script nobody looks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
