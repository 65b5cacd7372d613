"""Answers a visitor's requests beside the event loop, so that every page stays responsive meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import param
import xarray as xr

from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.cache import ANSWERS
from attnxr.dashboard.compute.jobs import ANSWER, QUIET, Job, Kind
from attnxr.dashboard.session.answer import Answer, Aspect, Report
from attnxr.dashboard.session.opened import model_for
from attnxr.dashboard.session.state import REQUEST, Activity, State
from attnxr.model import Model
from attnxr.options import Stack


class Worker:
    """Answers what a State asks, newest request first and only; then computes what its views want of the answer.

    Parameters
    ----------
    state : State
        Whose requests to answer.
    load : callable
        Gives the model of a name.
    """

    def __init__(self, state: State, load: Callable[[str], Model]) -> None:
        self._state = state
        self._load = load
        self._job: Job[Answer] | None = None
        self._jobs: set[Job[Answer]] = set()  # that one, and those that are overtaken and have not ended yet
        self._aspects: dict[Kind, Job[xr.Dataset]] = {}  # of each kind, the one that is computed now
        self._other = None if state.other is None else Worker(state.other, load)
        self._watchers = [
            state.param.watch(self._on_request, list(REQUEST), onlychanged=False),
            state.param.watch(self._on_cancel, "cancelled"),
            state.param.watch(self._on_want, ["answer", "wanted"]),
        ]

    def close(self) -> None:
        """Stop answering; work that is under way ends at its next step."""
        if self._other is not None:
            self._other.close()
        for watcher in self._watchers:
            self._state.param.unwatch(watcher)
        for job in (self._job, *self._aspects.values()):
            if job is not None:
                job.overtake()

    async def _on_request(self, *_events: object) -> None:
        if self._job is not None:
            self._job.overtake()
        state = self._state
        request, previous = state.request, state.last
        stacks: dict[str, tuple[Stack, ...]] = {}

        def load(name: str) -> Model:
            model = self._load(name)
            stacks[name] = model.stacks  # also where it does not answer: of another stack it may
            return model

        job = self._job = Job(
            ANSWER,
            lambda report: ANSWERS(request, load, report, previous),
            subject=request,
            done=state.land,
            failed=lambda said: state.fail(request, said, stacks.get(request.model, ())),
            progress=self._show,
            beside=self._jobs,
        )
        job.tell(partial(self._show, job.activity))  # at once: the visitor waits for it
        await job.run()

    def _on_cancel(self, event: param.parameterized.Event) -> None:
        if event.new and self._job is not None:
            self._job.overtake()

    def _on_want(self, *_events: object) -> None:
        """Have threads compute what is wanted most; what is no longer wanted on the way ends at its next step."""
        for kind in (ANSWER, QUIET):
            found = self._missing(kind)
            if found is None or kind in self._aspects:  # one at a time of each kind; the next one comes after it
                continue
            answer, aspect = found
            land = partial(self._land, answer, aspect)
            self._aspects[kind] = Job(
                kind,
                partial(self._compute, answer, aspect),
                subject=aspect,
                done=land,
                failed=land,
                progress=partial(self._show_behind, kind, answer, aspect),
                ended=partial(self._next, kind),
                patient=True,
            )
            self._aspects[kind].start()

    def _compute(self, answer: Answer, aspect: Aspect, report: Report) -> xr.Dataset:
        return aspects.compute(answer, _model_of(answer, self._load), aspect, report)

    def _land(self, answer: Answer, aspect: Aspect, outcome: xr.Dataset | str) -> None:
        self._state.land_aspect(answer, aspect, outcome)
        ANSWERS.grown(answer)

    def _next(self, kind: Kind) -> None:
        del self._aspects[kind]
        if kind is not QUIET:
            self._state.background = None
        if self._missing(kind) is not None:
            self._state.param.trigger("wanted")

    def _missing(self, kind: Kind) -> tuple[Answer, Aspect] | None:
        """What was wanted last of that which is not there and which such a job computes, and of which answer."""
        answer = self._state.answer
        if answer is not None:
            for aspect in reversed(self._state.wanted):
                known = aspect in answer.aspects or aspect in answer.refusals
                if not known and (aspect.kind in aspects.UNASKED) == (kind is QUIET):
                    return answer, aspect
        return None

    def _show(self, activity: Activity) -> None:
        self._state.activity = activity

    def _show_behind(self, kind: Kind, answer: Answer, aspect: Aspect, activity: Activity) -> None:
        if answer is not self._state.answer or aspect not in self._state.wanted:
            self._aspects[kind].overtake()
        elif kind is not QUIET:  # what nobody asked for says by itself that it is computed
            self._state.background = activity


def _model_of(answer: Answer, load: Callable[[str], Model]) -> Model:
    """The model that an answer is of; raises InputError where it came out of a file and the server has no such one."""
    request = answer.request
    if request.opened is None:
        return request.of_stack(load(request.model))
    return model_for(request.opened, request.model, load, "This")
