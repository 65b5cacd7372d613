"""Families that do something else than the rest somewhere: what can be right of them is, and the rest is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

import attnxr
from attnxr.errors import InputError, UnsupportedModelError
from tests.support import models
from tests.support.cases import Case
from tests.support.families import build
from tests.support.family_options import DEEPSEEK, LATENT, SIZES

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]


def check(model: attnxr.Model) -> None:
    """Fail unless the three checks pass, and what layer 0 was handed is found in its own space."""
    assert model.verify().attrs["passed"] == 1
    enc = model.encode(token_ids=TEXT, include=["key_vector", "value_vector"])
    for of in ("key", "value"):
        near = model.neighbors(enc.isel(layer=[0]), k=1, metric="euclidean", of=of, space=of)
        assert (near.own_rank == 1).all()
    groups = model.n_heads // model.n_kv_heads
    summed = enc.attention.values @ np.repeat(enc["value_vector"].values, groups, axis=1)
    np.testing.assert_allclose(enc["head_encoding"], summed, atol=1e-4)


@pytest.mark.parametrize("family", ["deepseek_v32", "glm_moe_dsa"])
def test_sparse_attention_sees_the_keys_that_it_picks(family: str) -> None:
    """These mask what an indexer left out, and only where the implementation is called "eager" or "sdpa"."""
    hf_model = build(
        family, DEEPSEEK | {"index_topk": 3, "index_n_heads": 2, "index_head_dim": 8, "n_shared_experts": 1}
    )
    model = attnxr.Model(hf_model)
    check(model)
    assert ((model.encode(token_ids=TEXT).attention > 0).sum("key_position").max() == 3).item()


def test_weights_are_those_that_make_the_encodings_where_a_sink_scales_them() -> None:
    model = attnxr.Model(build("granite_swa", {"num_key_value_heads": 2, "sliding_window": 4}))
    check(model)
    assert (model.encode(token_ids=TEXT).attention.sum("key_position") < 0.999).any()


def test_layers_of_two_attentions_each_have_no_stream_between_them() -> None:
    options = LATENT | {"num_layers": 2, "qk_rope_head_dim": 4, "head_dim": 4, "expert_ffn_hidden_size": 24}
    options |= {"ffn_hidden_size": 48, "n_routed_experts": 4, "zero_expert_num": 2, "moe_topk": 2}
    hf_model: Any = build("longcat_flash", options)
    model = attnxr.Model(hf_model)
    check(model)
    assert model.n_layers == 2 * len(hf_model.layers)
    with pytest.raises(UnsupportedModelError, match="one block each"):
        model.encode(token_ids=TEXT, include=["hidden"])
    with pytest.raises(InputError, match="one block each"):
        model.neighbors(model.encode(token_ids=TEXT), k=2, vocab_layer="same")


def test_a_hybrid_has_the_numbers_of_its_layers_with_attention() -> None:
    options = {"attn_layer_period": 2, "attn_layer_offset": 0, "use_mamba_kernels": False, "mamba_d_state": 8}
    options |= {"num_key_value_heads": 2, "mamba_dt_rank": 4, "num_experts": 2, "num_hidden_layers": 4}
    model = attnxr.Model(build("jamba", options))
    check(model)
    enc = model.encode(token_ids=TEXT, include=["hidden"])
    assert enc.layer.values.tolist() == [0, 2]
    near = model.neighbors(enc, k=3, vocab_layer=2)
    assert near.layer.values.tolist() == [0, 2]
    with pytest.raises(InputError, match="0, 2"):
        model.neighbors(enc, k=3, vocab_layer=1)


@pytest.mark.parametrize("name", ["Bart", "MBart", "Whisper"])
def test_the_decoder_of_an_encoder_decoder_is_a_decoder(name: str) -> None:
    sizes = {"vocab_size": 67, "d_model": 32, "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    sizes |= {"encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 48, "pad_token_id": 1}
    limits = {"max_position_embeddings": 48, "max_target_positions": 48, "decoder_start_token_id": 2}
    config = getattr(transformers, f"{name}Config")(**sizes, **limits, bos_token_id=0, eos_token_id=2)
    torch.manual_seed(0)
    model = attnxr.Model(getattr(transformers, f"{name}ForCausalLM")(config).eval())
    check(model)
    assert model.max_tokens == 48
    assert model.verification.path == "factored"
    assert model.encode(token_ids=TEXT).attrs["causal"] == 1
    enc = model.encode(token_ids=TEXT * 6, include=["hidden"])
    assert model.neighbors(enc, k=2, of="hidden", space="unembedding").own_rank.shape == (3, 48)
    assert attnxr.Model(getattr(transformers, f"{name}Model")(config).eval()).stacks == ("encoder", "decoder", "cross")


@pytest.mark.parametrize("name", ["Bart", "MBart", "PLBart", "M2M100", "NllbMoe", "Pegasus", "Marian", "Blenderbot"])
def test_the_encoder_of_an_encoder_decoder_is_an_encoder(name: str) -> None:
    """BART's positions come from a module that is handed a feature of the embeddings, M2M100's from ids and them."""
    sizes = {"vocab_size": 67, "d_model": 32, "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    sizes |= {"encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 48, "pad_token_id": 1}
    sizes |= {"max_position_embeddings": 48, "decoder_start_token_id": 2, "bos_token_id": 0, "eos_token_id": 2}
    config = getattr(transformers, f"{name}Config")(**sizes)
    hf_model = models.randomise(getattr(transformers, f"{name}Model")(config), seed=4).get_encoder()
    model = attnxr.Model(hf_model)
    check(model)
    enc = model.encode(token_ids=TEXT, include=["value_vector"])
    near = model.neighbors(enc, k=5, metric="euclidean")
    with_each = torch.tensor(TEXT).repeat(67, 1)
    with_each[:, 3] = torch.arange(67)  # what the model itself makes of every entry, within a text
    seen: list[torch.Tensor] = []
    hook = hf_model.layers[0].self_attn.v_proj.register_forward_hook(lambda _m, _i, out: seen.append(out[:, 3]))
    with torch.no_grad():
        hf_model(input_ids=with_each)
    hook.remove()
    vocabulary = seen[0].reshape(67, 4, 8).transpose(0, 1).numpy()
    Case.check_position(near, 3, "euclidean", enc["head_encoding"].sel(position=3).values, vocabulary)


def test_a_model_with_pictures_is_looked_into_as_the_text_model_it_has() -> None:
    text = transformers.LlamaConfig(**SIZES, num_key_value_heads=2)
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4
    )
    torch.manual_seed(0)
    config = transformers.LlavaConfig(text_config=text, vision_config=vision, image_token_id=66)
    check(attnxr.Model(transformers.LlavaForConditionalGeneration(config).eval()))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("CLIPVision", {"image_size": 8, "patch_size": 4}),
        ("ViT", {"image_size": 8, "patch_size": 4}),
        ("Wav2Vec2", {"conv_dim": [8] * 7}),
    ],
)
def test_a_model_without_words_has_no_vocabulary(name: str, sizes: dict[str, Any]) -> None:
    sizes |= {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = getattr(transformers, f"{name}Config")(**sizes)
    with pytest.raises(UnsupportedModelError, match=name):
        attnxr.Model(getattr(transformers, f"{name}Model")(config))
