"""Answers a visitor's requests beside the event loop, so that every page stays responsive meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import param
import xarray as xr

from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.cache import ANSWERS
from attnxr.dashboard.compute.jobs import ANSWER, Job
from attnxr.dashboard.session.answer import Answer, Aspect, Report
from attnxr.dashboard.session.opened import model_for
from attnxr.dashboard.session.state import REQUEST, Activity, State
from attnxr.model import Model


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
        self._side_job: Job[xr.Dataset] | None = None
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
        for job in (self._job, self._side_job):
            if job is not None:
                job.overtake()

    async def _on_request(self, *_events: object) -> None:
        if self._job is not None:
            self._job.overtake()
        state = self._state
        request, previous = state.request, state.last
        job = self._job = Job(
            ANSWER,
            lambda report: ANSWERS(request, self._load, report, previous),
            subject=request,
            done=state.land,
            failed=partial(state.fail, request),
            progress=self._show,
            beside=self._jobs,
        )
        job.tell(partial(self._show, job.activity))  # at once: the visitor waits for it
        await job.run()

    def _on_cancel(self, event: param.parameterized.Event) -> None:
        if event.new and self._job is not None:
            self._job.overtake()

    async def _on_want(self, *_events: object) -> None:
        """Have a thread compute what is wanted most; what is no longer wanted on the way ends at its next step."""
        found = self._missing()
        if found is None or self._side_job is not None:  # one at a time for each visitor; the next one comes after it
            return
        answer, aspect = found
        land = partial(self._land, answer, aspect)
        job = self._side_job = Job(
            ANSWER,
            lambda report: self._compute(answer, aspect, report),
            subject=aspect,
            done=land,
            failed=land,
            progress=partial(self._show_behind, answer, aspect),
            ended=self._next,
        )
        await job.run()

    def _compute(self, answer: Answer, aspect: Aspect, report: Report) -> xr.Dataset:
        return aspects.compute(answer, _model_of(answer, self._load), aspect, report)

    def _land(self, answer: Answer, aspect: Aspect, outcome: xr.Dataset | str) -> None:
        self._state.land_aspect(answer, aspect, outcome)
        ANSWERS.grown(answer)

    def _next(self) -> None:
        self._side_job = None
        self._state.background = None
        if self._missing() is not None:
            self._state.param.trigger("wanted")

    def _missing(self) -> tuple[Answer, Aspect] | None:
        """What was wanted last of that which is not there, and of which answer."""
        answer = self._state.answer
        if answer is not None:
            for aspect in reversed(self._state.wanted):
                if aspect not in answer.aspects and aspect not in answer.refusals:
                    return answer, aspect
        return None

    def _show(self, activity: Activity) -> None:
        self._state.activity = activity

    def _show_behind(self, answer: Answer, aspect: Aspect, activity: Activity) -> None:
        if answer is self._state.answer and aspect in self._state.wanted:
            self._state.background = activity
        elif self._side_job is not None:
            self._side_job.overtake()


def _model_of(answer: Answer, load: Callable[[str], Model]) -> Model:
    """The model that an answer is of; raises InputError where it came out of a file and the server has no such one."""
    request = answer.request
    if request.opened is None:
        return load(request.model)
    return model_for(request.opened, request.model, load, "This")
