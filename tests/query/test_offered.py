"""What `Model.questions` refuses, `Model.neighbors` refuses, with the same words; and it answers all else."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import attnxr
from attnxr import schema
from attnxr.errors import AttnxrError, InputError
from attnxr.options import INCLUDE, NAMED_LAYERS, OF, SPACES
from tests.support import models
from tests.support.family_options import SIZES


def grouped() -> attnxr.Model:
    """A decoder with a head for language, whose heads share keys and values."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2)
    return attnxr.Model(transformers.LlamaForCausalLM(config).eval(), name="llama")


def tied() -> attnxr.Model:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=67, n_embd=32, n_layer=3, n_head=4, n_positions=48)
    return attnxr.Model(transformers.GPT2LMHeadModel(config).eval(), name="gpt2")


def shared_layers() -> attnxr.Model:
    """A model whose blocks are not one each."""
    torch.manual_seed(0)
    config = transformers.AlbertConfig(**SIZES, embedding_size=16, num_hidden_groups=1, inner_group_num=1)
    return attnxr.Model(transformers.AlbertModel(config).eval(), name="albert")


MODELS = {
    "bert": lambda: attnxr.Model(models.tiny_bert(), name="bert"),
    "llama": grouped,
    "gpt2": tied,
    "albert": shared_layers,
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> attnxr.Model:
    return MODELS[request.param]()


def encoded(model: attnxr.Model) -> Any:
    try:
        return model.encode(token_ids=[3, 5, 4, 9], include=INCLUDE)
    except AttnxrError:
        return model.encode(token_ids=[3, 5, 4, 9], include=INCLUDE[:3])


def test_each_combination_is_accepted_or_refused_as_neighbors_does(model: attnxr.Model) -> None:
    questions, encodings = model.questions(), encoded(model)
    schema.validate(questions, schema.QUESTIONS, required=("refusal",))
    assert questions.attrs["fingerprint"] == model.fingerprint
    accepted = 0
    for of, space, layer in product(OF, SPACES, NAMED_LAYERS):
        refusal = questions.refusal.sel(of=of, space=space, vocab_layer=layer).item()
        asked: dict[str, Any] = {"of": of, "space": space}
        if refusal:
            with pytest.raises(AttnxrError) as raised:
                model.neighbors(encodings, k=1, vocab_layer=layer, **asked)
            if of not in ("residual", "hidden") or of in encodings:
                assert str(raised.value) == refusal
            if layer == "same":
                with pytest.raises(AttnxrError):
                    model.neighbors(encodings, k=1, vocab_layer=1, **asked)
        else:
            accepted += 1
            near = model.neighbors(encodings, k=1, vocab_layer=layer, **asked)
            assert np.isfinite(near.distance).all()
            if layer == "same":
                model.neighbors(encodings, k=1, vocab_layer=1, **asked)
    assert accepted >= 12


def test_what_a_model_lacks_is_refused_with_the_reason() -> None:
    questions = MODELS["bert"]().questions().refusal
    assert "no output embeddings" in questions.sel(of="hidden", space="unembedding", vocab_layer="input").item()
    assert MODELS["llama"]().questions().refusal.sel(of="hidden", space="unembedding", vocab_layer="input").item() == ""
    shared = MODELS["llama"]().questions().refusal.sel(of="key", space="query", vocab_layer="same").item()
    assert "shared by several" in shared


def test_no_meaning_is_a_refusal_too() -> None:
    refusal = MODELS["bert"]().questions().refusal.sel(of="query", space="embedding", vocab_layer="input").item()
    assert "has no meaning" in refusal
    with pytest.raises(InputError, match="has no meaning"):
        MODELS["bert"]().neighbors(
            MODELS["bert"]().encode(token_ids=[3, 4], include=["query_vector"]), of="query", space="embedding"
        )
