"""Work goes on beside the event loop; only the newest request's outcome is shown."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest
import xarray as xr

import attnxr
from attnxr.dashboard.compute.jobs import MOST_OF_ONE
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.session.answer import Answer, Aspect
from attnxr.dashboard.session.state import State
from tests.support import models


async def until(reached: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not reached():
            await asyncio.sleep(0.01)


def test_answers_a_request_and_reports_on_the_way(state: State, shelf: dict[str, attnxr.Model]) -> None:
    messages: list[str] = []
    state.param.watch(lambda event: messages.append(event.new.message if event.new else "done"), "activity")

    async def visit() -> None:
        worker = Worker(state, shelf.__getitem__)
        state.text = "Fruit flies."
        await until(lambda: state.answer)
        worker.close()

    asyncio.run(visit())
    assert state.answer is not None
    assert state.answer.request == state.request
    assert state.answer.neighbors.attrs["text"] == "Fruit flies."
    assert messages[0] != "done"
    assert messages[-1] == "done"


def test_a_newer_request_overtakes_an_older_one(state: State, shelf: dict[str, attnxr.Model]) -> None:
    arrived, go_on = threading.Event(), threading.Event()
    landed: list[str] = []
    state.param.watch(lambda event: landed.append(event.new.request.model) if event.new else None, "answer")

    def load(name: str) -> attnxr.Model:
        if name == "roberta":
            arrived.set()
            assert go_on.wait(60)
        return shelf[name]

    async def visit() -> None:
        worker = Worker(state, load)
        state.model = "roberta"
        await asyncio.to_thread(arrived.wait, 60)
        state.model = "bert"
        await until(lambda: state.answer)
        go_on.set()
        state.metric = "dot"
        await until(lambda: state.answer)
        worker.close()

    asyncio.run(visit())
    assert landed == ["bert", "bert"]


def test_whoever_asks_over_and_over_holds_up_himself_and_nobody_else(shelf: dict[str, attnxr.Model]) -> None:
    go_on = threading.Event()
    held, most = [], []

    def load(name: str) -> attnxr.Model:
        if name == "roberta" and not go_on.is_set():  # the greedy one's, which no report ends meanwhile
            held.append(name)
            most.append(len(held))
            assert go_on.wait(60)
            held.pop()
        return shelf[name]

    async def visit() -> None:
        greedy, ordinary = (State(["bert", "roberta"], text=models.SENTENCE) for _ in range(2))
        workers = [Worker(each, load) for each in (greedy, ordinary)]
        greedy.model = "roberta"
        for turn in range(40):
            greedy.text = f"{turn} flies " * 30
            await asyncio.sleep(0.01)
        assert greedy.activity.message == "Waiting for its turn"
        ordinary.text = "Fruit flies."
        await until(lambda: ordinary.answer)
        assert greedy.answer is None
        go_on.set()
        await until(lambda: greedy.answer)
        assert greedy.answer.request.text == greedy.text
        for worker in workers:
            worker.close()

    asyncio.run(visit())
    assert max(most) == MOST_OF_ONE


def test_an_error_of_the_library_is_shown_and_the_next_request_works(
    state: State, shelf: dict[str, attnxr.Model]
) -> None:
    async def visit() -> None:
        worker = Worker(state, shelf.__getitem__)
        state.text = " "
        await until(lambda: state.error)
        assert "empty or blank" in state.error
        assert state.answer is None
        assert state.activity is None
        state.text = "Fruit flies."
        await until(lambda: state.answer)
        worker.close()

    asyncio.run(visit())
    assert state.error == ""


def test_an_error_nobody_foresaw_is_shown_and_logged(state: State, caplog: pytest.LogCaptureFixture) -> None:
    def load(_name: str) -> attnxr.Model:
        raise ZeroDivisionError("nobody foresaw it")

    async def visit() -> None:
        worker = Worker(state, load)
        state.metric = "dot"
        await until(lambda: state.error)
        worker.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(visit())
    assert "ZeroDivisionError" in state.error
    assert "nobody foresaw it" in caplog.text


def test_the_same_text_again_is_tried_again(state: State, shelf: dict[str, attnxr.Model]) -> None:
    tries: list[str] = []

    def load(name: str) -> attnxr.Model:
        tries.append(name)
        if len(tries) == 1:
            raise attnxr.ModelNotFoundError("not yet")
        return shelf[name]

    async def visit() -> None:
        worker = Worker(state, load)
        state.param.trigger("text")
        await until(lambda: state.error)
        state.param.trigger("text")
        await until(lambda: state.answer)
        worker.close()

    asyncio.run(visit())
    assert len(tries) == 2


def test_encodings_serve_again_when_only_the_metric_changes(state: State, shelf: dict[str, attnxr.Model]) -> None:
    async def visit() -> None:
        worker = Worker(state, shelf.__getitem__)
        state.param.trigger("text")
        await until(lambda: state.answer)
        first = state.answer
        state.metric = "dot"
        await until(lambda: state.answer)
        second = state.answer
        state.text = "Fruit flies."
        await until(lambda: state.answer)
        worker.close()
        assert first is not None
        assert second is not None
        assert state.answer is not None
        assert second.encodings is first.encodings
        assert state.answer.encodings is not first.encodings

    asyncio.run(visit())


def test_a_model_is_checked_once_for_all_visitors_until_its_weights_change() -> None:
    hf_model = models.tiny_bert()
    model = attnxr.Model(hf_model, models.wordpiece_tokenizer(), name="bert")

    async def visit(text: str) -> Answer:
        state = State(["bert"])
        worker = Worker(state, lambda _name: model)
        state.text = text
        await until(lambda: state.answer)
        worker.close()
        assert state.answer is not None
        return state.answer

    first, second = (asyncio.run(visit(text)) for text in ("Time flies.", "Fruit flies."))
    assert first.checks is second.checks
    xr.testing.assert_allclose(first.checks, model.verify(), atol=1e-9)

    models.randomise(hf_model, seed=7)
    changed = asyncio.run(visit("Time flies."))
    assert changed.checks.attrs["fingerprint"] == changed.encodings.attrs["fingerprint"] == model.fingerprint
    assert changed.checks.attrs["fingerprint"] != first.checks.attrs["fingerprint"]


def test_a_closed_worker_does_nothing_more(state: State, shelf: dict[str, attnxr.Model]) -> None:
    async def visit() -> None:
        Worker(state, shelf.__getitem__).close()
        state.text = "Fruit flies."
        await asyncio.sleep(0)

    asyncio.run(visit())
    assert state.activity is None


def test_a_cancelled_search_ends_between_tiles_and_run_asks_again(
    state: State, shelf: dict[str, attnxr.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    neighbors = attnxr.Model.neighbors

    def slow(*arguments: object, progress: Callable[[float], None], **options: object) -> object:
        def wait(fraction: float) -> None:
            begun.set()
            assert go_on.wait(60)
            progress(fraction)

        try:
            return neighbors(*arguments, progress=wait, **options)
        except Exception:
            ended.set()
            raise

    monkeypatch.setattr(attnxr.Model, "neighbors", slow)

    async def visit() -> None:
        worker = Worker(state, shelf.__getitem__)
        state.text = "A search that is called off."
        await asyncio.to_thread(begun.wait, 60)
        state.cancel()
        assert state.activity is None
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 60)
        await asyncio.sleep(0.3)  # the worker looks ten times a second
        assert (state.answer, state.activity, state.error, state.cancelled) == (None, None, "", True)
        state.param.trigger("text")
        await until(lambda: state.answer)
        worker.close()

    asyncio.run(visit())
    assert not state.cancelled
    assert state.answer is not None
    assert state.answer.request.text == "A search that is called off."


def test_what_nobody_asked_for_is_computed_for_one_visitor_after_the_other_and_holds_up_nothing(
    shelf: dict[str, attnxr.Model],
) -> None:
    go_on, quiet, most = threading.Event(), [], []

    def load(name: str) -> attnxr.Model:
        thread = threading.current_thread().name
        if thread.startswith("attnxr-quiet"):
            quiet.append(thread)
            most.append(len(quiet))
            assert go_on.wait(60)
            quiet.pop()
        return shelf[name]

    async def visit() -> None:
        visitors = [State(["bert"], text=text) for text in (models.SENTENCE, "Fruit flies.")]
        workers = [Worker(each, load) for each in visitors]
        for each in visitors:
            each.param.trigger("text")
            await until(lambda each=each: each.answer)
            each.want("signal", Aspect("signal", 1, 2, 3))
            each.want("effect", Aspect("effect", 1, 2, 3))
        await until(lambda: quiet)
        visitors[1].want("roles", Aspect("roles"))  # asked for: it comes first, whatever is computed of its own accord
        await until(lambda: visitors[1].aspect(Aspect("roles")) is not None)
        assert visitors[1].background is None
        assert all(each.aspect(Aspect("effect", 1, 2, 3)) is None for each in visitors)
        go_on.set()
        for each in visitors:
            await until(lambda each=each: each.aspect(Aspect("signal", 1, 2, 3)) is not None)
            await until(lambda each=each: each.aspect(Aspect("effect", 1, 2, 3)) is not None)
        for worker in workers:
            worker.close()

    asyncio.run(visit())
    assert most == [1] * 4
