"""Only what the model answers can be chosen, and a choice takes along what no longer goes with it."""

from __future__ import annotations

from itertools import product

import pytest

import attnxr
from attnxr.dashboard.session.asking import PRESETS, Offered, no_meaning, preset
from attnxr.options import NAMED_LAYERS, OF, SPACES
from tests.query.test_offered import MODELS, encoded


@pytest.fixture(scope="module", params=["bert", "llama"])
def model(request: pytest.FixtureRequest) -> attnxr.Model:
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def offered(model: attnxr.Model) -> Offered:
    return Offered(model.questions(), tuple(range(model.n_layers)))


def reached(offered: Offered) -> set[tuple]:
    """All questions that can be come to from the demo's, by one choice after the other."""
    found, new = set(), {PRESETS["as the demo"]}
    while new:
        found |= new
        steps = set()
        for asked in new:
            of, space, layer = asked
            lists = {
                "of": offered.vectors(),
                "space": offered.spaces(of),
                "vocab_layer": offered.vocab_layers(of, space, layer),
            }
            steps |= {
                offered.changed(asked, **{name: each.value})
                for name, choices in lists.items()
                for each in choices
                if not each.refusal
            }
        new = steps - found
    return found


def test_all_that_is_answered_can_be_chosen_and_nothing_else(model: attnxr.Model, offered: Offered) -> None:
    encodings, refusal = encoded(model), model.questions().refusal
    found = reached(offered)
    named = {each for each in found if isinstance(each[2], str)}
    assert named == {
        each
        for each in product(OF, SPACES, NAMED_LAYERS)
        if refusal.sel(dict(zip(("of", "space", "vocab_layer"), each, strict=True))).item() == ""
    }
    for of, space, layer in found:
        model.neighbors(encodings, k=1, of=of, space=space, vocab_layer=layer)
    assert {layer for _of, _space, layer in found} == {*NAMED_LAYERS, *range(model.n_layers)}


def test_what_is_chosen_is_what_is_asked(offered: Offered) -> None:
    demo = PRESETS["as the demo"]
    for each in offered.vectors():
        assert (offered.changed(demo, of=each.value)[0] == each.value) == (not each.refusal)
    assert offered.changed(("encoding", "key", 2), of="query") == ("query", "key", 2)
    assert offered.changed(("encoding", "key", 2), of="hidden") == ("hidden", "embedding", "input")


def test_a_layer_that_is_not_there_is_refused(offered: Offered) -> None:
    assert "no layer 9; the layers are 0, 1, 2" in offered.refusal("encoding", "value", 9)


@pytest.mark.parametrize("words", PRESETS)
def test_what_people_ask_has_a_meaning_and_is_known_again(words: str) -> None:
    assert no_meaning(*PRESETS[words]) == ""
    assert preset(PRESETS[words]) == words


def test_another_question_is_none_of_them() -> None:
    assert preset(("encoding", "key", 1)) == ""


def test_before_a_model_is_known_all_that_has_a_meaning_is_offered() -> None:
    assert not any(each.refusal for each in Offered().vectors())
    assert [each.value for each in Offered().spaces("residual")] == ["embedding", "unembedding"]
    assert [each.value for each in Offered().vocab_layers("residual", "embedding", "input")] == ["input"]
