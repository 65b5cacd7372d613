"""What heads promote that read a token is what slow products in float64 say; heads made to copy or suppress do."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import attnxr
from attnxr.errors import InputError, UnsupportedModelError
from tests.support import attributed
from tests.support.attributed import causal
from tests.support.cases import Case
from tests.support.family_options import SIZES
from tests.support.oracles import Array

V, H = 67, 4


@cache
def model(family: str) -> attnxr.Model:
    return attnxr.Model(attributed.build(family))


def normed(x: Array, weight: Array, bias: Array | float = 0.0, centred: bool = True, eps: float | None = None) -> Array:
    """A norm of rows; without eps, one that leaves out the scale."""
    x = x - x.mean(-1, keepdims=True) if centred else x
    scale = 1.0 if eps is None else np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return x / scale * weight + bias


def slow(family: str, layer: int, after_first_block: bool = False) -> Array:
    """Products (H, V read, V) of all tokens, each of which is a text of its own, with no position, in float64."""
    hf_model = attributed.build(family).double()
    config = hf_model.config
    p = {name: tensor.detach().numpy() for name, tensor in hf_model.state_dict().items()}
    with torch.no_grad():
        for name, parameter in hf_model.named_parameters():
            if "wpe" in name or "position_embeddings" in name:
                parameter.zero_()
        states = hf_model(input_ids=torch.arange(V)[:, None], output_hidden_states=True).hidden_states
    x = states[1 if after_first_block and layer else 0][:, 0].numpy()
    groups = H // getattr(config, "num_key_value_heads", H)
    if family == "gpt2":
        name = f"transformer.h.{layer}"
        x = normed(x, p[f"{name}.ln_1.weight"], p[f"{name}.ln_1.bias"], eps=config.layer_norm_epsilon)
        value = (x @ p[f"{name}.attn.c_attn.weight"] + p[f"{name}.attn.c_attn.bias"])[:, 64:]
        matrix, out = p[f"{name}.attn.c_proj.weight"].T, p["lm_head.weight"]
        after: list[Any] = [(p["transformer.ln_f.weight"], True)]
    elif family in attributed.CAUSAL:
        name, more = f"model.layers.{layer}", 1.0 if family == "gemma2" else 0.0
        x = normed(x, p[f"{name}.input_layernorm.weight"] + more, centred=False, eps=config.rms_norm_eps)
        value = x @ p[f"{name}.self_attn.v_proj.weight"].T + p.get(f"{name}.self_attn.v_proj.bias", 0.0)
        matrix, out = p[f"{name}.self_attn.o_proj.weight"], p["lm_head.weight"]
        after = [(p["model.norm.weight"] + more, False)]
        if family == "gemma2":
            after.insert(0, (p[f"{name}.post_attention_layernorm.weight"] + more, False))
    else:
        name = f"{family}.encoder.layer.{layer}.attention"
        value = x @ p[f"{name}.self.value.weight"].T + p[f"{name}.self.value.bias"]
        matrix, out = p[f"{name}.output.dense.weight"], p[f"{family}.embeddings.word_embeddings.weight"]
        after = []
        for i in range(layer, config.num_hidden_layers):
            for norm in ("attention.output.LayerNorm", "output.LayerNorm"):
                after.append((p[f"{family}.encoder.layer.{i}.{norm}.weight"], True))
    value = np.repeat(value.reshape(V, H // groups, -1), groups, axis=1)
    size = value.shape[2]
    products = np.empty((H, V, V))
    for h in range(H):
        written = value[:, h] @ matrix[:, h * size : (h + 1) * size].T
        for weight, centred in after:
            written = normed(written, weight, centred=centred)
        products[h] = written @ out.T
    return products


@pytest.mark.parametrize("after_first_block", [False, True])
@pytest.mark.parametrize("family", attributed.FAMILIES)
def test_ranks_and_words_are_those_of_slow_products(family: str, after_first_block: bool) -> None:
    found = attnxr.vocabulary_map(model(family), sample=V, k=3, after_first_block=after_first_block)
    assert found["vocab"].values.tolist() == list(range(V))
    for layer in found["layer"].values.tolist():
        true = slow(family, layer, after_first_block)
        here = found.sel(layer=layer)
        slack = 1e-5 * np.abs(true).max()
        own = true[:, np.arange(V), np.arange(V)][..., None]
        for name, sign in (("own_rank", 1), ("lowest_rank", -1)):
            surely, perhaps = (1 + (sign * (true - own) > far).sum(-1) for far in (slack, -slack))
            rank = here[name].values
            assert (surely <= rank).all()
            assert (rank <= perhaps).all()
        order = np.sort(true, axis=-1)
        for kind, ends in (("promoted", order[..., ::-1][..., :3]), ("suppressed", order[..., :3])):
            np.testing.assert_allclose(here[f"{kind}_logit"].values, ends, atol=slack)
            at = np.take_along_axis(true, here[f"{kind}_id"].values.astype(int), -1)
            np.testing.assert_allclose(at, ends, atol=slack)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_head_made_to_copy_copies(sign: int) -> None:
    """W_V W_O is the identity, or its negative, and the embeddings are tied, of one length and without a mean."""
    hf_model = causal("gpt2", {"n_head": 1, "num_attention_heads": 1, "n_inner": 48})
    width = hf_model.config.hidden_size
    with torch.no_grad():
        words = hf_model.transformer.wte.weight
        words.sub_(words.mean(1, keepdim=True))
        words.div_(words.norm(dim=1, keepdim=True))
        for norm in (hf_model.transformer.h[1].ln_1, hf_model.transformer.ln_f):
            norm.weight.fill_(1)
            norm.bias.zero_()
        attention = hf_model.transformer.h[1].attn
        attention.c_attn.weight[:, 2 * width :] = torch.eye(width)
        attention.c_attn.bias[2 * width :] = 0
        attention.c_proj.weight.copy_(sign * torch.eye(width))
    assert hf_model.lm_head.weight is words
    found = attnxr.vocabulary_map(attnxr.Model(hf_model), layers=1, sample=V, k=1)
    ranks = {1: found["own_rank"], -1: found["lowest_rank"]}
    assert (ranks[sign] == 1).all()
    assert (ranks[-sign] == V).all()
    kind = {1: "promoted_id", -1: "suppressed_id"}[sign]
    assert (found[kind].isel(rank=0) == found["vocab"]).all()


def test_a_choice_is_a_part_of_the_whole() -> None:
    whole = attnxr.vocabulary_map(model("llama"), sample=V, k=2)
    some = attnxr.vocabulary_map(model("llama"), layers=[2, 0], heads=3, tokens=[40, 7], k=2)
    expected = whole.sel(layer=[2, 0], head=[3], vocab=[40, 7])
    for name in ("own_rank", "lowest_rank", "promoted_id", "suppressed_id"):
        np.testing.assert_array_equal(some[name].values, expected[name].values)
    drawn = attnxr.vocabulary_map(model("llama"), layers=0, sample=9, seed=4)
    assert (drawn.sizes["vocab"], drawn.attrs["sample"], drawn.attrs["seed"]) == (9, 9, 4)
    again = attnxr.vocabulary_map(model("llama"), layers=0, sample=9, seed=4)
    np.testing.assert_array_equal(drawn["promoted_id"].values, again["promoted_id"].values)
    other = attnxr.vocabulary_map(model("llama"), layers=0, sample=9, seed=5)
    assert drawn["vocab"].values.tolist() != other["vocab"].values.tolist()


def test_what_is_left_out_is_said() -> None:
    assert attnxr.vocabulary_map(model("roberta"), layers=0, sample=2).attrs["transform"] == "left out"
    assert attnxr.vocabulary_map(model("gpt2"), layers=0, sample=2).attrs["transform"] == "none"


def test_what_cannot_be_mapped_is_refused(minilm: Case) -> None:
    with pytest.raises(UnsupportedModelError, match="no output embeddings"):
        attnxr.vocabulary_map(minilm.model)
    asked = model("gpt2")
    for options, named in (
        ({"layers": 3}, "layers"),
        ({"heads": [0, 0]}, "heads"),
        ({"tokens": [V]}, "out of range"),
        ({"tokens": []}, "No tokens"),
        ({"tokens": ["no such"]}, "no such"),
        ({"tokens": [1], "sample": 3}, "one of the two"),
        ({"sample": V + 1}, "sample"),
        ({"k": 0}, "k="),
        ({"after_first_block": 1}, "after_first_block"),
    ):
        with pytest.raises(InputError, match=named):
            attnxr.vocabulary_map(asked, **options)  # type: ignore[arg-type]
    sizes = SIZES | {"embedding_size": 20}
    narrow = transformers.ElectraForMaskedLM(transformers.ElectraConfig(**sizes)).eval()
    with pytest.raises(UnsupportedModelError, match="32 numbers and output embeddings of 20"):
        attnxr.vocabulary_map(attnxr.Model(narrow))
