"""Answers a visitor's requests beside the event loop, so that every page stays responsive meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import param
import xarray as xr

from attnxr.dashboard import aspects
from attnxr.dashboard.answer import Answer, Aspect, Request
from attnxr.dashboard.cache import ANSWERS
from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.state import REQUEST, Activity, State
from attnxr.errors import AttnxrError
from attnxr.model import Model

_POLL_SECONDS = 0.1
# One pool for all visitors. It is wider than the work needs: whoever waits for a slow download holds a thread.
_EXECUTOR = ThreadPoolExecutor(max_workers=8, thread_name_prefix="attnxr")
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class _OvertakenError(Exception):
    """The visitor has asked for something else since."""


class _Job:
    """What a thread at work and the event loop tell each other. Each attribute has one writer."""

    def __init__(self) -> None:
        self.activity = Activity("Waiting for its turn")
        self.overtaken = False

    def report(self, message: str, fraction: float | None) -> None:
        if self.overtaken:
            raise _OvertakenError
        self.activity = Activity(message, fraction)


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
        self._job: _Job | None = None
        self._side_job: _Job | None = None
        self._watchers = [
            state.param.watch(self._on_request, list(REQUEST), onlychanged=False),
            state.param.watch(self._on_cancel, "cancelled"),
            state.param.watch(self._on_want, ["answer", "wanted"]),
        ]

    def close(self) -> None:
        """Stop answering; work that is under way ends at its next step."""
        for watcher in self._watchers:
            self._state.param.unwatch(watcher)
        for job in (self._job, self._side_job):
            if job is not None:
                job.overtaken = True

    async def _on_request(self, *_events: object) -> None:
        if self._job is not None:
            self._job.overtaken = True
        job = self._job = _Job()
        request = self._state.request
        self._show(job)
        work = asyncio.get_running_loop().run_in_executor(_EXECUTOR, _work, job, request, self._load, self._state.last)
        while not work.done():
            await asyncio.wait({work}, timeout=_POLL_SECONDS)
            if job.overtaken:
                return
            if not work.done():
                self._show(job)
        outcome = work.result()
        if isinstance(outcome, Answer):
            self._apply(job, partial(self._state.land, outcome))
        elif outcome is not None:
            self._apply(job, partial(self._state.fail, request, outcome))

    def _on_cancel(self, event: param.parameterized.Event) -> None:
        if event.new and self._job is not None:
            self._job.overtaken = True

    async def _on_want(self, *_events: object) -> None:
        """Have a thread compute what is wanted most; what is no longer wanted on the way ends at its next step."""
        found = self._missing()
        if found is None or self._side_job is not None:  # one at a time for each visitor; the next one comes after it
            return
        answer, aspect = found
        state, job = self._state, _Job()
        self._side_job = job
        work = asyncio.get_running_loop().run_in_executor(_EXECUTOR, _side_work, job, answer, aspect, self._load)
        while not work.done():
            await asyncio.wait({work}, timeout=_POLL_SECONDS)
            if answer is not state.answer or aspect not in state.wanted:
                job.overtaken = True
            if not work.done():
                self._apply(job, partial(state.param.update, background=job.activity))
        in_one_patch(partial(self._land, answer, aspect, work.result()))

    def _land(self, answer: Answer, aspect: Aspect, outcome: xr.Dataset | str | None) -> None:
        self._side_job = None
        self._state.background = None
        if outcome is not None:
            self._state.land_aspect(answer, aspect, outcome)
            ANSWERS.grown(answer)
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

    def _show(self, job: _Job) -> None:
        self._apply(job, partial(self._state.param.update, activity=job.activity))

    def _apply(self, job: _Job, change: Callable[[], object]) -> None:
        """Change the state on the event loop, unless the job is overtaken by then."""
        in_one_patch(lambda: None if job.overtaken else change())


def _work(job: _Job, request: Request, load: Callable[[str], Model], previous: Answer | None) -> Answer | str | None:
    return _guarded(request, lambda: ANSWERS(request, load, job.report, previous))


def _side_work(job: _Job, answer: Answer, aspect: Aspect, load: Callable[[str], Model]) -> xr.Dataset | str | None:
    return _guarded(aspect, lambda: aspects.compute(answer, load(answer.request.model), aspect, job.report))


def _guarded(asked: object, work: Callable[[], _T]) -> _T | str | None:
    """What work gives, what to tell the visitor where it cannot be done, or None where it was overtaken."""
    try:
        return work()
    except _OvertakenError:
        return None
    except AttnxrError as error:
        return str(error)
    except Exception as error:  # the thread's edge: what is not said here would leave the page waiting for ever
        _logger.exception("No answer to %r", asked)
        return f"Something went wrong inside attnxr ({type(error).__name__}); the server's log says more."
