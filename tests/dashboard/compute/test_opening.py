"""From an example to its text: the tokens are the corpus' own, and another model's are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import attnxr
from attnxr.dashboard.compute.again import text_again
from attnxr.dashboard.compute.opening import Opening
from attnxr.dashboard.session.answer import Answer, Request
from attnxr.dashboard.session.heads import Heads
from attnxr.dashboard.session.state import State
from attnxr.errors import InputError
from tests.support import models

TEXTS = [models.SENTENCE, "time flies like an arrow", " time", "flies  flies", "time\nflies"]


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("text", TEXTS)
def test_the_text_has_the_same_tokens(shelf: dict[str, attnxr.Model], name: str, text: str) -> None:
    model = shelf[name]
    ids = model.encode(text).token_id.values.tolist()
    assert model.encode(text_again(model, ids)).token_id.values.tolist() == ids


def test_tokens_of_no_text_are_refused(shelf: dict[str, attnxr.Model]) -> None:
    model = shelf["bert"]
    ids = model.encode(models.SENTENCE).token_id.values.tolist()
    for wrong in (ids[:-1], [ids[0], ids[-1]], [10**6]):
        with pytest.raises(InputError, match="cannot be opened"):
            text_again(model, wrong)


def test_an_example_is_opened_at_its_head_and_token(
    heads: Heads, shelf: dict[str, attnxr.Model], solve: Callable[[Request], Answer]
) -> None:
    heads.open = True
    state = State(["roberta", "bert"])
    opening = Opening(heads, state, shelf.__getitem__, shelf.get)
    assert opening.refusal == ""
    text = heads.corpus.example_text(5, 0)
    assert text is not None
    found = opening._find("bert", text)
    opening._show("bert", found, {"layer": 1, "head": 1, "position": 2})
    assert not heads.open
    assert state.model == "bert"
    answer = solve(state.request)
    state.land(answer)
    assert answer.neighbors.token_id.values.tolist() == heads.corpus.token_ids(text)
    assert (state.layer, state.head, state.position) == (1, 1, 2)
    assert state.causal is None


def test_another_model_is_said_and_never_used(heads: Heads, shelf: dict[str, attnxr.Model]) -> None:
    heads.open = True
    state = State(["roberta"])
    opening = Opening(heads, state, shelf.__getitem__, shelf.get)
    assert "does not offer" in opening.refusal
    assert "bert" in opening.refusal
    before = state.text
    opening(0, 0, 1)
    assert (state.text, heads.opening) == (before, "")
    impostor = Opening(heads, State(["bert"]), lambda _name: shelf["roberta"], lambda _name: None)
    assert impostor.refusal == ""  # by its name
    with pytest.raises(InputError, match="other weights"):
        impostor._find("bert", 0)


def test_a_model_of_the_same_weights_will_do(heads: Heads, shelf: dict[str, attnxr.Model]) -> None:
    twin = {"twin": shelf["bert"]}
    assert Opening(heads, State(["twin"]), twin.__getitem__, twin.get).refusal == ""


@pytest.mark.parametrize("asked", [(-1, 0, 0), (10**6, 0, 0), (0, -1, 0), (0, 10**6, 0), (0, 0, -1), (0, 0, 10**6)])
def test_what_is_not_there_is_not_opened(
    heads: Heads, shelf: dict[str, attnxr.Model], asked: tuple[int, int, int]
) -> None:
    opening = Opening(heads, State(["bert"]), shelf.__getitem__, shelf.get)
    opening(*asked)
    assert heads.opening == ""
