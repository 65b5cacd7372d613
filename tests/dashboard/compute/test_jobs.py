"""A job tells what it does and how it ended, on the event loop only, and nothing once it is overtaken."""

from __future__ import annotations

import ast
import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import attnxr.dashboard
from attnxr.dashboard.compute.jobs import COMPARE, MAKE, OPEN, Job, Kind
from attnxr.dashboard.session.answer import Report
from attnxr.dashboard.session.limits import Limits
from attnxr.dashboard.session.state import Activity
from attnxr.errors import InputError
from tests.dashboard.compute.test_worker import until

TWO = Kind("two", 2)


class Ear:
    """What a job told, and on which threads."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.threads: set[threading.Thread] = set()

    def hear(self, what: str) -> Any:
        def heard(*said: object) -> None:
            self.told.append((what, *said))  # type: ignore[arg-type]
            self.threads.add(threading.current_thread())

        return heard

    def job(self, work: Any, kind: Kind = TWO, *, patient: bool = False) -> Job[Any]:
        names = ("done", "failed", "progress", "ended")
        return Job(kind, work, subject="a test", patient=patient, **{name: self.hear(name) for name in names})


def test_what_it_gives_is_told_on_the_event_loop_and_work_is_done_elsewhere() -> None:
    ear, go_on, workers = Ear(), threading.Event(), set()

    def work(report: Report) -> int:
        workers.add(threading.current_thread())
        report("Counting", 0.5)
        assert go_on.wait(60)
        return 3

    async def visit() -> None:
        ear.job(work).start()
        await until(lambda: ear.told)
        go_on.set()
        await until(lambda: ("ended",) in ear.told)

    asyncio.run(visit())
    assert ear.told[-2:] == [("done", 3), ("ended",)]
    assert set(ear.told[:-2]) == {("progress", Activity("Counting", 0.5))}
    assert ear.threads == {threading.main_thread()}
    assert not workers & ear.threads


@pytest.mark.parametrize(
    ("error", "said", "logged"),
    [
        (InputError("Too long; expected a shorter one."), "Too long; expected a shorter one.", False),
        (ZeroDivisionError("nobody foresaw it"), "Something went wrong inside attnxr (ZeroDivisionError);", True),
    ],
)
def test_an_error_is_told_in_words_and_logged_where_nobody_foresaw_it(
    error: Exception, said: str, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()

    def work(_report: Report) -> None:
        raise error

    with caplog.at_level(logging.ERROR):
        asyncio.run(ear.job(work).run())
    (failed, ended) = ear.told
    assert failed[0] == "failed"
    assert str(failed[1]).startswith(said)
    assert ended == ("ended",)
    assert ("No outcome of a str: ZeroDivisionError" in caplog.text) == logged
    assert "nobody foresaw it" not in caplog.text


def test_one_that_is_overtaken_ends_at_its_next_report_and_tells_only_that() -> None:
    ear, begun, go_on, reached = Ear(), threading.Event(), threading.Event(), []

    def work(report: Report) -> None:
        begun.set()
        assert go_on.wait(60)
        report("More", None)
        reached.append("what comes after the report")

    async def visit() -> None:
        job = ear.job(work)
        job.start()
        await asyncio.to_thread(begun.wait, 60)
        job.overtake()
        go_on.set()
        await until(lambda: ("ended",) in ear.told)
        job.tell(ear.hear("too late"))

    asyncio.run(visit())
    assert reached == []
    assert [what for what, *_ in ear.told if what != "progress"] == ["ended"]


def test_one_that_waits_for_its_turn_is_not_begun_once_it_is_overtaken() -> None:
    one, ear, go_on, begun = Kind("one", 1), Ear(), threading.Event(), []

    async def visit() -> None:
        ear.job(lambda _report: go_on.wait(60), one).start()
        waiting = ear.job(lambda _report: begun.append("it"), one)
        waiting.start()
        await until(lambda: ("progress", Activity("Waiting for its turn")) in ear.told)
        waiting.overtake()
        go_on.set()
        await until(lambda: ear.told.count(("ended",)) == 2)

    asyncio.run(visit())
    assert begun == []


def test_jobs_of_a_kind_run_beside_each_other_as_far_as_it_has_threads_and_kinds_do_not_wait_for_each_other() -> None:
    ear, go_on, at_work = Ear(), threading.Event(), []

    def wait(name: str) -> Any:
        def work(_report: Report) -> None:
            at_work.append(name)
            assert go_on.wait(60)

        return work

    async def visit() -> None:
        for kind, name in ((COMPARE, "compare"), (MAKE, "make"), (OPEN, "open")):
            for _ in range(3):
                ear.job(wait(name), kind).start()
        await until(lambda: len(at_work) == 6)
        assert sorted(at_work) == ["compare", "compare", "make", "make", "open", "open"]
        go_on.set()
        await until(lambda: ear.told.count(("ended",)) == 9)

    asyncio.run(visit())
    assert len(at_work) == 9


def test_more_jobs_than_may_wait_are_refused_and_those_that_wait_say_how_many_come_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("attnxr.dashboard.compute.jobs.LIMITS", Limits(waiting=3))
    kind, ear, go_on, begun = Kind("narrow", 1), Ear(), threading.Event(), []

    def wait(_report: Report) -> None:
        begun.append(1)
        assert go_on.wait(60)

    async def visit() -> None:
        jobs = [ear.job(wait, kind) for _ in range(6)]
        jobs[0].start()
        await until(lambda: begun)
        for job in jobs[1:]:
            job.start()
        await until(lambda: ear.told.count(("ended",)) == 2)  # the last two, at once
        assert [told for told in ear.told if told[0] == "failed"] == [
            ("failed", "The server is busy: 3 questions wait for their turn. Ask again later.")
        ] * 2
        assert kind.waiting == 3
        await until(lambda: ("progress", Activity("Waiting for its turn, with 2 before it")) in ear.told)
        jobs[2].overtake()  # its visitor has left: another one may wait in its place
        assert kind.waiting == 2
        ear.job(wait, kind).start()
        go_on.set()
        await until(lambda: ear.told.count(("ended",)) == 7)

    asyncio.run(visit())
    assert len(begun) == 4  # all but those refused and the one overtaken
    assert kind.waiting == 0


def test_a_patient_job_waits_where_more_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnxr.dashboard.compute.jobs.LIMITS", Limits(waiting=1))
    kind, ear, go_on = Kind("narrow", 1), Ear(), threading.Event()

    async def visit() -> None:
        for _ in range(4):
            ear.job(lambda _report: go_on.wait(60), kind, patient=True).start()
        await until(lambda: kind.waiting == 3)
        go_on.set()
        await until(lambda: ear.told.count(("ended",)) == 4)

    asyncio.run(visit())
    assert [told for told in ear.told if told[0] in ("done", "failed")] == [("done", True)] * 4


def test_a_quiet_job_has_one_core_and_what_runs_beside_and_after_it_has_all() -> None:
    ear, go_on, cores = Ear(), threading.Event(), {}

    def work(name: str) -> Any:
        def worked(_report: Report) -> None:
            cores[name] = torch.get_num_threads()
            assert go_on.wait(60)

        return worked

    async def visit() -> None:
        for name, kind in {
            "first": Kind("loud", 2, 3),
            "quiet": Kind("quiet", 1, 1),
            "second": Kind("full", 1),
        }.items():
            ear.job(work(name), kind).start()
            await until(lambda name=name: name in cores)
        cores["a new thread"] = await asyncio.to_thread(torch.get_num_threads)
        go_on.set()
        await until(lambda: ear.told.count(("ended",)) == 3)

    here = torch.get_num_threads()
    asyncio.run(visit())
    assert cores == {"first": 3, "quiet": 1, "second": here, "a new thread": here}
    assert torch.get_num_threads() == here


def test_what_goes_wrong_is_logged_without_what_a_visitor_asked(caplog: pytest.LogCaptureFixture) -> None:
    ear, typed = Ear(), "a text"

    def work(_report: Report) -> None:
        raise ZeroDivisionError(typed)

    async def visit() -> None:
        Job(TWO, work, subject=(typed,), done=ear.hear("done"), failed=ear.hear("failed")).start()
        await until(lambda: ear.told)

    asyncio.run(visit())
    assert "No outcome of a tuple: ZeroDivisionError" in caplog.text
    assert "test_jobs.py" in caplog.text
    assert typed not in caplog.text


def test_only_jobs_the_server_before_anyone_comes_and_the_care_for_memory_start_threads() -> None:
    folder = Path(attnxr.dashboard.__file__).parent
    starters = {"ThreadPoolExecutor", "Thread", "run_in_executor", "to_thread", "ProcessPoolExecutor"}
    guilty = {
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if starters & {getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "name", None)}
    }
    assert guilty == {"compute/jobs.py", "served/memory.py", "served/server.py"}
