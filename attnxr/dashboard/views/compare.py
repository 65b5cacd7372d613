"""The comparison of the answer with another one: what is compared, what changed where, and the two lists."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import holoviews as hv
import numpy as np
import panel as pn
import param

from attnxr.asked import sentence
from attnxr.dashboard.compute.jobs import COMPARE, Job
from attnxr.dashboard.parts import Choices, Heading, Status, TextBox, TwoLists
from attnxr.dashboard.rows.compare import difference_note, neighbor_lists
from attnxr.dashboard.session.answer import Answer, Report, Request
from attnxr.dashboard.session.comparing import Comparison, changed, held_against
from attnxr.dashboard.session.state import REQUEST, VERSUS, Activity, State
from attnxr.dashboard.views.fields import choice_field
from attnxr.dashboard.views.figure import Columns, Figure
from attnxr.dashboard.views.question import choose, question_fields
from attnxr.dashboard.views.view import View
from attnxr.errors import InputError
from attnxr.plots import cell_outline, difference_columns, difference_map, difference_palette
from attnxr.plots.grids import token_label

_ASKED = ("versus", "versus_model", "versus_text", *VERSUS)
_OTHER = "versus_"
_CELLS, _OUTLINE = "HeatMap.I", "Rectangles.I"
_MEANINGS = {
    "own_rank": "Blue: in the other answer the token itself is nearer than in this one; red: farther. "
    "The scale is that of its rank, in powers of ten.",
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
        if comparison is None or comparison.differences is None:
            return None
        return tuple(comparison.a.layers), comparison.a.n_columns, self._state.difference

    def _arguments(self) -> tuple[Any, Any, int | None, str]:
        comparison, position = self._state.comparison, self._state.position
        assert comparison is not None
        own = comparison.a.near["own_rank"].isel(position=position).transpose("layer", "head")
        return comparison.differences, own, comparison.row(position), self._state.difference

    def _plot(self) -> hv.Overlay:
        *about, measure = self._arguments()
        return difference_map(*about, measure=measure, dark=self.dark)

    def _sources(self) -> dict[str, Columns]:
        columns, comparison = difference_columns(*self._arguments()), self._state.comparison
        assert comparison is not None
        return {
            _CELLS: {**columns, "zvalues": columns["value"]},
            _OUTLINE: cell_outline(self._state.layer, comparison.a.column(self._state.head)),
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
        self._state.select_column(round(x), layer=round(y))

    def _explain(self, *_events: object) -> None:
        self.explain(_MEANINGS[self._state.difference])


class Compare(View):
    """The answer beside another one that differs in one thing: the mask, the text, the target or the model.

    Parameters
    ----------
    state : State
        What to follow. Its ``other`` is asked for the second answer.
    **params
        Starting values of the parameters.
    """

    def __init__(self, state: State, **params: Any) -> None:
        super().__init__(**params)
        assert state.other is not None
        self._state, self._other = state, state.other
        self._asked: Request | None = None
        self._job: Job[Comparison] | None = None
        self._jobs: set[Job[Comparison]] = set()
        self._pair: tuple[Answer, Answer] | None = None  # what the job compares
        self._activity: Activity | None = None
        self._error = ""
        self._cancelled = False
        self._heading = Heading(
            title="Compare",
            help="What the page shows, asked once more with one thing changed. Tokens are matched as lines are in a "
            "comparison of two texts; what is in both lists is marked.",
        )
        self._choices = Choices(self._choose)
        self._question = Choices(self._choose_question)
        self._text = TextBox(self._run, label="Other text", text=state.versus_text)
        self._status = Status(lambda _data: self._cancel())
        self._map = DifferenceMap(state, dark=self.dark, shown=self.shown)
        self._lists_heading = Heading(title="Nearest vocabulary tokens, side by side")
        self._lists = TwoLists()
        self.param.watch(self._ask, "shown")
        state.param.watch(self._ask, ["answer", *_ASKED])
        state.param.watch(self._show, [*_ASKED, "model", "stack", "difference", "answer"])
        state.param.watch(self._draw, ["comparison", "layer", "head", "position"])
        self._other.param.watch(self._tell, ["answer", "activity", "error", "cancelled"])
        self._other.param.watch(self._compare, "answer")
        self._show()
        self._ask()

    def cleanup(self) -> None:
        """Clean up the map, and end the comparison that is under way."""
        self._leave()
        self._map.cleanup()

    def _models(self) -> tuple[str, list[str]]:
        """Name of the other model, and of those that it may be."""
        state = self._state
        names = [name for name in state.param["model"].objects if name != state.model]
        return state.versus_model if state.versus_model in names else next(iter(names), ""), names

    def _show(self, *_events: object) -> None:
        state = self._state
        versus = choice_field(state, "versus", "Compare with")
        reads_target = "target" in (state.versus, state.stack and "target")
        versus["options"] = [each for each in versus["options"] if each[0] != "target" or reads_target]
        fields = [versus, choice_field(state, "difference", "Map")]
        if state.versus == "model":
            chosen, names = self._models()
            options = [[name, name] for name in names]
            field = {"name": "versus_model", "label": "Other model", "help": state.param["versus_model"].doc}
            fields.insert(1, {**field, "value": chosen, "options": options, "disabled": not options})
        self._choices.fields = fields
        asks = state.versus == "question"
        self._question.visible = asks
        if asks:
            metric = choice_field(state, "versus_metric", "Distance")
            fields = [*question_fields(state, _OTHER), metric]
            self._question.fields = [{**each, "label": f"Other: {each['label']}"} for each in fields]
        captions = {"text": "Other text" if state.stack else "", "target": "Other target"}
        asks = state.versus in ("text", "target")
        self._text.param.update(visible=asks, text=state.versus_text, caption=captions.get(state.versus, ""))

    def _choose(self, data: dict[str, str]) -> None:
        if data["name"] in ("versus", "versus_model", "difference"):
            self._state.param.update({data["name"]: data["value"]})

    def _choose_question(self, data: dict[str, Any]) -> None:
        if data["name"] == "versus_metric":
            self._state.versus_metric = data["value"]
        else:
            choose(self._state, data["name"].removeprefix(_OTHER), data["value"], _OTHER)

    def _run(self, data: dict[str, str]) -> None:
        if data["text"] == self._state.versus_text:
            self._asked = None  # what failed before may work now
            self._ask()
        self._state.versus_text = data["text"]

    def _ask(self, *_events: object) -> None:
        """Ask for the second answer, where somebody looks and it is not the one that is there."""
        answer = self._state.answer
        self._map.shown = self.shown
        if answer is None and self._job is not None:
            self._leave()
            self._tell()
        if not self.shown or answer is None:
            return
        state = self._state
        try:
            question = {name.removeprefix(_OTHER): getattr(state, name) for name in VERSUS}
            request = changed(answer, state.versus, state.versus_text, self._models()[0], question)
        except InputError as error:
            self._asked = None
            self._leave()
            self._state.comparison = None
            self._status.param.update(message=str(error), busy=False, cancellable=False, fraction=None, error="")
            return
        if request == self._asked and self._other.answer is not None:
            self._compare()
            return
        self._asked = request
        self._leave()
        before = self._other.request
        self._state.comparison = None
        values = {name: getattr(request, name) for name in REQUEST}
        self._other.param.update(**values)
        if request == before:
            self._other.param.trigger("text")  # nothing has changed, but nothing was asked yet

    def _tell(self, *_events: object) -> None:
        other, comparison = self._other, self._state.comparison
        activity = other.activity or self._activity
        message = f"{activity.message} …" if activity else "Cancelled." if other.cancelled or self._cancelled else ""
        if not message and comparison is not None:
            message = comparison.refusal or difference_note(comparison) or "Every token has a counterpart."
        self._status.param.update(
            message=message,
            busy=activity is not None,
            cancellable=activity is not None,
            fraction=activity.fraction if activity else None,
            error=other.error or self._error,
        )

    def _compare(self, *_events: object) -> None:
        """Hold the two answers against each other, where both are there and it is neither done nor under way."""
        a, b, here = self._state.answer, self._other.answer, self._state.comparison
        if a is None or b is None or b.request != self._asked:
            return
        known = self._pair or (here and (here.a, here.b))
        if known and known[0] is a and known[1] is b:
            return
        self._leave()
        self._pair = a, b
        self._job = Job(
            COMPARE,
            lambda report: _comparison(a, b, report),
            subject=(a.request, b.request),
            done=self._land,
            failed=self._fail,
            progress=self._show_progress,
            beside=self._jobs,
        )
        self._job.start()

    def _leave(self) -> None:
        """Forget the comparison that is under way, and how the last one ended."""
        if self._job is not None:
            self._job.overtake()
        self._job = self._pair = self._activity = None
        self._error, self._cancelled = "", False

    def _cancel(self) -> None:
        """Call off what is shown as under way: the second answer, or the comparison with it."""
        if self._job is None:
            self._other.cancel()
        else:
            self._leave()
            self._cancelled = True
            self._tell()

    def _show_progress(self, activity: Activity) -> None:
        self._activity = activity
        self._tell()

    def _land(self, comparison: Comparison) -> None:
        self._leave()
        if comparison.a is self._state.answer and comparison.b is self._other.answer:
            self._state.comparison = comparison
        self._tell()

    def _fail(self, said: str) -> None:
        self._leave()
        self._error = said
        self._tell()

    def _draw(self, *_events: object) -> None:
        state, comparison = self._state, self._state.comparison
        if comparison is None:
            self._lists.param.update(lists=[], note="")
            self._lists_heading.param.update(detail="", help="")
            return
        shown = neighbor_lists(comparison, state.layer, state.head, state.position)
        self._lists_heading.detail = comparison.a.where(state.layer, state.head).replace(", ", " · ")
        both = [sentence(each.question) for each in (comparison.a, comparison.b)]
        self._lists_heading.help = both[0] if both[0] == both[1] else f"Left: {both[0]} Right: {both[1]}"
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
            self._question,
            self._text,
            self._status,
            pn.FlexBox(
                maps, lists, align_items="flex-start", gap="0 24px", margin=(10, 0, 0, 0), sizing_mode="stretch_width"
            ),
            sizing_mode="stretch_width",
        )


def _comparison(a: Answer, b: Answer, report: Report) -> Comparison:
    message = "Comparing the two answers"
    report(message, 0.0)
    return held_against(a, b, lambda fraction: report(message, fraction))
