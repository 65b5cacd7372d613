"""Significance and effects over a sample are what the analyses say of its texts, put together."""

from __future__ import annotations

import numpy as np
import pytest

import attnxr
from attnxr.corpus.measures import MEASURES
from tests.support import corpus
from tests.support.families import FAMILIES

BODIES = [[5, 9, 7], [8, 8, 6], [], [9, 5, 40, 41], [7]]


@pytest.fixture(scope="module", params=["roberta", "gpt2"])
def made(request: pytest.FixtureRequest) -> tuple:
    if request.param == "roberta":
        model, texts = request.getfixturevalue("roberta").model, [[0, *body, 2] for body in BODIES]
    else:
        model, texts = attnxr.Model(FAMILIES["gpt2"].build()), [[6, *body] for body in BODIES]
    return model, corpus.facts(model, texts, request.param == "gpt2"), corpus.batches(model, texts)


def test_shares_of_significant_vectors(made: tuple) -> None:
    model, facts, shown = made
    measure = MEASURES["significance"]()
    state = corpus.state_of(measure, facts, shown, model)
    found = measure.finish(state, facts)
    near, own, n = 0, 0, 0
    for each in shown:
        for number, enc in zip(each.batch.text.tolist(), each.encodings, strict=True):
            written = enc.isel(position=~enc.is_special.values)
            if written.sizes["position"]:
                p = attnxr.significance(model, written, draws=19, k=1, seed=corpus.SEED + number)
                near, own = near + (p.nearest_p < 0.0500001).sum("position"), own + (p.own_p <= 0.05).sum("position")
                n += written.sizes["position"]
    np.testing.assert_allclose(found.nearer_share, near / n, rtol=1e-12)
    np.testing.assert_allclose(found.own_nearer_share, own / n, rtol=1e-12)
    assert found.n_tested == n
    parts = [corpus.state_of(measure, facts, shown[:2], model), corpus.state_of(measure, facts, shown[2:], model)]
    assert all((measure.merge(*parts)[name] == state[name]).all() for name in state)


def test_recovered_shares_are_of_sums_over_texts(made: tuple) -> None:
    model, facts, shown = made
    measure = MEASURES["effects"]()
    state = corpus.state_of(measure, facts, shown, model)
    found = measure.finish(state, facts)
    changes = []
    for each in shown:
        for enc in each.encodings:
            written = enc.isel(position=~enc.is_special.values)
            if written.sizes["position"]:
                by = attnxr.effects(model, written, by=["mean", "neighbor", "own"], together=["position"])
                changes.append(
                    by["hidden_change_anywhere"].squeeze(drop=True).transpose("layer", "head", "replacement")
                )
    assert found.n_replaced == len(changes)
    total = sum(change.values for change in changes)
    np.testing.assert_allclose(found.change, total / len(changes), rtol=1e-12, atol=1e-15)
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_allclose(found.recovered, 1 - total / total[..., :1], rtol=1e-12, atol=1e-15)
    assert found["replacement"].values.tolist() == ["mean", "neighbor", "own"]
    parts = [corpus.state_of(measure, facts, shown[:2], model), corpus.state_of(measure, facts, shown[2:], model)]
    assert all((measure.merge(*parts)[name] == state[name]).all() for name in state)
