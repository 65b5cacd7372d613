"""The address follows the page, and the page follows the address that the browser goes back or forward to."""

from __future__ import annotations

from collections.abc import Callable

from attnxr.dashboard.address.history import History
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.state import State
from tests.dashboard.address.test_codec import arrive, shown
from tests.support import models

Solve = Callable[[Request], Answer]


def test_the_address_follows_what_is_shown_and_not_what_is_on_its_way(solve: Solve) -> None:
    state = State(["bert", "roberta"], text=models.SENTENCE)
    history = History(state, "")
    written: list[str] = []
    history.part.param.watch(lambda event: written.append(event.new), "query")

    state.land(solve(state.request))
    state.select(layer=2, position=5)
    state.text = "Fruit flies."
    state.land(solve(state.request))

    assert written == ["", "model=bert&layer=2&at=5", "text=Fruit+flies.&model=bert&layer=2"]


def test_back_and_forward_show_what_was_shown(solve: Solve) -> None:
    state = State(["bert", "roberta"])
    history = History(state, "")
    state.land(solve(state.request))
    pages: list[tuple[str | None, tuple[object, ...]]] = []
    for change in ({"layer": 2}, {"position": 5}, {"panel": "Own rank"}, {"text": "Fruit flies."}, {"head": 3}):
        state.param.update(change)
        if state.answer is None:
            state.land(solve(state.request))
        pages.append((history.part.query, shown(state)))

    for there, was in [*reversed(pages), *pages]:
        history.part._handle_msg({"query": "?theme=dark&" + str(there)})
        if state.answer is None:
            state.land(solve(state.request))
        assert shown(state) == was
        assert history.part.query == there


def test_one_step_back_writes_the_address_once(answered: State) -> None:
    history = History(answered, "")
    answered.param.update(layer=2, head=2, panel="Own rank")
    written: list[str] = []
    history.part.param.watch(lambda event: written.append(event.new), "query")

    history.part._handle_msg({"query": ""})

    assert written == [""]


def test_back_to_a_text_too_long_for_an_address(solve: Solve) -> None:
    state = State(["bert", "roberta"])
    history = History(state, "")
    state.land(solve(state.request))
    state.text = long = "Fruit flies. " * 200
    state.land(solve(state.request))
    assert "saved as a file instead" in state.notices[0]
    state.select(head=2)
    there = history.part.query
    state.text = "Fruit flies."
    state.land(solve(state.request))
    assert state.notices == []

    history.part._handle_msg({"query": there})
    state.land(solve(state.request))

    assert (state.text, state.head) == (long, 2)


def test_what_is_told_of_an_address_is_gone_when_the_visitor_goes_on(solve: Solve) -> None:
    state = arrive("?layer=99", solve)
    assert state.notices != []
    state.select(head=1)
    assert state.notices == []
