"""A model in the precision that is asked for: as from_pretrained gives it, and the caller's left as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import attnxr
from attnxr.errors import InputError
from tests.support import models

IDS = [5, 9, 17, 6]


def bits(hf_model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in hf_model.state_dict().items()}


def weights_of(model: attnxr.Model) -> Any:
    return model._hf_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half")
    models.byte_level_tokenizer().save_pretrained(folder)
    models.tiny_roberta().to(torch.float16).save_pretrained(folder)
    return folder


def test_a_checkpoint_is_loaded_as_it_is_stored(folder: Path) -> None:
    model = attnxr.load_model(folder)
    assert {each.dtype for each in weights_of(model).parameters()} == {torch.float16}
    assert attnxr.load_model(folder, dtype="auto").fingerprint == model.fingerprint


@pytest.mark.parametrize("dtype", ["float32", torch.float32, "bfloat16", torch.bfloat16, "float16", "float64"])
def test_a_checkpoint_is_loaded_as_it_is_asked_for(folder: Path, dtype: Any) -> None:
    model = attnxr.load_model(folder, dtype=dtype)
    expected = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert {each.dtype for each in weights_of(model).parameters()} == {expected}
    assert model.neighbors(model.encode(token_ids=IDS), k=2).sizes["rank"] == 2
    # The same as a model that is cast once it is there.
    stored = transformers.AutoModel.from_pretrained(folder, dtype="auto")
    cast = attnxr.Model(stored, dtype=dtype).encode(token_ids=IDS)
    np.testing.assert_array_equal(cast["head_encoding"].values, model.encode(token_ids=IDS)["head_encoding"].values)


@pytest.mark.parametrize("make", [models.tiny_roberta, models.tiny_bert])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_callers_model_is_left_as_it_is(make: Any, dtype: str) -> None:
    hf_model = make()
    before, places = bits(hf_model), [each.data_ptr() for each in hf_model.parameters()]
    model = attnxr.Model(hf_model, dtype=dtype)
    enc = model.encode(token_ids=IDS)
    assert enc["head_encoding"].dtype == np.float32
    assert [each.data_ptr() for each in hf_model.parameters()] == places
    assert {each.dtype for each in hf_model.parameters()} == {torch.float32}
    assert all(torch.equal(before[name], each) for name, each in hf_model.state_dict().items())
    assert hf_model.config.dtype in (None, torch.float32)
    # As the caller's own cast, of a copy.
    cast = attnxr.Model(copy.deepcopy(hf_model).to(getattr(torch, dtype)))
    assert enc["head_encoding"].equals(cast.encode(token_ids=IDS)["head_encoding"])
    # What becomes of the given model later does not reach the copy.
    with torch.no_grad():
        next(hf_model.parameters()).add_(1)
    assert model.encode(token_ids=IDS)["head_encoding"].equals(enc["head_encoding"])


def test_a_model_that_is_in_it_already_is_shared() -> None:
    hf_model = models.tiny_roberta()
    for dtype in ("auto", "float32", torch.float32):
        assert weights_of(attnxr.Model(hf_model, dtype=dtype)) is hf_model


def test_tied_weights_stay_tied_and_are_cast_once() -> None:
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2, tie_word_embeddings=True
    )
    hf_model = transformers.GPT2LMHeadModel(config)
    assert hf_model.lm_head.weight is hf_model.transformer.wte.weight
    cast = weights_of(attnxr.Model(hf_model, dtype="bfloat16"))
    assert cast.lm_head.weight is cast.transformer.wte.weight
    assert cast.lm_head.weight.dtype == torch.bfloat16
    assert cast.config.dtype == torch.bfloat16


def test_the_angles_of_a_rotary_model_stay_exact() -> None:
    config = transformers.LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    hf_model = transformers.LlamaModel(config).eval()
    cast = weights_of(attnxr.Model(hf_model, dtype="bfloat16"))
    assert cast.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(cast.rotary_emb.inv_freq, hf_model.rotary_emb.inv_freq)
    assert {each.dtype for each in cast.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", ["half", "int8", torch.int8, torch.complex64, 16, None, np.float32, "torch.float32"])
def test_what_is_no_precision_is_refused(folder: Path, dtype: Any) -> None:
    with pytest.raises(InputError, match=r"dtype=.*expected 'auto'.*'bfloat16'"):
        attnxr.load_model(folder, dtype=dtype)
    with pytest.raises(InputError, match="dtype="):
        attnxr.Model(models.tiny_roberta(), dtype=dtype)


def test_a_quantised_model_is_refused() -> None:
    hf_model = models.tiny_roberta()
    hf_model.quantization_method = "bitsandbytes"
    with pytest.raises(InputError, match="quantised"):
        attnxr.Model(hf_model, dtype="bfloat16")


def test_what_cannot_be_copied_is_refused_with_advice() -> None:
    hf_model = models.tiny_roberta()
    hf_model.notes = (each for each in "a generator")
    with pytest.raises(InputError, match=r"hf_model\.to\(torch\.bfloat16\)"):
        attnxr.Model(hf_model, dtype="bfloat16")


def test_a_copy_of_a_cast_model_is_cast() -> None:
    model = attnxr.Model(models.tiny_roberta(), dtype="bfloat16")
    again = copy.deepcopy(model)
    assert again.fingerprint == model.fingerprint
    assert {each.dtype for each in weights_of(again).parameters()} == {torch.bfloat16}
