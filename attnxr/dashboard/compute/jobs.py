"""Work that takes long, done by threads beside the event loop: the one place where the dashboard has any.

Each kind of job has threads of its own, so that no kind waits for another: whoever waits for a slow download holds up
nobody's file. What may run beside each other:

- of all visitors of the process, as many jobs of a kind as it has threads: eight of `ANSWER` unless told, two each
  of `COMPARE`, `MAKE` and `OPEN`, and one of `QUIET`. What comes more waits for its turn;
- of one visitor, a request with one aspect of its answer that he asked for and one that he did not, the same for the
  other answer of a comparison, the comparison of the two, a file that is made and a file that is opened. A second
  request, or a second comparison, overtakes the first of its own kind, and a second aspect waits for the first;
  buttons for files wait too.

A job of `QUIET` has one core. The others have all of them, however many run: with another number of threads torch
rounds otherwise, and the same text would have other own ranks now and then.

A job that is overtaken ends at its next report, and nobody hears of what it has found. Until then it has its thread, so
that no more than `MOST_OF_ONE` of a visitor's requests have one: he waits for his own, whatever he sends, and not the
others. Of all visitors no more than `LIMITS.waiting` of a kind wait: what comes then is refused, and says so. Aspects
are not refused: of each visitor there are few.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import panel as pn
import torch

from attnxr.dashboard.patch import in_one_patch
from attnxr.dashboard.session.answer import Report
from attnxr.dashboard.session.limits import LIMITS
from attnxr.dashboard.session.state import Activity
from attnxr.errors import AttnxrError

_POLL_SECONDS = 0.1
MOST_OF_ONE = 2
"""So many requests of one visitor have a thread: one, and one that is overtaken and cannot end, as in a download."""
_CORES = torch.get_num_threads()
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class Kind:
    """A kind of jobs, which has its own threads.

    Parameters
    ----------
    name : str
        What its threads are called.
    threads : int
        How many jobs of this kind run at a time, of all visitors together.
    cores : int
        How many cores each of them has.
    """

    def __init__(self, name: str, threads: int, cores: int = _CORES) -> None:
        self._executor = ThreadPoolExecutor(
            threads, thread_name_prefix=f"attnxr-{name}", initializer=_use_cores, initargs=(cores,)
        )
        self._begun: WeakSet[Future[Any]] = WeakSet()
        self._waiting: dict[object, None] = {}  # in their order; a job puts itself in, and a thread takes it out

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._waiting)

    def before(self, job: object) -> int:
        """How many of them come before a job."""
        waiting = list(self._waiting)
        return waiting.index(job) if job in waiting else 0

    def begin(self, job: object, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Give a job's work to the next thread that is free. Called on the event loop."""
        self._waiting[job] = None

        def run() -> _T:
            self._waiting.pop(job, None)
            return work()

        begun = self._executor.submit(run)
        self._begun.add(begun)
        return asyncio.wrap_future(begun)

    def leave(self, job: object) -> None:
        """Let a job that nobody wants any more wait no longer: its turn will take no time."""
        self._waiting.pop(job, None)

    def end(self) -> set[Future[Any]]:
        """Begin nothing more; gives what still runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        return {each for each in self._begun if not each.done()}


def _use_cores(cores: int) -> None:
    """Let torch, and with it the search, use so many cores in this thread.

    A thread has what was set last in any when it first asks. So this one asks before, and the others find all cores.
    """
    torch.get_num_threads()
    torch.set_num_threads(cores)
    last = Thread(target=torch.set_num_threads, args=(_CORES,))
    last.start()
    last.join()


ANSWER = Kind("answer", LIMITS.answers_at_once)
"""Answers, and what is computed of them on demand."""
QUIET = Kind("quiet", 1, cores=1)
"""What is computed of answers though nobody asked for it: of all visitors one after the other."""
COMPARE = Kind("compare", 2)
"""Comparisons of two answers."""
MAKE = Kind("make", 2)
"""Files that are made of an answer."""
OPEN = Kind("open", 2)  # each has a process of its own
"""Files that are opened in place of a text."""


def end_all(patience: float) -> bool:
    """Begin no job any more, and wait for those that run.

    Parameters
    ----------
    patience : float
        Seconds.

    Returns
    -------
    bool
        Whether all have ended. One that cannot, such as a download that stands still, would keep Python from ending.
    """
    running = {each for kind in (ANSWER, QUIET, COMPARE, MAKE, OPEN) for each in kind.end()}
    return not wait(running, patience).not_done


class _OvertakenError(Exception):
    """Nobody wants what this job is about any more."""


@dataclass(frozen=True)
class _Refusal:
    """Why there is no outcome."""

    said: str


class Job(Generic[_T]):
    """One piece of work, done by a thread. It begins with `start`, or `run` in a coroutine.

    All that it tells is told on the event loop, with the page's lock, and never after it was overtaken.

    Parameters
    ----------
    kind : Kind
        Whose threads do it.
    work : callable
        What is to be done. It is given `report`, which it should call often.
    subject : object
        What it is about, for the server's log.
    done : callable
        Told what the work gave.
    failed : callable
        Told why it gave nothing, in words for the visitor.
    progress : callable, optional
        Told ten times a second what is being done, as an `Activity`; never of a job that ends in less time.
    ended : callable, optional
        Told in any case that the thread has let go of it: after `done` or `failed`, or where it was overtaken.
    beside : set, optional
        Of this visitor's jobs those that have a thread or wait for one; while there are `MOST_OF_ONE`, this one waits.
    patient : bool
        Whether it waits where more wait than may, rather than be refused.
    """

    def __init__(
        self,
        kind: Kind,
        work: Callable[[Report], _T],
        *,
        subject: object,
        done: Callable[[_T], object],
        failed: Callable[[str], object],
        progress: Callable[[Activity], object] | None = None,
        ended: Callable[[], object] | None = None,
        beside: set[Any] | None = None,
        patient: bool = False,
    ) -> None:
        self._kind = kind
        self._work = work
        self._subject = subject
        self._done = done
        self._failed = failed
        self._progress = progress
        self._ended = ended
        self._beside: set[Any] = set() if beside is None else beside
        self._patient = patient
        # What the thread and the event loop tell each other; each of the two has one writer.
        self.activity = Activity("Waiting for its turn")
        self.overtaken = False

    def start(self) -> None:
        """Begin, and go on beside what the event loop does next."""
        pn.state.execute(self.run)

    def overtake(self) -> None:
        """End it at its next report."""
        self.overtaken = True
        self._kind.leave(self)

    async def run(self) -> None:
        """Begin, and wait until the thread has let go of it."""
        while len(self._beside) >= MOST_OF_ONE and not self.overtaken:
            await asyncio.sleep(_POLL_SECONDS)
        self._beside.add(self)
        try:
            await self._run()
        finally:
            self._beside.discard(self)

    async def _run(self) -> None:
        if self._kind.waiting >= LIMITS.waiting and not self._patient:
            refusal = _Refusal(f"The server is busy: {LIMITS.waiting} questions wait for their turn. Ask again later.")
            in_one_patch(partial(self._end, refusal))
            return
        if self.overtaken and self._ended is None:
            return
        work = self._kind.begin(self, self._outcome)
        while not work.done():
            await asyncio.wait({work}, timeout=_POLL_SECONDS)
            if self._progress is not None and not self.overtaken and not work.done():
                self.tell(partial(self._progress, self._doing()))
        if self._ended is not None or not self.overtaken:
            in_one_patch(partial(self._end, work.result()))

    def tell(self, change: Callable[[], object]) -> None:
        """Make a change on the event loop, unless the job is overtaken by then."""
        in_one_patch(lambda: None if self.overtaken else change())

    def _doing(self) -> Activity:
        before = self._kind.before(self)
        return Activity(f"Waiting for its turn, with {before} before it") if before else self.activity

    def _end(self, outcome: _T | _Refusal) -> None:
        if not self.overtaken:
            if isinstance(outcome, _Refusal):
                self._failed(outcome.said)
            else:
                self._done(outcome)
        if self._ended is not None:
            self._ended()

    def _report(self, message: str, fraction: float | None) -> None:
        if self.overtaken:
            raise _OvertakenError
        self.activity = Activity(message, fraction)

    def _outcome(self) -> _T | _Refusal:
        """What the work gives, or why it gives nothing. Runs in the thread."""
        try:
            if self.overtaken:
                raise _OvertakenError
            return self._work(self._report)
        except _OvertakenError:
            return _Refusal("")
        except AttnxrError as error:
            return _Refusal(str(error))
        except Exception as error:  # nothing above this thread would tell the page, which would wait for ever
            # Neither the subject nor what an error says may go there: texts of visitors are in them.
            kind, frames = type(self._subject).__name__, "".join(traceback.format_tb(error.__traceback__))
            _logger.error("No outcome of a %s: %s\n%s", kind, type(error).__name__, frames)
            return _Refusal(f"Something went wrong inside attnxr ({type(error).__name__}); the server's log says more.")
