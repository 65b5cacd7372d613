"""What is captured is what the model computes, and the model does not notice."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr.errors import UnsupportedModelError
from attnxr.options import VARIABLE
from tests.support import models, oracles
from tests.support.cases import HEAD_VECTORS, INCLUDED, STREAM_VECTORS, Case

TEXTS = [
    models.SENTENCE,
    "The dog saw a fox.",
    "Nobody knows before looking, and every head writes what it has found.",
    "Bananas!",
]


def relative_error(found: Any, true: Any) -> float:
    return float(np.linalg.norm(found - true) / np.linalg.norm(true))


@pytest.mark.parametrize("name", ["encoding", "attention", *HEAD_VECTORS, *STREAM_VECTORS])
def test_encodings_equal_the_float64_forward_pass(case: Case, name: str) -> None:
    found, true = case.enc[{**VARIABLE, "attention": "attention"}[name]].values, getattr(case.trace, name)
    assert found.shape == true.shape
    for layer in range(len(true)):
        assert relative_error(found[layer], true[layer]) <= 1e-5


def test_head_encodings_rebuild_the_attention_blocks_own_output(case: Case) -> None:
    written: list[torch.Tensor] = []
    projections = [layer.attention.output.dense for layer in case.hf_model.encoder.layer]
    hooks = [dense.register_forward_hook(lambda _m, _i, out: written.append(out[0])) for dense in projections]
    with torch.no_grad():
        case.hf_model(torch.tensor(case.token_ids[None]))
    for hook in hooks:
        hook.remove()
    heads = oracles.concatenate_heads(case.enc["head_encoding"].values)
    with torch.no_grad():
        rebuilt = [dense(torch.from_numpy(z)) for dense, z in zip(projections, heads, strict=True)]
    assert len(written) == len(rebuilt) == case.model.n_layers
    for layer, own in enumerate(written):
        assert relative_error(rebuilt[layer].numpy(), own.numpy()) <= 1e-5


def test_head_encoding_is_the_attention_weighted_sum_of_values(case: Case) -> None:
    weights = case.enc.attention.values.astype(np.float64)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(case.enc["head_encoding"], weights @ case.enc.value_vector.values, atol=1e-5)


def test_a_model_with_a_head_on_top_gives_the_encodings_of_its_base_model(bert: Case) -> None:
    with_head = transformers.BertForMaskedLM(bert.hf_model.config).eval()
    with_head.bert.load_state_dict(bert.hf_model.state_dict(), strict=False)
    enc = attnxr.Model(with_head, models.wordpiece_tokenizer()).encode(bert.text)
    np.testing.assert_array_equal(enc["head_encoding"], bert.enc["head_encoding"])


def inputs() -> dict[str, torch.Tensor]:
    """A padded batch, so that the mask matters."""
    token_ids = torch.tensor([[0, 57, 301, 300, 57, 2], [0, 60, 2, 1, 1, 1]])
    return {"input_ids": token_ids, "attention_mask": (token_ids != 1).long()}


def outputs(hf_model: Any) -> list[torch.Tensor]:
    """All hidden states, and attentions where the implementation gives them."""
    eager = hf_model.config._attn_implementation == "eager"
    with torch.no_grad():
        out = hf_model(**inputs(), output_hidden_states=True, output_attentions=eager)
    return [out.last_hidden_state, *out.hidden_states, *(out.attentions or ())]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@contextmanager
def busy(work: Callable[[], Any]) -> Iterator[threading.Event]:
    """Repeat some work in another thread; the event tells that it has been done at least once."""
    started, stop = threading.Event(), threading.Event()

    def loop() -> None:
        while not stop.is_set():
            work()
            started.set()

    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(loop)
        try:
            yield started
        finally:
            stop.set()
            job.result()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("build", [models.tiny_roberta, models.tiny_bert])
def test_the_models_outputs_are_the_same_before_during_and_after(build: Any, implementation: str) -> None:
    hf_model = build(attn_implementation=implementation)
    before = outputs(hf_model)
    model = attnxr.Model(hf_model)
    assert same(outputs(hf_model), before)

    def work() -> None:
        model.neighbors(model.encode(token_ids=[0, 57, 301, 2]), k=3)

    with busy(work) as started:
        during = [outputs(hf_model) for _ in range(20)]
        assert started.wait(60)
        during += [outputs(hf_model) for _ in range(20)]
    assert all(same(each, before) for each in during)
    assert same(outputs(hf_model), before)


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was_found(training: bool) -> None:
    hf_model = models.tiny_roberta(attn_implementation="sdpa").train(training)
    hf_model.encoder.layer[1].eval()
    before = describe(hf_model)
    model = attnxr.Model(hf_model, models.byte_level_tokenizer())
    enc = model.encode(models.SENTENCE, include=(*INCLUDED, *STREAM_VECTORS))
    model.neighbors(enc)
    model.distances(enc).distance.sel(layer=0, head=0, position=0).load()
    after = describe(hf_model)
    assert before.pop("state").keys() == (state := after.pop("state")).keys()
    assert before == after
    fresh = models.tiny_roberta().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in fresh.items())


def describe(hf_model: Any) -> dict[str, Any]:
    """All that could be left changed in a model."""
    modules = dict(hf_model.named_modules())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks")
    return {
        "implementation": hf_model.config._attn_implementation,
        "config": copy.deepcopy(hf_model.config.to_dict()),
        "training": {name: module.training for name, module in modules.items()},
        "hooks": {name: [len(getattr(module, kind)) for kind in hooks] for name, module in modules.items()},
        "own names": {name: sorted(vars(module)) for name, module in modules.items()},
        "gradients": {name: p.requires_grad for name, p in hf_model.named_parameters()},
        "state": hf_model.state_dict(),
    }


def test_a_model_in_training_mode_gives_the_answer_of_evaluation(roberta: Case) -> None:
    hf_model = models.tiny_roberta().train()
    assert hf_model.config.hidden_dropout_prob > 0
    model = attnxr.Model(hf_model, models.byte_level_tokenizer())
    np.testing.assert_array_equal(model.encode(roberta.text)["head_encoding"], roberta.enc["head_encoding"])
    assert hf_model.training


def test_capture_works_while_gradients_are_on_and_leaves_none() -> None:
    hf_model = models.tiny_bert()
    with torch.enable_grad():
        attnxr.Model(hf_model).encode(token_ids=[1, 2, 3])
    assert all(p.grad is None for p in hf_model.parameters())


def test_threads_on_one_model_get_the_answers_of_one_after_the_other(case: Case) -> None:
    def answer(text: str) -> tuple[xr.Dataset, xr.Dataset]:
        enc = case.model.encode(text, include=("query_vector", "hidden"))
        return enc, case.model.neighbors(enc.isel(layer=[-1], head=[1]), k=3)

    alone = [answer(text) for text in TEXTS]
    with ThreadPoolExecutor(len(TEXTS)) as pool:
        together = list(pool.map(answer, TEXTS * 2))
    for i, both in enumerate(together):
        for found, expected in zip(both, alone[i % len(TEXTS)], strict=True):
            xr.testing.assert_identical(found, expected)


def test_two_models_at_once_do_not_mix(roberta: Case, bert: Case) -> None:
    alone = [each.model.encode(each.text) for each in (roberta, bert)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: each.model.encode(each.text), [roberta, bert] * 6))
    for i, enc in enumerate(together):
        xr.testing.assert_identical(enc, alone[i % 2])


def test_half_precision_that_overflows_in_the_middle_is_called_that() -> None:
    """Layer 0 is fine, so that the model can be looked into; what the next is handed is not."""
    hf_model = models.tiny_bert().half()
    with torch.no_grad():
        hf_model.encoder.layer[1].attention.self.value.weight.mul_(60000)
    with pytest.raises(UnsupportedModelError, match=r"infinite or undefined.*float16.*float32"):
        attnxr.Model(hf_model).encode(token_ids=[5, 17, 40])
