"""Answers a visitor's requests beside the event loop, so that every page stays responsive meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from attnxr.dashboard.answer import Answer, Report, Request, answer
from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.state import REQUEST, Activity, State
from attnxr.errors import AttnxrError
from attnxr.model import Model

_POLL_SECONDS = 0.1
# One pool for all visitors. It is wider than the work needs: whoever waits for a slow download holds a thread.
_EXECUTOR = ThreadPoolExecutor(max_workers=8, thread_name_prefix="attnxr")
_logger = logging.getLogger(__name__)


class _OvertakenError(Exception):
    """The visitor has asked for something else since."""


class _Job:
    """What a thread at work and the event loop tell each other. Each attribute has one writer."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.activity = Activity("Waiting for its turn")
        self.overtaken = False

    def report(self, message: str, fraction: float | None) -> None:
        if self.overtaken:
            raise _OvertakenError
        self.activity = Activity(message, fraction)


class Worker:
    """Answers what a State asks, newest request first and only.

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
        self._watcher = state.param.watch(self._on_request, list(REQUEST), onlychanged=False)

    def close(self) -> None:
        """Stop answering; work that is under way ends at its next step."""
        self._state.param.unwatch(self._watcher)
        if self._job is not None:
            self._job.overtaken = True

    async def _on_request(self, *_events: object) -> None:
        if self._job is not None:
            self._job.overtaken = True
        job = self._job = _Job(self._state.request)
        self._show(job)
        work = asyncio.get_running_loop().run_in_executor(_EXECUTOR, _work, job, self._load, self._state.last)
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
            self._apply(job, partial(self._state.fail, job.request, outcome))

    def _show(self, job: _Job) -> None:
        self._apply(job, partial(self._state.param.update, activity=job.activity))

    def _apply(self, job: _Job, change: Callable[[], object]) -> None:
        """Change the state on the event loop, unless the job is overtaken by then."""
        in_one_patch(lambda: None if job.overtaken else change())


def _work(job: _Job, load: Callable[[str], Model], previous: Answer | None) -> Answer | str | None:
    report: Report = job.report
    try:
        return answer(job.request, load, report, previous)
    except _OvertakenError:
        return None
    except AttnxrError as error:
        return str(error)
    except Exception as error:  # the thread's edge: what is not said here would leave the page waiting for ever
        _logger.exception("No answer to %r", job.request)
        return f"Something went wrong inside attnxr ({type(error).__name__}); the server's log says more."
