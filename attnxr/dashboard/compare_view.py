"""The comparison of the answer with another one: what is compared, what changed where, and the two lists."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import param

from attnxr.dashboard.answer import Answer, Request
from attnxr.dashboard.compare_rows import difference_note, neighbor_lists
from attnxr.dashboard.comparing import Comparison, changed, held_against
from attnxr.dashboard.components import Choices, Heading, Status, TextBox, TwoLists
from attnxr.dashboard.fields import choice_field
from attnxr.dashboard.figure import Columns, Figure
from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.rows import token_label
from attnxr.dashboard.state import State
from attnxr.dashboard.view import View
from attnxr.errors import InputError
from attnxr.plots import cell_outline, difference_columns, difference_map, difference_palette

_ASKED = ("versus", "versus_model", "versus_text")
_CELLS, _OUTLINE = "HeatMap.I", "Rectangles.I"
_EXECUTOR = ThreadPoolExecutor(max_workers=2, thread_name_prefix="attnxr-compare")
_logger = logging.getLogger(__name__)
_MEANINGS = {
    "own_rank": "Blue: in the other answer the token itself is nearer to what the head wrote than in this one; red: "
    "farther. The scale is that of its rank, in powers of ten.",
    "rbo": "How alike the two lists of neighbours are, their tops weighing most: 1 where they are the same, 0 where "
    "they share nothing. Dark cells changed most.",
    "attention_distance": "The share of the head's attention that goes to other tokens in the other answer, from 0 to "
    "1. Dark cells changed most.",
}


class DifferenceMap(Figure):
    """What changed for the chosen token, over layers and heads; a click chooses both.

    Parameters
    ----------
    state : State
        What to follow, and where a click goes.
    **params
        Starting values of the parameters.
    """

    follows = ("comparison", "layer", "head", "position", "difference")
    tapped = _CELLS
    max_width = 620

    def __init__(self, state: State, **params: Any) -> None:
        super().__init__(state, Heading(title="What changed, in every layer and head"), **params)
        state.param.watch(self._explain, "difference")
        self._explain()

    def _shape(self) -> Hashable:
        comparison = self._state.comparison
        if comparison is None or comparison.found is None:
            return None
        return tuple(comparison.a.layers), comparison.a.n_heads, self._state.difference

    def _arguments(self) -> tuple[Any, Any, int | None, str]:
        comparison, position = self._state.comparison, self._state.position
        assert comparison is not None
        own = comparison.a.neighbors["own_rank"].isel(position=position).transpose("layer", "head")
        return comparison.found, own, comparison.row(position), self._state.difference

    def _plot(self) -> hv.Overlay:
        return difference_map(*self._arguments(), dark=self.dark)

    def _sources(self) -> dict[str, Columns]:
        columns = difference_columns(*self._arguments())
        return {
            _CELLS: {**columns, "zvalues": columns["value"]},
            _OUTLINE: cell_outline(self._state.layer, self._state.head),
        }

    def _detail(self) -> str:
        comparison, position = self._state.comparison, self._state.position
        assert comparison is not None
        name = f"“{token_label(comparison.a.encodings, position)}”"
        return name if comparison.counterpart[position] >= 0 else f"{name} has no counterpart"

    def _blank(self, layer: str, columns: Columns) -> Columns:
        if layer == _OUTLINE:
            return super()._blank(layer, columns)
        blank = np.full(len(columns["zvalues"]), np.nan)
        return dict.fromkeys(("zvalues", "value", "before", "after", "rbo", "attention_distance"), blank)

    def _dress(self, layer: str, plot: Any) -> None:
        if layer == _CELLS:
            plot.handles["color_mapper"].palette = difference_palette(self._state.difference, self.dark)

    def _tap(self, x: float, y: float) -> None:
        self._state.select(layer=round(y), head=round(x))

    def _explain(self, *_events: object) -> None:
        self.explain(_MEANINGS[self._state.difference])


class Compare(View):
    """The answer beside another one that differs in one thing: the mask, the text or the model.

    Parameters
    ----------
    state : State
        What to follow. Its ``other`` is asked for the second answer.
    **params
        Starting values of the parameters.
    """

    pair = param.Parameter(doc="The two answers that are to be compared.")

    def __init__(self, state: State, **params: Any) -> None:
        super().__init__(**params)
        assert state.other is not None
        self._state, self._other = state, state.other
        self._asked: Request | None = None
        self._comparing: object = None
        self._heading = Heading(
            title="Compare",
            help="The same question asked once more with one thing changed. Tokens are matched as lines are in a "
            "comparison of two texts; what is in both lists is marked.",
        )
        self._choices = Choices(self._choose)
        self._text = TextBox(self._run, label="Other text", text=state.versus_text)
        self._status = Status(lambda _data: self._other.cancel())
        self._map = DifferenceMap(state, dark=self.dark, shown=self.shown)
        self._lists_heading = Heading(title="Nearest vocabulary tokens, side by side")
        self._lists = TwoLists()
        self.param.watch(self._ask, "shown")
        state.param.watch(self._ask, ["answer", *_ASKED])
        state.param.watch(self._show, [*_ASKED, "model", "difference"])
        state.param.watch(self._draw, ["comparison", "layer", "head", "position"])
        self._other.param.watch(self._tell, ["answer", "activity", "error", "cancelled"])
        self._other.param.watch(self._pair, "answer")
        self.param.watch(self._compare, "pair")
        self._show()
        self._ask()

    def cleanup(self) -> None:
        """Clean up the map."""
        self._map.cleanup()

    def _models(self) -> tuple[str, list[str]]:
        """Name of the other model, and of those that it may be."""
        state = self._state
        names = [name for name in state.param["model"].objects if name != state.model]
        return state.versus_model if state.versus_model in names else next(iter(names), ""), names

    def _show(self, *_events: object) -> None:
        state = self._state
        fields = [choice_field(state, "versus", "Compare with"), choice_field(state, "difference", "Map")]
        if state.versus == "model":
            chosen, names = self._models()
            options = [[name, name] for name in names]
            field = {"name": "versus_model", "label": "Other model", "help": state.param["versus_model"].doc}
            fields.insert(1, {**field, "value": chosen, "options": options, "disabled": not options})
        self._choices.fields = fields
        self._text.param.update(visible=state.versus == "text", text=state.versus_text)

    def _choose(self, data: dict[str, str]) -> None:
        if data["name"] in ("versus", "versus_model", "difference"):
            self._state.param.update({data["name"]: data["value"]})

    def _run(self, data: dict[str, str]) -> None:
        if data["text"] == self._state.versus_text:
            self._asked = None  # what failed before may work now
            self._ask()
        self._state.versus_text = data["text"]

    def _ask(self, *_events: object) -> None:
        """Ask for the second answer, where somebody looks and it is not the one that is there."""
        answer = self._state.answer
        self._map.shown = self.shown
        if not self.shown or answer is None:
            return
        state = self._state
        try:
            request = changed(answer, state.versus, state.versus_text, self._models()[0])
        except InputError as error:
            self._asked = None
            self._state.comparison = None
            self._status.param.update(message=str(error), busy=False, cancellable=False, fraction=None, error="")
            return
        if request == self._asked and self._other.answer is not None:
            self._pair()
            return
        self._asked = request
        before = self._other.request
        self._state.comparison = None
        values = {
            name: getattr(request, name) for name in ("text", "model", "metric", "positional", "causal", "opened")
        }
        self._other.param.update(**values)
        if request == before:
            self._other.param.trigger("text")  # nothing has changed, but nothing was asked yet

    def _tell(self, *_events: object) -> None:
        other, comparison = self._other, self._state.comparison
        message = f"{other.activity.message} …" if other.activity else "Cancelled." if other.cancelled else ""
        if not message and comparison is not None:
            message = comparison.refusal or difference_note(comparison) or "Every token has a counterpart."
        self._status.param.update(
            message=message,
            busy=other.activity is not None,
            cancellable=other.activity is not None,
            fraction=other.activity.fraction if other.activity else None,
            error=other.error,
        )

    def _pair(self, *_events: object) -> None:
        a, b = self._state.answer, self._other.answer
        here = self._state.comparison
        there_is_one = here is not None and here.a is a and here.b is b
        if a is not None and b is not None and b.request == self._asked and not there_is_one:
            self.pair = _Pair(a, b)

    async def _compare(self, *_events: object) -> None:
        if self.pair is None:
            return
        a, b = self.pair.a, self.pair.b
        job = self._comparing = object()

        def report(_fraction: float) -> None:
            if job is not self._comparing:
                raise _OvertakenError

        try:
            found = await asyncio.get_running_loop().run_in_executor(_EXECUTOR, held_against, a, b, report)
        except _OvertakenError:
            return
        if job is self._comparing:
            in_one_patch(partial(self._land, found))

    def _land(self, found: Comparison) -> None:
        if found.a is self._state.answer and found.b is self._other.answer:
            self._state.comparison = found
            self._tell()
        self.pair = None

    def _draw(self, *_events: object) -> None:
        state, comparison = self._state, self._state.comparison
        if comparison is None:
            self._lists.param.update(lists=[], note="")
            self._lists_heading.detail = ""
            return
        shown = neighbor_lists(comparison, state.layer, state.head, state.position)
        self._lists_heading.detail = f"layer {comparison.a.layers[state.layer]} · head {state.head}"
        self._lists.param.update(lists=shown["lists"], note=shown["note"])

    @param.depends("dark", watch=True)
    def _recolor(self) -> None:
        self._map.dark = self.dark

    def __panel__(self) -> pn.Column:
        lists = pn.Column(self._lists_heading, self._lists, styles={"flex": "3 1 560px", "min-width": "0"})
        maps = pn.Column(self._map, styles={"flex": "2 1 380px", "min-width": "0"})
        return pn.Column(
            self._heading,
            self._choices,
            self._text,
            self._status,
            pn.FlexBox(
                maps, lists, align_items="flex-start", gap="0 24px", margin=(10, 0, 0, 0), sizing_mode="stretch_width"
            ),
            sizing_mode="stretch_width",
        )


@dataclass(frozen=True, eq=False)
class _Pair:
    a: Answer
    b: Answer


class _OvertakenError(Exception):
    """Another pair of answers is to be compared by now."""
