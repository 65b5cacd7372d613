"""One call works with one state of the model, and no answer of one state is given for another."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr.errors import AttnxrError, InputError, UnsupportedModelError
from tests.support import models
from tests.support.cases import Case
from tests.support.families import FAMILIES, build

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]


def test_the_order_of_questions_makes_no_difference_where_a_hook_makes_other_words_of_a_later_layer() -> None:
    hf_model = FAMILIES["gpt2"].build()
    steering = torch.randn(32, generator=torch.Generator().manual_seed(0))
    hf_model.h[0].register_forward_hook(lambda _m, _i, out: out + steering)
    one, other = attnxr.Model(hf_model), attnxr.Model(hf_model)
    enc = one.encode(token_ids=TEXT)
    other.neighbors(enc, k=4)
    for vocab_layer in (1, 2, "same", 0):
        answers = [each.neighbors(enc, k=4, metric="euclidean", vocab_layer=vocab_layer) for each in (one, other)]
        xr.testing.assert_identical(*answers)


@pytest.mark.parametrize("change", ["replaced", "in place", "another module"])
def test_output_embeddings_that_change_are_noticed(change: str) -> None:
    config = FAMILIES["llama"].build().config
    hf_model: Any = transformers.LlamaForCausalLM(config).eval()
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT, include=["hidden"])
    options: Any = {"of": "hidden", "space": "unembedding"}
    before, dist = model.neighbors(enc, k=4, **options), model.distances(enc, **options).distance
    head = hf_model.lm_head
    with torch.no_grad():
        if change == "replaced":
            head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
        elif change == "in place":
            head.weight.neg_()
        else:
            hf_model.set_output_embeddings(torch.nn.Linear(32, 67))
    after = model.neighbors(enc, k=4, **options)
    xr.testing.assert_identical(after, attnxr.Model(hf_model).neighbors(enc, k=4, **options).assign_attrs(after.attrs))
    assert (after.distance != before.distance).any()
    with pytest.raises(InputError, match="weights"):
        dist[0].load()


def test_a_look_that_failed_is_done_again() -> None:
    hf_model: Any = FAMILIES["llama"].build()
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT)
    with torch.no_grad():
        hf_model.embed_tokens.weight[5] = torch.inf
    for _ in range(2):
        with pytest.raises(AttnxrError):
            model.neighbors(enc, k=3)
    with torch.no_grad():
        hf_model.embed_tokens.weight[5] = 0.3
    with pytest.raises(InputError, match="fingerprint"):
        model.neighbors(enc, k=3)
    assert model.neighbors(model.encode(token_ids=TEXT), k=3).sizes["rank"] == 3


def test_weights_that_change_during_a_pass_end_it() -> None:
    hf_model: Any = FAMILIES["gpt2"].build()
    changes: list[None] = []
    text = [*TEXT, 5]  # longer than what a model with hooks is tried on before each call

    def change(_m: Any, given: Any, _o: Any) -> None:
        if changes and given[0].shape[1] == len(text):
            changes.pop()
            with torch.no_grad():
                hf_model.h[2].mlp.c_fc.weight.mul_(2)

    hf_model.h[1].register_forward_hook(change)
    model = attnxr.Model(hf_model)
    changes.append(None)
    with pytest.raises(InputError, match="changed"):
        model.encode(token_ids=text)
    model.encode(token_ids=text)


def test_a_rotary_embedding_that_depends_on_the_length_keeps_its_notes_to_itself() -> None:
    """Phi-3's long form writes the frequencies of the last text into a buffer: more than 6 tokens are long here."""
    hf_model: Any = FAMILIES["phi3-long"].build()
    buffers = {name: buffer.clone() for name, buffer in hf_model.named_buffers()}
    model = attnxr.Model(hf_model)
    texts = [TEXT[:4], TEXT, [9, 8], TEXT[::-1]]

    def answer(text: list[int]) -> xr.Dataset:
        enc = model.encode(token_ids=text, include=["key_vector"])
        return model.neighbors(enc, k=3, of="key", space="key")

    alone = [answer(text) for text in texts]
    assert all((near.own_rank[0] == 1).all() for near in alone)
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(answer, texts * 6), alone * 6, strict=True):
            xr.testing.assert_identical(found, expected)
    dist = model.distances(model.encode(token_ids=TEXT)).distance
    assert [dist[0, 0, p].load().shape for p in range(3)] == [(67,)] * 3
    assert all(torch.equal(buffers[name], buffer) for name, buffer in hf_model.named_buffers())


def test_weights_explain_the_encodings_of_a_long_text_in_half_precision() -> None:
    """A sink scales what Granite's local attention writes; bfloat16 has 8 bits, and the text 150 tokens."""
    options = {"num_key_value_heads": 2, "sliding_window": 4, "max_position_embeddings": 200}
    model = attnxr.Model(build("granite_swa", options).to(torch.bfloat16))
    enc = model.encode(token_ids=np.random.default_rng(0).integers(3, 67, 150), include=["value_vector"])
    summed = enc.attention.values @ np.repeat(enc["value_vector"].values, 2, axis=1)
    sizes = np.linalg.norm(enc["head_encoding"], axis=-1)
    most = np.linalg.norm(enc.attention.values @ np.repeat(np.abs(enc["value_vector"].values), 2, axis=1), axis=-1)
    assert (np.linalg.norm(enc["head_encoding"] - summed, axis=-1) <= 3e-2 * np.maximum(sizes, most)).all()
    assert (enc.attention.sum("key_position") < 0.9).any()


def test_one_layer_that_makes_its_own_mask_is_enough_to_refuse() -> None:
    hf_model: Any = FAMILIES["llama"].build()
    blind = torch.full((1, 1, 48, 48), torch.finfo(torch.float32).min).triu(1)

    def own_mask(_m: Any, args: Any, kwargs: Any) -> Any:
        n = kwargs["hidden_states"].shape[1]
        return args, {**kwargs, "attention_mask": blind[..., :n, :n]}

    hf_model.layers[1].self_attn.register_forward_pre_hook(own_mask, with_kwargs=True)
    with pytest.raises(UnsupportedModelError, match="causal"):
        attnxr.Model(hf_model).encode(token_ids=TEXT, causal=False)


def test_a_positional_term_that_no_module_makes_cannot_be_left_out() -> None:
    model = attnxr.Model(FAMILIES["ctrl"].build())
    enc = model.encode(token_ids=TEXT, include=["hidden"])
    for of, space in (("encoding", "value"), ("encoding", "key"), ("hidden", "embedding")):
        with pytest.raises(UnsupportedModelError, match="positional"):
            model.neighbors(enc, k=3, of=of, space=space, positional=False)


def test_two_datasets_joined_are_not_two_texts(roberta: Case) -> None:
    one, other = (
        roberta.model.encode(text).drop_vars("attention") for text in ("The dog.", "Fruit flies like bananas.")
    )
    for joined in (xr.concat([one, other], "position"), xr.concat([other, one], "position")):
        with pytest.raises(InputError, match="together"):
            roberta.model.neighbors(joined, k=3)
    nothing = one.copy()
    del nothing.attrs["token_ids"]
    with pytest.raises(InputError, match="token_ids"):
        roberta.model.neighbors(nothing, k=3)


def test_a_token_beyond_the_vocabulary_is_an_error() -> None:
    hf_model = models.tiny_bert()
    without, having = attnxr.Model(hf_model), attnxr.Model(hf_model, models.wordpiece_tokenizer())
    enc = without.encode(token_ids=[2, 390, 3])
    assert having.fingerprint == without.fingerprint
    with pytest.raises(InputError, match="390"):
        having.neighbors(enc, k=3)


@pytest.mark.parametrize("given", [{"name": 123}, {"name": None}, {"name": "minilm", "device": "nonsense"}])
def test_a_name_or_device_that_is_none_is_an_error(given: Any) -> None:
    with pytest.raises(InputError, match=r"[Ee]xpected"):
        attnxr.load_model(**given)


def test_positions_that_are_scaled_on_the_way_are_the_models_own() -> None:
    hf_model: Any = models.tiny_roberta()
    hf_model.embeddings.position_embeddings.register_forward_hook(lambda _m, _i, out: 3 * out)
    model = attnxr.Model(hf_model)
    assert model.verification.path == "factored"
    assert model.verify().attrs["passed"] == 1


def test_numbers_that_overflow_are_said_to() -> None:
    hf_model: Any = FAMILIES["llama"].build().to(torch.float16)
    with torch.no_grad():
        hf_model.layers[0].self_attn.v_proj.weight.mul_(3e5)
    with pytest.raises(UnsupportedModelError, match="overflow"):
        attnxr.Model(hf_model)


def test_what_a_question_held_goes_with_it(roberta: Case) -> None:
    hf_model: Any = models.tiny_roberta()
    model = attnxr.Model(hf_model)
    gc.collect()
    gc.disable()
    try:
        old = weakref.ref(model._look().vocabulary.tables)
        model.neighbors(model.encode(token_ids=TEXT), k=3)
        with torch.no_grad():
            hf_model.encoder.layer[0].output.dense.weight.add_(1)
        model.encode(token_ids=TEXT)
        assert old() is None
    finally:
        gc.enable()
