"""The parts of logits are those of slow sums in float64, and add up to what the model itself says."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import attnxr
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.probe.additions import Additions
from attnxr.probe.window import Window
from tests.support import attributed, models
from tests.support.attributed import CAP, TEXT, causal
from tests.support.cases import Case
from tests.support.families import FAMILIES

V = 67
NAMES = ("head", "feed_forward", "embedding", "bias")


@cache
def model(family: str) -> attnxr.Model:
    return attnxr.Model(attributed.build(family))


@cache
def everything(family: str) -> xr.Dataset:
    """Attributions of all logits."""
    return attnxr.attribute(model(family), model(family).encode(token_ids=TEXT), tokens=range(V))


def total(found: xr.Dataset) -> xr.DataArray:
    """The sum of all parts, without the remainder."""
    parts = found["head_logit"].sum(["layer", "head"]) + found["feed_forward_logit"].sum("layer")
    return parts + found["embedding_logit"] + found["bias_logit"] + found["rest_logit"]


@pytest.mark.parametrize("family", attributed.FAMILIES)
def test_parts_are_those_of_slow_sums(family: str) -> None:
    found, true = everything(family), attributed.attributed(family)
    size = np.abs(true["logit"]).max()
    for name in NAMES:
        np.testing.assert_allclose(found[f"{name}_logit"].values, true[name], atol=1e-5 * size, err_msg=name)
    np.testing.assert_allclose(found["logit"].values, true["logit"], atol=1e-5 * size)
    left = true["logit"] - true["head"].sum((0, 1)) - true["feed_forward"].sum(0) - true["embedding"] - true["bias"]
    np.testing.assert_allclose(found["remainder"].values, left, atol=2e-5 * size)
    np.testing.assert_allclose((total(found) + found["remainder"]).values, found["logit"].values, rtol=1e-12)


def test_a_cap_is_in_the_remainder() -> None:
    """What the parts add up to is the logit before the cap."""
    found = everything("gemma2")
    before = CAP * np.arctanh(found["logit"].values.clip(-0.999 * CAP, 0.999 * CAP) / CAP)
    inside = np.abs(found["logit"].values) < 0.9 * CAP
    assert inside.any()
    assert np.abs(found["remainder"].values).max() > 0.1
    np.testing.assert_allclose(total(found).values[inside], before[inside], atol=1e-4)


OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_inner": 48},
    "llama": {"num_key_value_heads": 2},
    "gpt_neox": {"use_parallel_residual": True},
    "phi": {},
    "olmo2": {},
    "granite": {"residual_multiplier": 0.6, "logits_scaling": 3.0, "embedding_multiplier": 1.7},
    "cohere": {"logit_scale": 0.3},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
}


@pytest.mark.parametrize("model_type", OTHERS)
def test_parts_of_decoders_add_up_to_the_models_own_logits(model_type: str) -> None:
    hf_model = causal(model_type, OTHERS[model_type])
    with torch.no_grad():
        true = hf_model(input_ids=torch.tensor([TEXT])).logits[0].double().numpy()
    asked = attnxr.Model(hf_model)
    found = attnxr.attribute(asked, asked.encode(token_ids=TEXT), tokens=range(V))
    np.testing.assert_allclose(total(found).values, true, atol=1e-5 * np.abs(true).max())
    assert np.abs(found["remainder"].values).max() <= 1e-5 * np.abs(true).max()
    assert np.abs(found["head_logit"].values).max() > 1e-3


# BEAM scales its stream anew in each block; Gemma 4 adds an embedding of its own for each layer; others scale what they
# add, add a third thing or run through an adapter.
NO_SUM = {
    "beam",
    "doge",
    "falcon_h1",
    "gemma4",
    "gemma4-full",
    "gemma4-pictures",
    "gpt_neox_japanese",
    "granitemoehybrid",
    "granitemoeshared",
    "minimax",
    "xmod",
}


@pytest.mark.sweep("name")
@pytest.mark.parametrize("name", [name for name, each in FAMILIES.items() if each.stack != "decoder"])
def test_last_hidden_states_of_every_family_are_their_parts(name: str) -> None:
    hf_model = FAMILIES[name].build()
    window = Window(hf_model.get_encoder() if FAMILIES[name].stack else hf_model, layers=FAMILIES[name].layers or None)
    if name in NO_SUM:
        with pytest.raises(UnsupportedModelError, match="its stream"):
            Additions(window, TEXT, (), None)
        return
    with torch.no_grad():
        true = window.view()(input_ids=torch.tensor([TEXT]), use_cache=False)[0][0].double().numpy()
    additions = Additions(window, TEXT, (), None)
    parts = additions.parts(np.arange(len(TEXT)))
    found = parts.embedding + parts.heads.sum((0, 1)) + parts.feed_forward.sum(0) + parts.bias + parts.others
    np.testing.assert_allclose(found, true, atol=1e-5 * np.abs(true).max())
    if name != "nemotron_h":  # its feed-forwards are layers of their own
        assert np.abs(parts.feed_forward).max(axis=(1, 2)).min() > 1e-3
    assert (np.abs(parts.others).max() > 1e-3) == bool(FAMILIES[name].layers)


@pytest.mark.parametrize("family", ["roberta", "gpt2", "gemma2"])
def test_promoted_and_suppressed_are_the_ends_of_the_whole_vocabulary(family: str) -> None:
    asked = model(family)
    found = attnxr.promoted(asked, asked.encode(token_ids=TEXT), k=5)
    logits = everything(family)["head_logit"].transpose("layer", "head", "position", "entry").values
    order = np.sort(logits, axis=-1)
    slack = 1e-6 * np.abs(logits).max()
    for kind, ends in (("promoted", order[..., ::-1][..., :5]), ("suppressed", order[..., :5])):
        np.testing.assert_allclose(found[f"{kind}_logit"].values, ends, atol=slack)
        at = np.take_along_axis(logits, found[f"{kind}_id"].values.astype(int), -1)
        np.testing.assert_allclose(at, ends, atol=slack)
    assert (found["promoted"] == asked.vocabulary.token[found["promoted_id"].values]).all()


def test_the_true_token_is_the_next_one_or_the_own_one() -> None:
    enc = model("gpt2").encode(token_ids=TEXT)
    found = attnxr.attribute(model("gpt2"), enc)
    assert found["target_id"].values.tolist() == [*TEXT[1:], -1]
    assert found["target"].values[-1] == ""
    assert np.isnan(found["logit"].values[-1])
    for name in ("head_logit", "feed_forward_logit", "logit", "remainder"):
        true = [everything("gpt2")[name].isel(position=p, entry=TEXT[p + 1]).values for p in range(len(TEXT) - 1)]
        np.testing.assert_allclose(found[name].values[..., :-1], np.stack(true, -1), atol=1e-12)
    own = attnxr.attribute(model("bert"), model("bert").encode(token_ids=TEXT))
    assert own["target_id"].values.tolist() == TEXT


def test_selections_are_selections_of_the_whole(roberta: Case) -> None:
    asked = attnxr.Model(models.tiny_roberta(attributed.MASKED["roberta"]), models.byte_level_tokenizer())
    enc = asked.encode(roberta.text)
    whole, ends = attnxr.attribute(asked, enc, tokens=[5, 9]), attnxr.promoted(asked, enc, k=3)
    for select in (
        {"layer": [2, 0], "head": [1], "position": [3, 1]},
        {"layer": 1, "head": 2, "position": 4},
        {"position": slice(2, 5)},
    ):
        some = attnxr.attribute(asked, enc.isel(select), tokens=[5, 9])
        expected = whole.isel(select)
        for name in ("head_logit", "feed_forward_logit", "embedding_logit", "bias_logit", "logit"):
            assert some[name].dims == expected[name].dims
            np.testing.assert_allclose(some[name].values, expected[name].values, atol=1e-6, err_msg=name)
        kept = {dim: [at] if isinstance(at, int) else at for dim, at in select.items()}
        summed = attnxr.attribute(asked, enc.isel(kept), tokens=[5, 9])
        np.testing.assert_allclose((total(summed) + summed["remainder"]).values, summed["logit"].values, rtol=1e-9)
        np.testing.assert_allclose(
            summed["remainder"].values, whole["remainder"].isel(position=kept["position"]).values, atol=1e-6
        )
        near = attnxr.promoted(asked, enc.isel(select), k=3)
        np.testing.assert_allclose(near["promoted_logit"].values, ends["promoted_logit"].isel(select).values, atol=1e-6)


def test_texts_end_to_end_are_each_text(roberta: Case) -> None:
    asked = attnxr.Model(models.tiny_roberta(attributed.MASKED["roberta"]), models.byte_level_tokenizer())
    texts = [roberta.text, "A dog!"]
    together = attnxr.attribute(asked, asked.encode(texts))
    ends = attnxr.promoted(asked, asked.encode(texts), k=2)
    for i, text in enumerate(texts):
        alone = attnxr.attribute(asked, asked.encode(text))
        here = (together["text_id"] == i).values
        for name in ("head_logit", "feed_forward_logit", "logit", "remainder", "target_id"):
            np.testing.assert_allclose(together[name].values[..., here], alone[name].values, atol=1e-6)
        alone = attnxr.promoted(asked, asked.encode(text), k=2)
        np.testing.assert_allclose(
            ends["suppressed_logit"].values[:, :, here], alone["suppressed_logit"].values, atol=1e-6
        )


def test_a_mask_that_was_asked_for_is_the_mask(roberta: Case) -> None:
    """With GPT-2 looking both ways, parts add up to the logits of that, which are others."""
    asked = model("gpt2")
    enc = asked.encode(token_ids=TEXT, causal=False)
    found = attnxr.attribute(asked, enc, tokens=[3])
    assert np.abs(found["logit"].values - everything("gpt2")["logit"].values[:, [3]]).max() > 1e-2
    assert np.abs(found["remainder"].values).max() <= 1e-5 * np.abs(found["logit"].values).max()


def test_tokens_are_named_or_numbered(roberta: Case) -> None:
    asked = attnxr.Model(models.tiny_roberta(attributed.MASKED["roberta"]), models.byte_level_tokenizer())
    enc = asked.encode(roberta.text)
    named = attnxr.attribute(asked, enc, tokens=["Ġflies", 7])
    flies = int(enc["token_id"].values[enc["token"].values.tolist().index("Ġflies")])
    assert named["target_id"].values[0].tolist() == [flies, 7]
    xr.testing.assert_identical(named, attnxr.attribute(asked, enc, tokens=[flies, 7]))
    one = attnxr.attribute(asked, enc, tokens="Ġflies")
    np.testing.assert_allclose(one["head_logit"].values, named["head_logit"].isel(entry=[0]).values, rtol=1e-9)
    each = xr.DataArray(np.arange(enc.sizes["position"]), dims="position")
    placed = attnxr.attribute(asked, enc, tokens=each)
    assert placed["head_logit"].dims == ("layer", "head", "position")
    np.testing.assert_allclose(
        placed["logit"].values[4], attnxr.attribute(asked, enc, tokens=[4])["logit"].values[4, 0], atol=1e-6
    )
    with pytest.raises(InputError, match=r"'flies'.*Ġflies"):
        attnxr.attribute(asked, enc, tokens=["flies"])
    with pytest.raises(InputError, match="out of range"):
        attnxr.attribute(asked, enc, tokens=[10**6])
    with pytest.raises(InputError, match="layer"):
        attnxr.attribute(asked, enc, tokens=xr.DataArray([[1, 2]], dims=["layer", "entry"]))
    with pytest.raises(InputError, match="positions"):
        attnxr.attribute(asked, enc, tokens=each[:2])


def test_half_precision_gives_what_it_gives() -> None:
    asked = attnxr.Model(attributed.build("gpt2"), dtype="bfloat16")
    found = attnxr.attribute(asked, asked.encode(token_ids=TEXT), tokens=range(V))
    assert np.abs(found["remainder"].values).max() <= 0.05 * np.abs(found["logit"].values).max()


def test_attention_alone_is_a_model_too() -> None:
    hf_model = causal("gpt2")
    with torch.no_grad():
        for block in hf_model.transformer.h:
            block.mlp.c_proj.weight.zero_()
            block.mlp.c_proj.bias.zero_()
    asked = attnxr.Model(hf_model)
    found = attnxr.attribute(asked, asked.encode(token_ids=TEXT), tokens=range(V))
    assert (found["feed_forward_logit"].values == 0).all()
    assert np.abs(found["remainder"].values).max() <= 1e-5 * np.abs(found["logit"].values).max()


def test_what_has_no_parts_is_refused(minilm: Case) -> None:
    with pytest.raises(UnsupportedModelError, match=r"no output embeddings.*language-modelling head"):
        attnxr.attribute(minilm.model, minilm.enc)
    with pytest.raises(UnsupportedModelError, match="no output embeddings"):
        attnxr.promoted(minilm.model, minilm.enc)
    hf_model = causal("gpt2")
    hf_model.transformer.h[1].register_forward_hook(lambda module, args, output: output * 1.1)
    asked = attnxr.Model(hf_model)
    with pytest.raises(UnsupportedModelError, match="Block 1 of"):
        attnxr.attribute(asked, asked.encode(token_ids=TEXT))


def test_encodings_that_were_changed_are_refused() -> None:
    asked = model("gpt2")
    enc = asked.encode(token_ids=TEXT)
    for use in (attnxr.attribute, attnxr.promoted):
        with pytest.raises(InputError, match="differ"):
            use(asked, enc.assign(head_encoding=(enc["head_encoding"] * np.float32(1.01)).astype("float32")))
        with pytest.raises(InputError, match="fingerprint"):
            use(model("llama"), enc)
    for k in (0, V + 1, True):
        with pytest.raises(InputError, match="k="):
            attnxr.promoted(asked, enc, k=k)


def test_progress_is_told_and_can_end_it() -> None:
    asked = model("gpt2")
    enc = asked.encode(token_ids=TEXT)

    class EnoughError(Exception):
        pass

    def stop(fraction: float) -> None:
        raise EnoughError

    for use in (attnxr.attribute, attnxr.promoted):
        told: list[float] = []
        use(asked, enc, progress=told.append)
        assert told[-1] == pytest.approx(1)
        with pytest.raises(EnoughError):
            use(asked, enc, progress=stop)
