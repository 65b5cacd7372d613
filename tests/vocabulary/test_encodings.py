"""Vocabulary encodings are what layer 0 of the model itself computes, or there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import attnxr
from attnxr.errors import UnsupportedModelError
from attnxr.options import VARIABLE
from tests.support import models, oracles
from tests.support.cases import HEAD_VECTORS, INCLUDED, Case


@pytest.mark.parametrize("vector", HEAD_VECTORS)
def test_identity(case: Case, vector: Any) -> None:
    """The own token's vocabulary encoding is the vector that layer 0 computed in the real forward pass."""
    layer0 = case.enc.isel(layer=[0])
    near = case.model.neighbors(layer0, k=1, metric="euclidean", of=vector, space=vector)
    size = np.linalg.norm(layer0[VARIABLE[vector]].values, axis=-1)
    assert (near.own_distance.values <= 1e-5 * size).all()
    assert (near.own_rank == 1).all()
    assert (near.neighbor_id.isel(rank=0) == near.token_id).all()


@pytest.mark.parametrize("vector", HEAD_VECTORS)
def test_identity_holds_for_padding_typed_as_text(vector: Any, roberta: Case) -> None:
    """RoBERTa does not count padding as a position, wherever it stands."""
    enc = roberta.model.encode("Time<pad> flies<pad><pad> like", include=(VARIABLE[vector],)).isel(layer=[0])
    assert (enc.token_id == 1).sum() == 3
    near = roberta.model.neighbors(enc, k=1, metric="euclidean", of=vector, space=vector)
    assert (near.own_distance.values <= 1e-5 * np.linalg.norm(enc[VARIABLE[vector]].values, axis=-1)).all()


def test_a_head_that_attends_only_to_itself_finds_its_own_token(tiny: Case) -> None:
    """A text of one token: layer 0's head encoding is the token's value."""
    enc = tiny.model.encode(token_ids=[57])
    near = tiny.model.neighbors(enc.isel(layer=[0]), k=1, metric="euclidean")
    assert (near.own_rank == 1).all()
    assert (near.own_distance.values <= 1e-5 * np.linalg.norm(enc["head_encoding"][0].values, axis=-1)).all()


@pytest.mark.parametrize("vector", HEAD_VECTORS)
def test_encodings_are_exact_to_few_units_of_float32(case: Case, vector: Any) -> None:
    """The sum over the channels is taken in float64, so that what is stored is off by its rounding and no more."""
    one = case.enc.isel(layer=[0], position=[1])
    found = case.model.vocabulary_encodings(one, list(range(case.model.vocab_size)), of=vector, space=vector)
    assert oracles.relative_error(found.vocabulary_encoding.values[0, :, 0], case.vocabulary(vector, 1)) < 5e-7


def test_without_the_positional_term_all_positions_see_one_vocabulary(tiny: Case) -> None:
    """The same head encoding put at every position gets the same neighbours there."""
    same = tiny.enc.copy(deep=True)
    same["head_encoding"][:] = tiny.enc["head_encoding"].isel(position=3)
    off = tiny.model.neighbors(same, k=5, positional=False)
    on = tiny.model.neighbors(same, k=5, positional=True)
    assert (off.distance == off.distance.isel(position=0)).all()
    assert (on.distance != on.distance.isel(position=0)).any()


def test_verification_tells_what_was_compared(case: Case) -> None:
    verification = case.model.verification
    assert verification.path == "factored"
    assert 0 < verification.error <= verification.tolerance <= 1e-5
    assert verification.pairs > 1
    assert "factored" in str(verification)
    with pytest.raises(AttributeError):
        verification.error = 0.0


class Squashed(nn.LayerNorm):
    """Not affine, so that what the factored path assumes is false."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).tanh()


class SquashedBert(oracles.Bert):
    def norm(self, name: str, x: Any) -> Any:
        normed = super().norm(name, x)
        return np.tanh(normed) if name.startswith("embeddings") else normed


def with_embedding_norm(norm: nn.Module) -> Any:
    hf_model = models.tiny_bert()
    norm.load_state_dict(hf_model.embeddings.LayerNorm.state_dict())
    hf_model.embeddings.LayerNorm = norm
    return hf_model


def test_the_reference_path_serves_where_the_factored_path_is_not_right() -> None:
    hf_model = with_embedding_norm(Squashed(32, eps=1e-12))
    model = attnxr.Model(hf_model, models.wordpiece_tokenizer())
    assert model.verification.path == "reference"
    assert model.verification.error <= model.verification.tolerance
    squashed = Case(model, hf_model, models.SENTENCE, odd_oracle=SquashedBert(hf_model, model.vocab_size))
    for positional in (True, False):
        near = model.neighbors(squashed.enc, k=7, positional=positional)
        squashed.check(near, positional=positional)


class Mixed(nn.LayerNorm):
    """Lets each position see the others, so that no one-token sequence can stand for it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + x.mean(1, keepdim=True))


def test_a_model_that_neither_path_gets_right_is_refused() -> None:
    with pytest.raises(UnsupportedModelError):
        attnxr.Model(with_embedding_norm(Mixed(32, eps=1e-12)), models.wordpiece_tokenizer())


def test_a_t5_encoder_has_no_positions_in_its_vectors() -> None:
    """T5 tells positions apart by a bias on the attention scores, and so by nothing that a vector holds."""
    sizes = {"vocab_size": 60, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    hf_model = models.randomise(transformers.T5EncoderModel(transformers.T5Config(**sizes)), seed=3)
    model = attnxr.Model(hf_model)
    assert set(model.verification.paths.values()) == {"shared"}
    assert model.verify().attrs["passed"]
    enc = model.encode(token_ids=[5, 17, 17, 40], include=INCLUDED)
    for vector in HEAD_VECTORS:
        near = model.neighbors(enc.isel(layer=[0]), k=1, metric="euclidean", of=vector, space=vector)
        assert (near.own_rank == 1).all()
    np.testing.assert_allclose(enc["key_vector"][0].isel(position=1), enc["key_vector"][0].isel(position=2), atol=1e-5)
