"""The causal mask turned on and off is what transformers itself makes of the same model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import attnxr
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.probe.interface import Watcher, watching
from tests.support import models
from tests.support.cases import Case
from tests.support.families import FAMILIES

TEXT = [11, 40, 23, 40, 57, 8, 33, 62, 5, 19]
N = len(TEXT)
AHEAD = np.triu(np.ones((N, N), bool), 1)


def by_transformers(hf_model: Any, mask: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Attention weights (layer, head, position, key) and final hidden states under a 4-D mask given to the model."""
    hf_model.set_attn_implementation("eager")
    with torch.no_grad():
        out = hf_model(torch.tensor([TEXT]), attention_mask=mask, output_attentions=True)
    return torch.cat(out.attentions).numpy(), out.last_hidden_state[0].numpy()


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "qwen3", "granite"])
def test_off_is_a_decoder_given_a_bidirectional_mask(family: str) -> None:
    enc = attnxr.Model(FAMILIES[family].build()).encode(token_ids=TEXT, causal=False, include=["hidden"])
    attention, hidden = by_transformers(FAMILIES[family].build(), torch.zeros(1, 1, N, N))
    np.testing.assert_allclose(enc.attention, attention, atol=1e-6)
    assert enc.attrs["causal"] == 0
    hf_model = FAMILIES[family].build()
    final = {"gpt2": "ln_f", "gpt_neox": "final_layer_norm"}.get(family, "norm")
    with torch.no_grad():
        normed = hf_model.get_submodule(final)(torch.from_numpy(enc.hidden.values[-1]))
    np.testing.assert_allclose(normed, hidden, atol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "nomic_bert", "albert"])
def test_on_is_an_encoder_given_a_causal_mask(family: str) -> None:
    enc = attnxr.Model(FAMILIES[family].build()).encode(token_ids=TEXT, causal=True)
    mask = torch.zeros(1, 1, N, N).masked_fill(torch.from_numpy(AHEAD), torch.finfo(torch.float32).min)
    np.testing.assert_allclose(enc.attention, by_transformers(FAMILIES[family].build(), mask)[0], atol=1e-6)
    assert enc.attrs["causal"] == 1


@pytest.mark.parametrize("family", ["gpt2", "llama", "roberta", "modernbert"])
def test_none_is_the_models_own(family: str) -> None:
    model = attnxr.Model(FAMILIES[family].build())
    own = model.encode(token_ids=TEXT)
    again = model.encode(token_ids=TEXT, causal=bool(own.attrs["causal"]))
    np.testing.assert_array_equal(own["head_encoding"], again["head_encoding"])
    assert own.attrs["causal"] == (family in ("gpt2", "llama"))


@pytest.mark.parametrize(
    ("family", "window"), [("mistral", 4), ("gemma2", 4), ("gemma3", 4), ("modernbert", 6 // 2 + 1)]
)
def test_a_window_keeps_its_reach_to_both_sides(family: str, window: int) -> None:
    """Off: |i − j| < w in local layers, everything in the others. On: the same, looking back only."""
    model = attnxr.Model(FAMILIES[family].build())
    distance = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    off, on = (model.encode(token_ids=TEXT, causal=causal).attention.values > 0 for causal in (False, True))
    kinds = set()
    for layer in range(model.n_layers):
        local = not off[layer].any(axis=0).all()
        kinds.add(local)
        allowed = distance < window if local else np.ones((N, N), bool)
        assert (off[layer] == allowed).all()
        assert (on[layer] == (allowed & ~AHEAD)).all()
    assert kinds == ({True} if family == "mistral" else {True, False})


class Weights(Watcher):
    """Collects the attention weights of a batch."""

    def __init__(self, causal: bool | None) -> None:
        self.forced_causal = causal
        self.weights: list[torch.Tensor] = []

    def attended(self, output: torch.Tensor, weights: torch.Tensor) -> None:
        self.weights.append(weights)


@pytest.mark.parametrize("causal", [None, False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "roberta", "modernbert"])
def test_padding_stays_masked(family: str, causal: bool | None) -> None:
    window = attnxr.Model(FAMILIES[family].build())._look().window
    padding = torch.zeros(2, N, dtype=torch.bool)
    padding[0, -3:] = padding[1, :2] = True
    seen = Weights(causal)
    with watching(seen), torch.no_grad():
        window.model(torch.tensor([TEXT, TEXT]), attention_mask=(~padding).long())
    for weights in seen.weights:
        for text, pad in zip(weights, padding, strict=True):
            assert (text[:, ~pad][:, :, pad] == 0).all()
            assert (text[:, ~pad][:, :, ~pad] > 0).any()


def test_several_texts_and_a_slice_of_them_keep_the_mask(roberta: Case) -> None:
    texts = [models.SENTENCE, "The dog saw a fox."]
    together = roberta.model.encode(texts, causal=True)
    alone = roberta.model.encode(texts[1], causal=True)
    part = together.isel(position=together.text_id.values == 1)
    np.testing.assert_array_equal(part["head_encoding"], alone["head_encoding"])
    assert together.attrs["causal"] == 1
    near = roberta.model.neighbors(part, k=3)
    np.testing.assert_array_equal(near.neighbor_id, roberta.model.neighbors(alone, k=3).neighbor_id)


def test_neighbours_under_a_turned_mask_are_those_of_the_brute_force(roberta: Case) -> None:
    enc = roberta.model.encode(roberta.text, causal=True)
    assert not np.allclose(enc["head_encoding"], roberta.enc["head_encoding"])
    roberta.check(roberta.model.neighbors(enc, k=5), enc=enc)


@pytest.mark.parametrize("causal", [1, 0, "off", "causal", [True]])
def test_anything_but_a_truth_value_is_an_error(roberta: Case, causal: Any) -> None:
    with pytest.raises(InputError, match="causal"):
        roberta.model.encode(roberta.text, causal=causal)


def test_a_model_that_makes_its_mask_by_itself_says_so() -> None:
    """As remote code might: the mask is added in the attention layer, whatever it is handed."""
    hf_model = FAMILIES["llama"].build()
    blind = torch.full((1, 1, N, N), torch.finfo(torch.float32).min).triu(1)

    def own_mask(module: Any, args: Any, kwargs: Any) -> Any:
        n = kwargs["hidden_states"].shape[1]
        return args, {**kwargs, "attention_mask": blind[..., :n, :n]}

    for layer in hf_model.layers:
        layer.self_attn.register_forward_pre_hook(own_mask, with_kwargs=True)
    model = attnxr.Model(hf_model)
    model.encode(token_ids=TEXT, causal=True)
    with pytest.raises(UnsupportedModelError, match="causal"):
        model.encode(token_ids=TEXT, causal=False)
