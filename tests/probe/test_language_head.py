"""The logits that are made of last hidden states are those of the given model, whatever stands between the two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from attnxr.errors import UnsupportedModelError
from attnxr.probe.interface import Watcher
from attnxr.probe.language_head import LanguageHead, has_language_head
from attnxr.probe.window import Window
from tests.support import models
from tests.support.family_options import SIZES

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
V = SIZES["vocab_size"]
# What stands between the last hidden state and the logits differs: a transform, narrower embeddings, a decoder that is
# called and not the base model (OPT), a cap, a scale, another scale, a bias, nothing.
MASKED = {"bert": {}, "electra": {"embedding_size": 20}, "albert": {"embedding_size": 20}, "distilbert": {}, "esm": {}}
CAUSAL: dict[str, dict[str, Any]] = {
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gemma2": {"head_dim": 12, "final_logit_softcapping": 0.5},
    "cohere": {"logit_scale": 0.3},
    "granite": {"logits_scaling": 3.0},
    "phi": {},
    "gpt2": {"n_inner": 48},
}


def build(auto: Any, model_type: str, options: dict[str, Any]) -> Any:
    return models.randomise(auto.from_config(AutoConfig.for_model(model_type, **(SIZES | options))), seed=3)


def hidden_of(window: Window, token_ids: list[int] = TEXT) -> torch.Tensor:
    return window.run(torch.tensor([token_ids]), Watcher())[0]


def logits_of(hf_model: Any, token_ids: list[int] = TEXT) -> torch.Tensor:
    with torch.no_grad():
        return hf_model(input_ids=torch.tensor([token_ids])).logits


FAMILIES = [(AutoModelForMaskedLM, *each) for each in MASKED.items()]
FAMILIES += [(AutoModelForCausalLM, *each) for each in CAUSAL.items()]


@pytest.mark.parametrize(("auto", "model_type", "options"), FAMILIES, ids=[each[1] for each in FAMILIES])
def test_logits_are_the_given_models(auto: Any, model_type: str, options: dict[str, Any]) -> None:
    hf_model = build(auto, model_type, options)
    window = Window(hf_model)
    hidden, true = hidden_of(window), logits_of(hf_model)
    head = LanguageHead(window, V)
    torch.testing.assert_close(head.logits(hidden), true, rtol=1e-5, atol=1e-5)
    # Each is taken alone: some of them, in another order and shape, have the same logits.
    torch.testing.assert_close(head.logits(hidden[0, [5, 2]][:, None]), true[0, [5, 2]][:, None], rtol=1e-5, atol=1e-5)
    assert float(head.logits(2 * hidden).sub(true).abs().max()) > 0.01


def test_weights_that_were_changed_show_in_a_head_that_is_made_afterwards() -> None:
    hf_model = models.tiny_bert(transformers.BertForMaskedLM)
    window = Window(hf_model)
    LanguageHead(window, models.VOCABULARY_SIZE)
    transform = hf_model.cls.predictions.transform
    transform.dense.weight = torch.nn.Parameter(torch.randn_like(transform.dense.weight))
    hf_model.cls.predictions.bias.data.add_(1.0)
    found = LanguageHead(window, models.VOCABULARY_SIZE).logits(hidden_of(window))
    torch.testing.assert_close(found, logits_of(hf_model), rtol=1e-5, atol=1e-5)


def test_hooks_are_part_of_the_model_and_training_is_not() -> None:
    hf_model = models.tiny_bert(transformers.BertForMaskedLM, hidden_dropout_prob=0.5)
    hooks = [
        hf_model.cls.predictions.transform.register_forward_hook(lambda module, args, output: 2 * output),
        hf_model.bert.register_forward_pre_hook(lambda module, args: None),
    ]
    true = logits_of(hf_model)
    hf_model.train()
    before = [dict(module._forward_hooks) for module in hf_model.modules()]
    window = Window(hf_model)
    found = LanguageHead(window, models.VOCABULARY_SIZE).logits(hidden_of(window))
    torch.testing.assert_close(found, true, rtol=1e-5, atol=1e-5 * float(true.abs().max()))
    assert hf_model.training
    assert [dict(module._forward_hooks) for module in hf_model.modules()] == before
    for hook in hooks:
        hook.remove()
    assert not torch.allclose(logits_of(hf_model.eval()), true, atol=0.1)  # so the hook mattered


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_logits_in_other_precisions(dtype: torch.dtype) -> None:
    hf_model = build(AutoModelForCausalLM, "granite", CAUSAL["granite"]).to(dtype)
    hf_model.set_attn_implementation("eager")  # others round otherwise
    window = Window(hf_model)
    found = LanguageHead(window, V).logits(hidden_of(window))
    assert found.dtype == dtype
    assert float((found - logits_of(hf_model)).norm() / found.norm()) < (0.02 if dtype == torch.bfloat16 else 1e-12)


@pytest.mark.parametrize(
    "cls", [transformers.BertModel, transformers.BertForSequenceClassification, transformers.BertForTokenClassification]
)
def test_what_gives_no_words_is_no_head_for_language(cls: Any) -> None:
    window = Window(models.tiny_bert(cls))
    assert not has_language_head(window, models.VOCABULARY_SIZE)
    with pytest.raises(UnsupportedModelError, match=r"no output embeddings .* language-modelling head"):
        LanguageHead(window, models.VOCABULARY_SIZE)


def test_a_head_that_mixes_tokens_is_refused() -> None:
    class Mixing(transformers.BertForMaskedLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + output.logits.cumsum(1)
            return output

    window = Window(models.tiny_bert(Mixing))
    with pytest.raises(UnsupportedModelError, match=r"logits .* differ by a relative error"):
        LanguageHead(window, models.VOCABULARY_SIZE)


def test_gradients_pass_through_where_they_are_asked_for() -> None:
    window = Window(models.tiny_bert(transformers.BertForMaskedLM))
    head, hidden = LanguageHead(window, models.VOCABULARY_SIZE), hidden_of(window)
    assert not head.logits(hidden).requires_grad
    asked = hidden.clone().requires_grad_()
    head.logits(asked)[0, 2, 7].backward()
    assert asked.grad is not None
    elsewhere = np.delete(asked.grad[0].numpy(), 2, axis=0)
    assert float(asked.grad[0, 2].abs().max()) > 0 == np.abs(elsewhere).max()
