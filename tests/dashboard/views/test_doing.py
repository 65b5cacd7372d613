"""The panel on what a head's writing does says what the library says, of the head and the token that are chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import panel as pn
import pytest
import transformers
import xarray as xr
from panel.viewable import Viewer

import attnxr
from attnxr.dashboard import State, WhatItDoes
from attnxr.dashboard.compute import aspects
from attnxr.dashboard.compute.answering import answer_request
from attnxr.dashboard.parts import BarLists, Heading
from attnxr.dashboard.rows.doing import effect_rows, promoted_rows, role_note, role_rows, word_rows
from attnxr.dashboard.session.answer import Answer, Aspect
from attnxr.tokens import label
from tests.support import models

Compute = Callable[..., xr.Dataset]


def part(view: Viewer, kind: type[Any]) -> Any:
    (found,) = pn.panel(view).select(kind)
    return found


@pytest.fixture(scope="module")
def model() -> attnxr.Model:
    """One that has a head for language."""
    return attnxr.Model(models.tiny_bert(transformers.BertForMaskedLM), models.wordpiece_tokenizer(), name="bert")


@pytest.fixture
def answer(state: State, model: attnxr.Model) -> Answer:
    answer = answer_request(state.request, lambda _name: model, lambda _message, _fraction: None)
    state.land(answer)
    return answer


@pytest.fixture
def compute(answer: Answer, model: attnxr.Model) -> Compute:
    def compute(kind: str, *of: int | None) -> xr.Dataset:
        return aspects.compute(answer, model, Aspect(kind, *of), lambda _message, _fraction: None)

    return compute


def test_words_are_those_of_decompose(answer: Answer, model: attnxr.Model, compute: Compute) -> None:
    expected = attnxr.decompose(model, answer.encodings.isel(layer=[1]), n=5, vocab_layer="same")
    here = expected.isel(layer=0, head=1, position=3)
    rows = word_rows(compute("decomposition", 1), 1, 3)
    assert len(rows) == int((here.entry_id >= 0).sum())
    weights = here.weight.values[: len(rows)]
    for (name, length, weight, explained), one in zip(rows, range(len(rows)), strict=True):
        assert name == label(here.entry.values[one], here.entry_text.values[one])
        assert length == pytest.approx(weights[one] / weights.max())
        assert float(weight) == pytest.approx(weights[one], abs=6e-4)
        assert explained == f"{float(here.explained[one]):.0%}"


def test_changes_are_those_of_effects_and_of_the_words_together(
    answer: Answer, model: attnxr.Model, compute: Compute
) -> None:
    here = answer.encodings.isel(layer=[1])
    words = attnxr.decompose(model, here, n=5, vocab_layer="same", include=["approximation"])
    of_words = model.replace(here, words.approximation.isel(step=-1, drop=True))["kl_anywhere"]
    found = attnxr.effects(model, here)["kl_anywhere"].drop_vars("replacement")
    changes = xr.concat([found, of_words], "replacement").isel(layer=0, head=2, position=4).values
    mean = changes[1]
    rows = effect_rows(compute("effects", 1, 2, 4))
    nearest = model.neighbors(here, k=1, vocab_layer="same").isel(layer=0, head=2, position=4, rank=0)
    own = label(here.token.values[4], here.text.values[4])
    assert [name for name, *_ in rows] == [
        "nothing",
        "its mean over the text",
        f"the nearest word, “{label(nearest.neighbor.item(), nearest.neighbor_text.item())}”",
        f"its own token, “{own}”",
        "words that add up to it",
    ]
    np.testing.assert_allclose([length for _, length, *_ in rows], changes / changes.max(), rtol=1e-4)
    np.testing.assert_allclose([float(change) for _, _, change, _ in rows], changes, rtol=0.5, atol=6e-5)
    shares = [1 - change / mean for change in changes]
    assert rows[1][3] == ""
    for row, share in zip(rows, shares, strict=True):
        assert row[3] == "" or float(row[3].strip("< %").replace("−", "-")) == pytest.approx(
            max(100 * share, -1000), rel=1e-3, abs=0.6
        )


def test_promoted_words_and_places_are_those_of_the_library(
    answer: Answer, model: attnxr.Model, compute: Compute
) -> None:
    found = attnxr.promoted(model, answer.encodings.isel(layer=[0]), k=5).isel(layer=0, head=1, position=2)
    rows = promoted_rows(compute("promoted", 0), 1, 2)
    logits = [*found.promoted_logit.values, *found.suppressed_logit.values]
    assert [number for _, _, number, _ in rows] == [f"{logit:+.2f}" for logit in logits]
    assert [kind for *_, kind in rows] == ["promoted"] * 5 + ["suppressed"] * 5
    assert max(abs(length) for _, length, *_ in rows) == pytest.approx(1)
    assert [name for name, *_ in rows[:5]] == [
        label(*pair) for pair in zip(found.promoted.values, found.promoted_text.values, strict=True)
    ]

    roles = attnxr.roles(answer.encodings)
    shown = {name: share for name, _, share, _ in role_rows(compute("roles", None), 1, 2)}
    assert shown["itself"] == f"{float(roles.self_attention_score[1, 2]):.2f}"
    assert shown["the previous token"] == f"{float(roles.prev_token_score[1, 2]):.2f}"
    assert role_note(roles, 1, 2).startswith(f"{float(roles.qk_distance[1, 2]):.1f} tokens away")


def test_it_waits_follows_and_asks_only_while_it_is_open(state: State, answer: Answer, compute: Compute) -> None:
    state.select(layer=1, head=1, position=2)
    view = WhatItDoes(state)
    lists = part(view, BarLists)
    kinds = {"decomposition": (1,), "effects": (1, 1, 2), "promoted": (1,), "roles": (None,)}
    assert set(state.wanted) == {Aspect(kind, *of) for kind, of in kinds.items()}
    assert [(each["rows"], each["wait"]) for each in lists.lists] == [([], "computing…")] * 4
    for kind, of in kinds.items():
        state.land_aspect(answer, Aspect(kind, *of), compute(kind, *of))
    words, effects, promoted, roles = (each["rows"] for each in lists.lists)
    assert words == word_rows(compute("decomposition", 1), 1, 2)
    assert effects == effect_rows(compute("effects", 1, 1, 2))
    assert promoted == promoted_rows(compute("promoted", 1), 1, 2)
    assert roles == role_rows(compute("roles", None), 1, 1)
    state.select(head=2, position=4)
    assert lists.lists[0]["rows"] == word_rows(compute("decomposition", 1), 2, 4)
    assert Aspect("effects", 1, 2, 4) in state.wanted
    assert lists.lists[1]["rows"] == []
    assert part(view, Heading).detail.endswith("at position 4")

    view.shown = False
    assert state.wanted == []
    state.text = "Fruit flies."
    view.shown = True
    assert lists.lists == []


def test_a_model_without_a_head_for_language_says_so_in_its_place(
    answered: State, shelf: dict[str, attnxr.Model]
) -> None:
    answer = answered.answer
    assert answer is not None
    with pytest.raises(attnxr.UnsupportedModelError, match="no output embeddings") as refused:
        aspects.compute(answer, shelf["bert"], Aspect("promoted", 0), lambda _message, _fraction: None)
    answered.land_aspect(answer, Aspect("promoted", 0), str(refused.value))
    view = WhatItDoes(answered)
    assert part(view, BarLists).lists[2]["wait"] == str(refused.value)
