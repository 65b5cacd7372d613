"""Layers of different shapes: those of one shape are looked into, and the rest of the model runs as always."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import attnxr
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.probe.layout import UnevenLayersError
from tests.support import attributed, models, oracles
from tests.support.families import FAMILIES, build
from tests.support.family_options import GEMMA4, LATENT

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
INCLUDE = ["query_vector", "key_vector", "value_vector", "residual", "hidden"]
SHARED = GEMMA4 | {  # the last two layers read keys and values of the two before them
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    "num_kv_shared_layers": 2,
}


@functools.lru_cache(maxsize=1)
def llama() -> tuple[attnxr.Model, attnxr.Model]:
    """An even model, whole, and its last two layers."""
    hf_model = FAMILIES["llama"].build()
    return attnxr.Model(hf_model), attnxr.Model(hf_model, layers=[1, 2])


@functools.lru_cache(maxsize=1)
def shared() -> tuple[Any, attnxr.Model]:
    hf_model = build("gemma4_text", SHARED).double()
    return hf_model, attnxr.Model(hf_model, layers=[0, 2, 4])


def test_the_refusal_says_which_groups_there_are() -> None:
    hf_model = FAMILIES["gemma4"].build()
    with pytest.raises(UnevenLayersError, match="layers of different shapes") as caught:
        attnxr.Model(hf_model)
    assert caught.value.groups == [[0, 2], [1, 3]]
    assert "layers=[0, 2]: 4 query and 2 value heads of 8 features" in str(caught.value)
    assert "layers=[1, 3]: 4 query and 1 value heads of 12 features" in str(caught.value)
    assert isinstance(caught.value, UnsupportedModelError)
    with pytest.raises(UnevenLayersError, match="different shapes"):
        attnxr.Model(hf_model, layers=[1, 2])
    for layers in caught.value.groups:
        assert attnxr.Model(hf_model, layers=layers).encode(token_ids=TEXT).layer.values.tolist() == layers


@pytest.mark.parametrize("layers", [[], [4], [-1], [0, 0], [True], "1"])
def test_layers_that_are_none_of_the_models_are_an_error(layers: Any) -> None:
    with pytest.raises(InputError, match=r"layers=.* was given"):
        attnxr.Model(FAMILIES["llama"].build(), layers=layers)


def test_layers_without_attention_cannot_be_chosen() -> None:
    with pytest.raises(InputError, match=r"has the layers 1, 3"):
        attnxr.Model(FAMILIES["lfm2"].build(), layers=[0, 1])


def test_chosen_layers_are_those_of_the_whole_model() -> None:
    whole, some = llama()
    enc, of_some = (each.encode(token_ids=TEXT, include=INCLUDE) for each in (whole, some))
    assert (some.n_layers, some.n_heads) == (2, whole.n_heads)
    xr.testing.assert_equal(of_some, enc.sel(layer=[1, 2]))
    asked: list[dict[str, Any]] = [
        {"vocab_layer": "same"},
        {"vocab_layer": 2, "metric": "euclidean"},
        {"of": "key", "space": "key", "vocab_layer": 1},
    ]
    for options in asked:
        near = whole.neighbors(enc.sel(layer=[1, 2]), k=5, **options)
        xr.testing.assert_equal(some.neighbors(of_some, k=5, **options), near)
    first = some.neighbors(of_some, k=5)  # the first of those that are looked into
    xr.testing.assert_equal(first, whole.neighbors(enc.sel(layer=[1, 2]), k=5, vocab_layer=1))
    cells = [each.isel(head=[3]).sel(layer=[2]) for each in (enc, of_some)]
    replaced = [model.replace(each, by=0 * each["head_encoding"]) for model, each in zip(llama(), cells, strict=True)]
    assert (replaced[0]["hidden_change"] > 1e-3).all()
    xr.testing.assert_allclose(replaced[1], replaced[0], rtol=1e-5)
    assert some.verify().attrs["passed"] == 1
    assert some.verify().layer.values.tolist() == [1, 2]


def test_encodings_are_those_of_the_layers_that_were_chosen() -> None:
    """What all are compared with, unless told otherwise, differs: so does the fingerprint."""
    whole, some = llama()
    with pytest.raises(InputError, match="fingerprint"):
        some.neighbors(whole.encode(token_ids=TEXT), k=2)
    assert some.fingerprint != whole.fingerprint
    with pytest.raises(InputError, match="has attention in the layers 1, 2"):
        some.neighbors(some.encode(token_ids=TEXT), k=2, vocab_layer=0)


def test_texts_that_run_together_have_the_chosen_layers() -> None:
    _, some = llama()
    batches = some.batches(layers=[2], heads=[0, 3])
    shown: list[tuple[int, tuple[int, ...]]] = []
    vectors = batches.run(np.array([TEXT, TEXT[::-1]]), None, lambda i, each: shown.append((i, tuple(each.shape))))
    assert shown == [(0, (2, 2, len(TEXT), len(TEXT)))]
    true = some.encode(token_ids=TEXT)["head_encoding"].sel(layer=2, head=[0, 3])
    np.testing.assert_allclose(vectors[0, :, 0], true, atol=1e-6)
    with pytest.raises(InputError, match="layers"):
        some.batches(layers=[0])


def test_copies_have_the_same_layers() -> None:
    _, some = llama()
    for other in (copy.deepcopy(some), pickle.loads(pickle.dumps(some))):
        assert other.fingerprint == some.fingerprint
        assert other.encode(token_ids=TEXT).layer.values.tolist() == [1, 2]


def test_a_model_is_loaded_with_chosen_layers(tmp_path: Any) -> None:
    hf_model = FAMILIES["gemma4"].build()
    folder = models.save(tmp_path / "gemma", hf_model, models.byte_level_tokenizer())
    with pytest.raises(UnevenLayersError):
        attnxr.load_model(folder)
    model = attnxr.load_model(folder, layers=np.array([1, 3]))  # type: ignore[arg-type]
    assert model.encode(token_ids=TEXT).layer.values.tolist() == [1, 3]
    assert model.loaded_as is not None
    assert model.loaded_as["layers"] == [1, 3]
    again = attnxr.load_model(**model.loaded_as)
    assert again.fingerprint == model.fingerprint


def test_parts_of_logits_count_the_other_layers_among_the_rest() -> None:
    hf_model = attributed.build("llama")
    whole, some = attnxr.Model(hf_model), attnxr.Model(hf_model, layers=[0, 2])
    ids = xr.DataArray([5, 60], dims="entry")
    parts = whole.logit_parts(whole.encode(token_ids=TEXT), ids)
    found = some.logit_parts(some.encode(token_ids=TEXT), ids)
    for name in ("head_logit", "feed_forward_logit"):
        xr.testing.assert_allclose(found[name], parts[name].sel(layer=[0, 2]), atol=1e-7)
    other = parts.sel(layer=1)
    np.testing.assert_allclose(
        found["rest_logit"] + found["bias_logit"],
        other["head_logit"].sum("head") + other["feed_forward_logit"] + parts["bias_logit"],
        atol=1e-7,
    )
    assert abs(found["remainder"]).max() <= 1e-6


def test_layers_that_read_what_another_one_kept_run_but_have_no_vocabulary() -> None:
    hf_model, model = shared()
    enc = model.encode(token_ids=TEXT)
    assert model.verify().attrs["passed"] == 1
    for layer in ("same", 4):
        with pytest.raises(UnsupportedModelError, match=r"Layer 4 .* another layer has kept"):
            model.neighbors(enc, k=2, vocab_layer=layer)  # type: ignore[arg-type]
    assert model.neighbors(enc, k=2, vocab_layer=2).sizes["layer"] == 3
    with pytest.raises(UnsupportedModelError, match=r"Layer 4 .* another layer has kept"):
        attnxr.Model(hf_model, layers=[4])


def test_replacements_run_a_model_whole_whose_layers_read_what_others_kept() -> None:
    hf_model, model = shared()
    enc = model.encode(token_ids=TEXT)
    found = model.replace(enc.isel(head=[1]), by=0 * enc["head_encoding"].isel(head=[1]))
    ids = torch.tensor([TEXT])
    with torch.no_grad():
        own = hf_model(ids).last_hidden_state[0]
        for layer in (0, 2, 4):

            def put(_module: Any, args: tuple) -> tuple:
                given = args[0].clone()
                given[0, 5, 8:16] = 0
                return (given,)

            hook = hf_model.layers[layer].self_attn.o_proj.register_forward_pre_hook(put)
            change = hf_model(ids).last_hidden_state[0] - own
            hook.remove()
            expected = float(change[5].norm() / own[5].norm())
            assert float(found["hidden_change"].sel(layer=layer, position=5, head=1)) == pytest.approx(expected)


def test_the_stream_is_that_of_the_chosen_layers_blocks() -> None:
    hf_model, model = shared()
    enc = model.encode(token_ids=TEXT, include=["hidden"])
    with torch.no_grad():
        states = hf_model(torch.tensor([TEXT]), output_hidden_states=True).hidden_states
    for layer in (0, 2, 4):
        assert oracles.relative_error(enc["hidden"].sel(layer=layer).values, states[layer + 1][0].numpy()) <= 1e-5


def test_layers_of_a_model_without_blocks_are_counted_by_their_attention() -> None:
    options = LATENT | {"num_layers": 2, "qk_rope_head_dim": 4, "head_dim": 4, "expert_ffn_hidden_size": 24}
    options |= {"ffn_hidden_size": 48, "n_routed_experts": 4, "zero_expert_num": 2, "moe_topk": 2}
    hf_model: Any = build("longcat_flash", options)
    enc = attnxr.Model(hf_model).encode(token_ids=TEXT)
    of_some = attnxr.Model(hf_model, layers=[0]).encode(token_ids=TEXT)
    xr.testing.assert_equal(of_some["head_encoding"], enc["head_encoding"].sel(layer=[0]))
    with pytest.raises(UnsupportedModelError, match="depend on"):  # nothing can be passed by
        attnxr.Model(hf_model, layers=[1])
