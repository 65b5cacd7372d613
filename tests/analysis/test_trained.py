"""A model that was trained to have an induction head is found to have one, and the same model untrained is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from torch.nn import functional

import attnxr
from attnxr.analysis.roles import MEASURES
from tests.support import oracles, trained

LENGTHS = (6, 12, 16)  # of blocks: the first is shorter than any that it was trained on


def measured(model: attnxr.Model, length: int) -> xr.Dataset:
    texts = attnxr.random_repeats(model, length=length, n=16, seed=7)
    return attnxr.roles(model.encode(token_ids=ids) for ids in texts)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_induction_head_is_found(inducing: attnxr.Model, length: int) -> None:
    """A head of the second layer puts most of its attention where the token was followed before."""
    found = measured(inducing, length)
    assert found.induction_score.sel(layer=1).max() > 0.6
    assert found.induction_score.sel(layer=0).max() < 0.2
    assert found.prev_token_score.sel(layer=0).max() > 0.5


def test_the_untrained_model_has_none() -> None:
    found = measured(attnxr.Model(trained.untrained(), trained.tokenizer()), 12)
    # Even attention gives each of up to 25 tokens its share, where one is looked for in the second half.
    even = np.mean([1 / (place + 1) for place in range(13, 25)])
    assert even / 2 < found.induction_score.min() < found.induction_score.max() < 2 * even
    assert found.prev_token_score.max() < 0.25


def test_what_repeats_is_known_and_what_is_new_is_not(inducing: attnxr.Model) -> None:
    length = 12
    ids = torch.tensor(attnxr.random_repeats(inducing, length=length, n=16, seed=7))
    with torch.no_grad():
        logits = inducing.hf_model(ids).logits
    loss = functional.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").mean(dim=0)
    assert loss[:length].mean() > np.log(len(trained.WORDS))  # nobody can know these
    assert loss[length + 1 :].mean() < 0.3


def test_roles_of_the_trained_equal_the_slow_loops(inducing: attnxr.Model) -> None:
    texts = [inducing.encode(text) for text in ("a b c D a b c D", "x y x y x 1", "q")]
    found = attnxr.roles(texts)
    known, counts = oracles.roles(
        (each.attention.values, each.token_id.values, each.is_special.values, 1, range(each.sizes["position"]))
        for each in texts
    )
    for name in MEASURES:
        assert found.n_positions.sel(measure=name) == counts.get(name, 0)
        if name in known:
            np.testing.assert_allclose(found[name].values, known[name], rtol=1e-9, atol=1e-12)
    assert inducing.encode("a b").token.values.tolist() == ["<s>", "a", "b"]


def test_the_same_seed_trains_the_same_model() -> None:
    first, second = (trained.train(steps=3).state_dict() for _ in range(2))
    for name, weights in first.items():
        torch.testing.assert_close(weights, second[name])
