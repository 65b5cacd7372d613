"""What a page shows is the answer to what it asks, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from attnxr.analysis.maps import Method
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.state import Activity, State
from attnxr.options import Metric
from attnxr.plots.over_layers import Quantity

Solve = Callable[[Request], Answer]


def test_starts_with_the_first_model_and_no_answer(state: State) -> None:
    assert state.model == "bert"
    assert state.answer is None


@pytest.mark.parametrize(
    "change",
    [{"text": "Fruit flies."}, {"model": "roberta"}, {"metric": "dot"}, {"positional": False}, {"causal": True}],
)
def test_no_view_sees_a_changed_input_beside_an_old_answer(answered: State, change: dict[str, object]) -> None:
    seen: list[object] = []
    answered.param.watch(lambda _event: seen.append(answered.answer), list(change))

    answered.param.update(**change)

    assert seen == [None]
    assert answered.answer is None


def test_an_answer_to_an_older_request_does_not_land(state: State, solve: Solve) -> None:
    late = solve(state.request)
    state.metric = "euclidean"

    state.land(late)

    assert state.answer is None


def test_a_failure_of_an_older_request_does_not_show(answered: State) -> None:
    old = answered.request
    answered.text = "Fruit flies."

    answered.fail(old, "too late")

    assert answered.error == ""


def test_a_failure_leaves_no_answer_and_no_activity(answered: State) -> None:
    answered.activity = Activity("searching")

    answered.fail(answered.request, "no such model")

    assert (answered.answer, answered.activity, answered.error) == (None, None, "no such model")


def test_a_new_request_takes_the_old_error_away(state: State) -> None:
    state.fail(state.request, "no such model")
    state.text = "Fruit flies."
    assert state.error == ""


def test_starts_at_the_first_word(answered: State) -> None:
    assert answered.answer is not None
    assert answered.position == 1
    assert not bool(answered.answer.encodings["is_special"][1])


def test_selects_what_there_is_and_ignores_what_there_is_not(answered: State) -> None:
    answered.select(layer=2, head=3, position=5)
    assert (answered.layer, answered.head, answered.position) == (2, 3, 5)

    answered.select(layer=3, head=-1, position=10_000)
    assert (answered.layer, answered.head, answered.position) == (2, 3, 5)


def test_selects_nothing_while_there_is_no_answer(state: State) -> None:
    state.select(head=2)
    assert state.head == 0


def test_another_metric_keeps_the_selection(answered: State, solve: Solve) -> None:
    answered.select(layer=2, head=3, position=5)

    answered.metric = "dot"
    answered.land(solve(answered.request))

    assert (answered.layer, answered.head, answered.position) == (2, 3, 5)


def test_another_text_starts_at_its_first_word(answered: State, solve: Solve) -> None:
    answered.select(layer=2, position=5)

    answered.text = "Fruit flies."
    answered.land(solve(answered.request))

    assert (answered.layer, answered.position) == (2, 1)


def test_another_model_keeps_the_place_in_the_text(answered: State, solve: Solve) -> None:
    place = answered.text.index("banana")
    assert answered.answer is not None
    starts = answered.answer.encodings["char_start"].values.tolist()
    answered.select(layer=2, head=3, position=starts.index(place))

    answered.model = "roberta"
    answered.land(solve(answered.request))

    encodings = answered.answer.encodings
    start, end = (int(encodings[name][answered.position]) for name in ("char_start", "char_end"))
    assert start <= place < end
    assert (answered.layer, answered.head) == (1, 1)  # the last ones of the smaller model


def test_the_mask_is_as_the_visitor_chose(solve: Solve, state: State) -> None:
    state.causal = True
    attention = solve(state.request).encodings["attention"].values
    assert (attention[..., *np.triu_indices(attention.shape[-1], 1)] == 0).all()


def test_a_cancelled_request_has_no_answer_and_keeps_its_inputs(answered: State) -> None:
    answered.text = "Fruit flies."
    answered.activity = Activity("searching")

    answered.cancel()

    assert (answered.answer, answered.activity, answered.cancelled) == (None, None, True)
    assert answered.text == "Fruit flies."
    answered.metric = "dot"
    assert not answered.cancelled


def test_there_is_nothing_to_cancel_when_nothing_is_done(answered: State) -> None:
    before = answered.answer
    answered.cancel()
    assert (answered.answer, answered.cancelled) == (before, False)


def test_moves_by_steps_as_far_as_there_is_something(answered: State) -> None:
    answered.move(position=2, layer=1)
    assert (answered.layer, answered.head, answered.position) == (1, 0, 3)
    answered.move(position=-10, layer=10, head=2)
    assert (answered.layer, answered.head, answered.position) == (2, 2, 0)


def test_does_not_move_without_an_answer(state: State) -> None:
    state.move(position=1)
    assert state.position == 0


def test_every_value_of_an_option_can_be_chosen(state: State) -> None:
    for name, options in (("metric", Metric), ("quantity", Quantity), ("map_method", Method)):
        assert set(state.param[name].names.values()) == set(get_args(options))
