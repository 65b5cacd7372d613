"""The line beside the table says of the chosen head what the library says, once the choice rests, and asks no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import panel as pn
import pytest

import attnxr
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.worker import Worker
from attnxr.dashboard.parts import Findings
from attnxr.dashboard.rows.signal import COMPUTING, vector_line
from attnxr.dashboard.session.answer import Answer, Aspect, Request
from attnxr.dashboard.session.state import State
from attnxr.dashboard.views import findings
from attnxr.dashboard.views.findings import SignalAndEffect
from attnxr.tokens import label
from tests.dashboard.compute.test_worker import until
from tests.support import models

Solve = Callable[[Request], Answer]
Shelf = dict[str, attnxr.Model]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "REST", 0.05)


def line(view: SignalAndEffect) -> list[dict[str, Any]]:
    part = view.__panel__()
    assert isinstance(part, Findings)
    return part.findings


def texts(view: SignalAndEffect) -> list[str]:
    return [each["text"] for each in line(view)]


def buttons(view: SignalAndEffect) -> list[str]:
    return [name for each in line(view) for name, _ in each["buttons"]]


def shown(state: State, open_tab: Callable[[str], None] = lambda name: None) -> SignalAndEffect:
    view = SignalAndEffect(state, open_tab)
    pn.panel(view)
    return view


def expected(model: attnxr.Model, answer: Answer, layer: int, head: int, position: int) -> list[str]:
    """Both lines, from what the library says of the whole layer and of the head."""
    of_layer = answer.encodings.isel(layer=[layer])
    p = attnxr.significance(model, of_layer).nearest_p.values[0, head, position]
    nearest = answer.near.isel(layer=layer, head=head, position=position, rank=0)
    farther = 99 - (round(p * 100) - 1)
    of_head = of_layer.isel(head=[head])
    effect = attnxr.effects(
        model, of_head.isel(position=[position]), by="neighbor", mean=of_head.head_encoding.mean("position")
    ).squeeze()
    measure = "kl_anywhere" if "kl_anywhere" in effect else "hidden_change_anywhere"
    recovered = float(effect.recovered.sel(measure=measure))
    word = label(effect.replacement_token.item(), effect.replacement_text.item())
    share = (f"{recovered:.0%}" if recovered >= -10 else "< -1000%").replace("-", "−")
    return [
        f"head {head}: “{label(nearest.neighbor.item(), nearest.neighbor_text.item())}” is nearer than "
        f"{'all 99' if farther == 99 else f'{farther} of 99'} random vectors (p {f'{p:.3f}' if p < 1 else 1})",
        f"head {head}: “{word}” in its place recovers {share} (the output changes by {float(effect[measure]):.4f})",
    ]


def test_it_says_what_the_library_says_when_the_choice_rests(answered: State, shelf: Shelf, soon: None) -> None:
    async def visit() -> None:
        worker = Worker(answered, shelf.__getitem__)
        view = shown(answered)
        assert texts(view) == [COMPUTING, COMPUTING]
        assert answered.wanted == []
        for layer, head, position in ((2, 3, 4), (1, 0, 2)):
            answered.select(layer=layer, head=head, position=position)
            assert texts(view) == [COMPUTING, COMPUTING]
            await until(lambda view=view: COMPUTING not in texts(view))
            assert answered.answer is not None
            assert texts(view) == expected(shelf["bert"], answered.answer, layer, head, position)
            assert not any(each["busy"] for each in line(view))
        answered.select(layer=2, head=3, position=4)
        assert COMPUTING not in texts(view)  # it was computed before
        worker.close()

    asyncio.run(visit())


def test_a_choice_that_does_not_rest_asks_nothing(answered: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "REST", 0.4)

    async def visit() -> None:
        shown(answered)
        wanted = []
        answered.param.watch(lambda event: wanted.append(event.new), "wanted")
        for position in range(1, 5):
            answered.select(position=position)
            await asyncio.sleep(0.05)
        assert wanted == []
        await until(lambda: len(answered.wanted) == 2)
        here = answered.layer, answered.head, 4
        assert answered.wanted == [Aspect("effect", *here), Aspect("signal", *here)]  # the last one is computed first
        answered.select(position=1)
        assert answered.wanted == []

    asyncio.run(visit())


def test_what_is_hidden_asks_nothing_and_neither_does_a_script(answered: State, soon: None) -> None:
    view = shown(answered)
    answered.select(position=3)
    assert answered.wanted == []

    async def visit() -> None:
        view.shown = False
        answered.select(position=2)
        await asyncio.sleep(0.2)
        assert answered.wanted == []
        view.shown = True
        await until(lambda: answered.wanted)

    asyncio.run(visit())


def test_what_takes_long_is_computed_when_it_is_asked_for(
    answered: State, shelf: Shelf, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answered.answer is not None
    monkeypatch.setattr(findings, "AT_ONCE", findings.pass_cost(answered.answer) - 1)

    async def visit() -> None:
        worker = Worker(answered, shelf.__getitem__)
        view = shown(answered)
        await until(lambda: texts(view)[0] != COMPUTING)
        assert "takes some time" in texts(view)[1]
        assert buttons(view) == ["Signal or noise", "compute", "What it does"]
        view.__panel__()._handle_msg({"name": "compute"})
        await until(lambda: "recovers" in texts(view)[1])
        assert answered.answer is not None
        here = answered.layer, answered.head, answered.position
        assert texts(view) == expected(shelf["bert"], answered.answer, *here)
        assert buttons(view) == ["Signal or noise", "What it does"]
        answered.select(head=2)
        assert "takes some time" in texts(view)[1]
        worker.close()

    asyncio.run(visit())


def test_what_the_tabs_and_the_colours_have_found_is_not_computed_again(
    answered: State, shelf: Shelf, soon: None
) -> None:
    answer = answered.answer
    assert answer is not None
    here = {"layer": 2, "head": 1, "position": 3}
    for kind in ("effects", "recovered"):
        found = (Aspect("significance", 2), Aspect(kind, **here) if kind == "effects" else Aspect(kind, position=3))
        for aspect in found:
            answer.aspects[aspect] = aspects.compute(answer, shelf["bert"], aspect, lambda _message, _fraction: None)

        async def visit() -> None:
            view = shown(answered)
            answered.select(**here)
            await asyncio.sleep(0.2)
            assert answered.wanted == []
            assert texts(view) == expected(shelf["bert"], answer, *here.values())

        asyncio.run(visit())
        answer.aspects.clear()
        answered.select(layer=0)


@pytest.mark.parametrize(
    ("of", "space", "vocab_layer"),
    [
        ("encoding", "value", "same"),
        ("query", "key", "same"),
        ("value", "value", "input"),
        ("hidden", "embedding", "input"),
    ],
)
def test_one_vector_has_the_p_value_that_it_has_among_those_of_its_layer(
    solve: Solve, shelf: Shelf, of: Any, space: Any, vocab_layer: Any
) -> None:
    asked = Request(models.SENTENCE, "roberta", "cosine", True, of=of, space=space, vocab_layer=vocab_layer)
    answer, model = solve(asked), shelf["roberta"]

    def compute(aspect: Aspect) -> Any:
        return aspects.compute(answer, model, aspect, lambda _message, _fraction: None)

    of_layer = compute(Aspect("significance", 1))
    for head, position in ((0, 1), (1, 4)):
        one = compute(Aspect("signal", 1, head, position)).isel(layer=0, head=0, position=0)
        among = of_layer.isel(layer=0, head=answer.column(head), position=position)
        assert float(one.nearest_p) == float(among.nearest_p)
        place = (1, answer.column(head), position)
        assert vector_line(answer.near, one, *place) == vector_line(answer.near, among, *place)


def test_what_cannot_be_had_is_said_with_its_reason(solve: Solve, soon: None) -> None:
    state = State(["bert", "roberta"], text=models.SENTENCE, of="query", space="key", vocab_layer="same")
    state.land(solve(state.request))

    def load(_name: str) -> attnxr.Model:
        raise attnxr.errors.InputError("There is no such model here.")

    async def visit() -> None:
        worker = Worker(state, load)
        view = shown(state)
        await until(lambda: texts(view)[0] != COMPUTING)
        assert texts(view) == [
            "There is no such model here.",
            "only of what heads write; this question asks of “queries”",
        ]
        view.__panel__()._handle_msg({"name": "compute"})
        assert state.wanted == [Aspect("signal", state.layer, state.head, state.position)]
        worker.close()

    asyncio.run(visit())


def test_where_the_mean_changes_nothing_no_share_is_told(answered: State, shelf: Shelf) -> None:
    found = aspects.compute(answered.answer, shelf["bert"], Aspect("effect", 1, 0, 2), lambda _message, _fraction: None)
    one = found.isel(layer=0, head=0, position=0, replacement=0).copy(deep=True)
    one["recovered"] = one.recovered * np.nan
    assert findings.effect_line(one).startswith("none here")


def test_its_buttons_open_the_tabs_that_explain_it_and_no_others(answered: State) -> None:
    opened: list[str] = []
    view = shown(answered, opened.append)
    for name in ("Signal or noise", "What it does", "Compare"):
        view.__panel__()._handle_msg({"name": name})
    assert opened == ["Signal or noise", "What it does"]
