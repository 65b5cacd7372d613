"""Whatever is asked, one sentence says it, and no two questions are said alike."""

from __future__ import annotations

from itertools import product

import pytest

from attnxr.asked import sentence, short
from attnxr.dashboard.session.asking import no_meaning
from attnxr.options import METRICS, OF, SPACES

QUESTIONS = [
    {"of": of, "space": space, "vocab_layer": layer, "metric": metric, "positional": positional}
    for of, space, layer, metric, positional in product(OF, SPACES, ("input", "same", 2), METRICS, (True, False))
    if not no_meaning(of, space, layer) and (positional or space != "unembedding")  # which have no positions
]


@pytest.mark.parametrize("words", [sentence, short])
def test_no_two_questions_are_said_alike(words: object) -> None:
    said = [words(each) for each in QUESTIONS]  # type: ignore[operator]
    assert len(set(said)) == len(said) == 324
    assert all("None" not in each and "_" not in each for each in said)


def test_the_demo_s_question_in_words() -> None:
    asked = {"of": "encoding", "space": "value", "vocab_layer": "input", "metric": "cosine", "positional": True}
    assert sentence(asked) == (
        "Which vocabulary tokens have values in the first layer, at the same position, nearest by cosine to what each "
        "head wrote?"
    )
    assert short(asked | {"positional": False}) == (
        "head encodings, values in the first layer, cosine, without positions"
    )


def test_a_word_that_is_no_option_stands_as_it_is() -> None:
    strange = {"of": "<b>", "space": "x", "vocab_layer": "y", "metric": "z", "positional": 1}
    assert sentence(strange) == "Which vocabulary tokens have x, at the same position, nearest by z to <b>?"
