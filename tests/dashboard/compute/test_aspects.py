"""What only some views need is computed when one that is shown asks for it, and lands where it belongs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import xarray as xr

import attnxr
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.aspects import Aspect
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.session.answer import Answer, Report, Request
from attnxr.dashboard.session.state import State
from attnxr.model import Model
from tests.dashboard.compute.test_worker import until

Solve = Callable[[Request], Answer]
SECOND = Aspect("significance", layer=1)


def test_significance_is_that_of_the_layer_as_it_was_asked_about(
    solve: Solve, shelf: dict[str, attnxr.Model], state: State
) -> None:
    state.param.update(metric="euclidean", positional=False)
    answer = solve(state.request)
    told: list[float | None] = []

    found = aspects.compute(answer, shelf["bert"], SECOND, lambda _message, fraction: told.append(fraction))

    layer = shelf["bert"].encode(state.text).sel(layer=[1])
    expected = attnxr.significance(shelf["bert"], layer, metric="euclidean", positional=False)
    xr.testing.assert_identical(found, expected)
    assert told[0] == 0
    assert told[-1] == 1


def test_what_several_views_want_is_wanted_once_and_the_latest_last(state: State) -> None:
    other = Aspect("significance", layer=2)
    state.want("map", SECOND)
    state.want("strip", other)
    state.want("panel", SECOND)
    assert state.wanted == [SECOND, other]

    state.want("map", None)
    assert state.wanted == [other, SECOND]
    state.want("panel", None)
    assert state.wanted == [other]


def test_an_aspect_lands_on_its_own_answer_only(answered: State, solve: Solve) -> None:
    old = answered.answer
    assert old is not None
    answered.metric = "dot"
    answered.land(solve(answered.request))
    seen = answered.arrived

    answered.land_aspect(old, SECOND, xr.Dataset(attrs={"of": "the old one"}))

    assert answered.arrived == seen
    assert answered.aspect(SECOND) is None
    assert old.aspects[SECOND].attrs == {"of": "the old one"}


def test_there_are_no_aspects_without_an_answer(state: State) -> None:
    assert state.aspect(SECOND) is None
    assert state.refusal(SECOND) == ""


def test_a_worker_computes_what_is_wanted_before_and_after_the_answer(
    state: State, shelf: dict[str, attnxr.Model]
) -> None:
    arrivals: list[list[bool]] = []
    first = Aspect("significance", layer=0)
    state.param.watch(
        lambda _event: arrivals.append([state.aspect(each) is not None for each in (first, SECOND)]), "arrived"
    )

    async def visit() -> None:
        worker = Worker(state, shelf.__getitem__)
        state.want("map", first)
        state.param.trigger("text")
        await until(lambda: state.aspect(first))
        state.want("panel", SECOND)
        await until(lambda: state.aspect(SECOND))
        await until(lambda: state.background is None)
        worker.close()

    asyncio.run(visit())
    assert arrivals == [[True, False], [True, True]]


def test_a_refusal_is_told_and_not_tried_again(
    state: State, shelf: dict[str, attnxr.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Aspect] = []

    def refuse(_answer: Answer, _model: Model, aspect: Aspect, _report: Report) -> xr.Dataset:
        tries.append(aspect)
        raise attnxr.InputError("Too short a text for that.")

    monkeypatch.setitem(aspects.KINDS, "refused", refuse)
    wish = Aspect("refused")

    async def visit() -> None:
        worker = Worker(state, shelf.__getitem__)
        state.want("map", wish)
        state.param.trigger("text")
        await until(lambda: state.arrived)
        state.want("panel", wish)
        state.want("strip", SECOND)
        await until(lambda: state.aspect(SECOND))
        worker.close()

    asyncio.run(visit())
    assert state.refusal(wish) == "Too short a text for that."
    assert tries == [wish]


def test_what_is_no_longer_wanted_ends_and_is_not_started(
    state: State, shelf: dict[str, attnxr.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    started, ended = [], []

    def slow(_answer: Answer, _model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
        started.append(aspect.layer)
        begun.set()
        assert go_on.wait(60)
        try:
            report("half of it", 0.5)
        except Exception:
            ended.append(aspect.layer)
            raise
        return xr.Dataset(attrs={"layer": aspect.layer})

    monkeypatch.setitem(aspects.KINDS, "slow", slow)
    first, second, third = (Aspect("slow", layer=layer) for layer in range(3))

    async def visit() -> None:
        worker = Worker(state, shelf.__getitem__)
        state.want("map", first)
        state.param.trigger("text")
        await asyncio.to_thread(begun.wait, 60)
        state.want("map", second)
        state.want("map", third)
        await asyncio.sleep(0.3)  # the worker looks ten times a second
        go_on.set()
        await until(lambda: state.aspect(third) is not None)
        worker.close()

    asyncio.run(visit())
    assert (started, ended) == ([0, 2], [0])
    assert state.aspect(first) is None
