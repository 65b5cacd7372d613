"""The second answer is asked for when somebody looks, lands through the same worker, and never on another first one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import panel as pn
import pytest

import attnxr
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.parts import Choices, Status, TextBox, TwoLists
from attnxr.dashboard.session.answer import Answer
from attnxr.dashboard.session.comparing import Comparison, held_against
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views import compare
from attnxr.dashboard.views.compare import Compare, DifferenceMap
from tests.dashboard.compute.test_worker import until

Visit = Callable[[Compare], Coroutine[Any, Any, None]]


@pytest.fixture
def visit(answered: State, shelf: dict[str, attnxr.Model]) -> Callable[[Visit], Compare]:
    def visit(do: Visit, **params: Any) -> Compare:
        async def run() -> Compare:
            worker = Worker(answered, shelf.__getitem__)
            view = Compare(answered, **params)
            await do(view)
            worker.close()
            view.cleanup()
            return view

        return asyncio.run(run())

    return visit


def part(view: Compare, kind: type) -> Any:
    (found,) = pn.panel(view).select(kind)
    return found


def test_the_mask_is_turned_first_and_the_selection_is_followed(answered: State, visit: Any) -> None:
    async def do(_view: Compare) -> None:
        await until(lambda: answered.comparison)
        answered.select(layer=2, head=1, position=4)

    view = visit(do)
    comparison = answered.comparison
    assert comparison is not None
    assert comparison.a is answered.answer
    assert comparison.b.request.causal is True
    lists = part(view, TwoLists)
    assert "at position 4" in lists.lists[0]["title"]
    assert part(view, Status).message == "Every token has a counterpart."


def test_a_hidden_view_asks_nothing(answered: State, visit: Any) -> None:
    async def do(view: Compare) -> None:
        await asyncio.sleep(0.3)
        assert answered.other is not None
        assert answered.other.answer is answered.other.activity is None
        view.shown = True
        await until(lambda: answered.comparison)

    visit(do, shown=False)


def test_another_text_is_typed_and_another_model_is_chosen(answered: State, visit: Any) -> None:
    async def do(view: Compare) -> None:
        await until(lambda: answered.comparison)
        choices, text = pn.panel(view).select(Choices)[0], part(view, TextBox)
        choices._on_message({"name": "versus", "value": "text"})
        assert answered.comparison is None
        assert part(view, Status).message == "Type another text to compare with."
        text._on_message({"text": "Time flies like a banana."})
        await until(lambda: answered.comparison)
        assert answered.comparison.b.request.text == "Time flies like a banana."
        choices._on_message({"name": "versus", "value": "model"})
        await until(lambda: answered.comparison)
        assert answered.comparison.b.request.model == "roberta"
        assert "no counterparts in each other" in part(view, Status).message

    visit(do)


def test_a_newer_first_answer_gets_its_own_comparison(answered: State, visit: Any) -> None:
    async def do(_view: Compare) -> None:
        await until(lambda: answered.comparison)
        answered.text = "Fruit flies."
        assert answered.comparison is None
        await until(lambda: answered.comparison)

    visit(do)
    assert answered.comparison.a is answered.answer
    assert answered.comparison.a.request.text == answered.comparison.b.request.text == "Fruit flies."


def test_an_error_of_the_second_is_shown_beside_the_first(answered: State, visit: Any) -> None:
    async def do(view: Compare) -> None:
        answered.param.update(versus_text="x\ud800", versus="text")
        await until(lambda: part(view, Status).error)

    visit(do)
    assert answered.answer is not None
    assert answered.error == ""


def test_a_click_on_the_map_moves_the_selection_and_the_measure_can_be_chosen(answered: State, visit: Any) -> None:
    async def do(view: Compare) -> None:
        await until(lambda: answered.comparison)
        view._map._tap(3.2, 0.9)
        pn.panel(view).select(Choices)[0]._on_message({"name": "difference", "value": "rbo"})

    view = visit(do)
    assert (answered.layer, answered.head) == (1, 3)
    assert isinstance(view._map, DifferenceMap)
    assert answered.difference == "rbo"


def test_a_comparison_can_be_called_off_and_is_made_when_somebody_asks_again(
    answered: State, visit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(a: Answer, b: Answer, report: Callable[[float], object]) -> Comparison:
        def wait(fraction: float) -> None:
            begun.set()
            assert go_on.wait(60)
            report(fraction)

        try:
            return held_against(a, b, wait)
        finally:
            ended.set()

    monkeypatch.setattr(compare, "held_against", slow)

    async def do(view: Compare) -> None:
        status = part(view, Status)
        await asyncio.to_thread(begun.wait, 60)
        await until(lambda: status.message == "Comparing the two answers …")
        assert status.busy
        assert status.cancellable
        status._on_message({"cancel": True})
        go_on.set()
        assert await asyncio.to_thread(ended.wait, 60)
        await asyncio.sleep(0.3)  # a job looks ten times a second
        assert (status.message, status.busy, status.error) == ("Cancelled.", False, "")
        assert answered.comparison is None
        view.shown = False
        view.shown = True
        await until(lambda: answered.comparison)
        assert status.message == "Every token has a counterpart."

    visit(do)


def test_an_error_nobody_foresaw_is_said_beside_the_choices(
    answered: State, visit: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object) -> Comparison:
        raise ZeroDivisionError("nobody foresaw it")

    monkeypatch.setattr(compare, "held_against", fail)

    async def do(view: Compare) -> None:
        await until(lambda: part(view, Status).error)
        assert "ZeroDivisionError" in part(view, Status).error
        assert not part(view, Status).busy

    visit(do)
    assert "nobody foresaw it" in caplog.text
