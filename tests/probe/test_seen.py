"""The second door: attention that a model computes by itself is seen, however its code writes it, or refused."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

import attnxr
from attnxr.errors import UnsupportedModelError
from attnxr.probe.interface import Stop, Watcher
from attnxr.probe.window import Window
from tests.support import oracles
from tests.support.families import FALCON_RW, FAMILIES, build

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
N, HEADS, SIZE = len(TEXT), 4, 8
LEAST = torch.finfo(torch.float32).min
Attend = Callable[..., Tensor]
"""From q, k, v (texts, tokens, heads, features) and a mask to the heads' encodings, laid out in the same way."""


def ahead(n: int) -> Tensor:
    return torch.ones(n, n, dtype=torch.bool).triu(1)


def scaled(q: Tensor, k: Tensor) -> Tensor:
    return q.transpose(1, 2) @ k.transpose(1, 2).mT / SIZE**0.5


def plain(q: Tensor, k: Tensor, v: Tensor, mask: Callable[[Tensor], Tensor] = lambda scores: scores) -> Tensor:
    return (functional.softmax(mask(scaled(q, k)), dim=-1) @ v.transpose(1, 2)).transpose(1, 2)


def masked_by(mask: Callable[[Tensor], Tensor]) -> Attend:
    return lambda q, k, v: plain(q, k, v, mask)


def in_letters(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """XLNet's order: tokens first."""
    q, k, v = (each.transpose(0, 1) for each in (q, k, v))
    weights = torch.einsum("ibnd,jbnd->bnij", q, k).div(SIZE**0.5).softmax(3)
    return torch.einsum("bnij, jbnd -> ibnd", weights, v).transpose(0, 1)


def folded(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Texts and heads are one dimension, the scores a sum with a bias, the mask comes last (BLOOM)."""
    texts = len(q)
    q, k, v = (each.transpose(1, 2).flatten(0, 1) for each in (q, k, v))
    bias = torch.linspace(0, 1, q.shape[1]).expand(len(q), 1, -1)
    scores = bias.baddbmm(batch1=q, batch2=k.mT, beta=1.0, alpha=SIZE**-0.5)
    scores = scores.view(texts, HEADS, *scores.shape[1:]) + torch.zeros(()).masked_fill(ahead(q.shape[1]), LEAST)
    weights = torch.softmax(scores, -1, torch.float32).view(-1, *scores.shape[2:])
    return torch.bmm(functional.dropout(weights, 0.1, False), v).unflatten(0, (texts, -1)).transpose(1, 2)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two query heads look into one key/value head, by a dimension of their own."""
    q = q.transpose(1, 2).unflatten(1, (2, 2))
    k, v = (each[:, :, ::2].transpose(1, 2)[:, :, None] for each in (k, v))
    weights = (torch.matmul(q, k.mT) * SIZE**-0.5).softmax(dim=-1)
    return torch.matmul(weights, v).flatten(1, 2).transpose(1, 2)


def fused(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)


def fused_with(mask: Callable[[int], Tensor]) -> Attend:
    return lambda q, k, v: fused(q, k, v, attn_mask=mask(q.shape[1]))


def fused_in_groups(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return fused(q, k[:, :, ::2], v[:, :, ::2], is_causal=True, enable_gqa=True, scale=0.2)


def of_a_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A head's own factor, as head masks are, times its weights."""
    weights = scaled(q, k).softmax(-1) * torch.tensor([1.0, 0.0, 0.5, 1.0])[:, None, None]
    return (weights.type_as(v) @ v.transpose(1, 2)).transpose(1, 2)


def both(scores: Tensor) -> Tensor:
    """Two masks, one upon the other: a local one that is causal, and one that is added."""
    n = scores.shape[-1]
    near = ~ahead(n) & ahead(n).T.logical_or(torch.eye(n, dtype=torch.bool)).triu(-3)
    scores = torch.where(near, scores, torch.tensor(LEAST))
    return torch.max(scores + torch.zeros(n, n).masked_fill(ahead(n), LEAST), torch.tensor(LEAST))


def added(scores: Tensor) -> Tensor:
    return scores + torch.zeros(scores.shape[-2:]).masked_fill(ahead(scores.shape[-1]), -torch.inf)


def biased(n: int) -> Tensor:
    return (torch.arange(n) - torch.arange(n)[:, None]).float() / 3


KINDS: dict[str, tuple[Attend, bool]] = {  # and whether its mask can be made to look both ways
    "plain": (plain, True),
    "added": (masked_by(added), True),
    "filled": (masked_by(lambda scores: scores.masked_fill(ahead(scores.shape[-1]), LEAST)), True),
    "chosen": (masked_by(lambda scores: torch.where(ahead(scores.shape[-1]), LEAST, scores)), True),
    "both": (masked_by(both), True),
    "subtracted": (masked_by(lambda scores: scores - 1e4 * ahead(scores.shape[-1]).float()), False),
    "one piece": (masked_by(lambda s: s + biased(s.shape[-1]).masked_fill(ahead(s.shape[-1]), LEAST)), False),
    "letters": (in_letters, True),
    "folded": (folded, True),
    "grouped": (grouped, True),
    "of a head": (of_a_head, True),
    "fused": (fused, True),
    "fused causal": (lambda q, k, v: fused(q, k, v, is_causal=True), True),
    "fused added": (fused_with(lambda n: torch.zeros(n, n).masked_fill(ahead(n), LEAST)), True),
    "fused told": (fused_with(lambda n: ~ahead(n)), True),
    "fused in one piece": (fused_with(lambda n: biased(n).masked_fill(ahead(n), LEAST)), False),
    "fused in groups": (fused_in_groups, True),
}


class Config(PreTrainedConfig):
    model_type = "of-its-own"
    attend: Any = None


class Block(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        self.norm = nn.LayerNorm(HEADS * SIZE)
        self.qkv = nn.Linear(HEADS * SIZE, 3 * HEADS * SIZE)
        self.out = nn.Linear(HEADS * SIZE, HEADS * SIZE)

    def forward(self, stream: Tensor) -> Tensor:
        q, k, v = (each.unflatten(-1, (HEADS, SIZE)) for each in self.qkv(self.norm(stream)).chunk(3, dim=-1))
        return stream + self.out(self.attend(q, k, v).flatten(2))


class OfItsOwn(PreTrainedModel):
    """A model of a family that transformers does not know, with attention written in some way."""

    config_class = Config

    def __init__(self, config: Config, attend: Attend) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(67, HEADS * SIZE)
        self.layers = nn.ModuleList([Block(attend) for _ in range(3)])

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def forward(self, input_ids: Tensor, attention_mask: Any = None, use_cache: bool = False) -> BaseModelOutput:
        stream = self.embeddings(input_ids)
        for layer in self.layers:
            stream = layer(stream)
        return BaseModelOutput(last_hidden_state=stream)


def made(attend: Attend) -> OfItsOwn:
    torch.manual_seed(0)
    hf_model = OfItsOwn(Config(), attend).eval()
    with torch.no_grad():
        for parameter in hf_model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return hf_model


def handed_to_out(hf_model: OfItsOwn, text: list[int] = TEXT) -> np.ndarray:
    """What W_O of each layer is handed, (layer, head, position, feature), by plain hooks."""
    seen: list[Tensor] = []
    hooks = [each.out.register_forward_hook(lambda _m, args, _o: seen.append(args[0][0])) for each in hf_model.layers]
    with torch.no_grad():
        hf_model(torch.tensor([text]))
    for hook in hooks:
        hook.remove()
    return torch.stack(seen).unflatten(-1, (HEADS, SIZE)).transpose(1, 2).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_seen_however_it_is_written(kind: str) -> None:
    attend, turns = KINDS[kind]
    hf_model = made(attend)
    with torch.no_grad():
        before = hf_model(torch.tensor([TEXT])).last_hidden_state
    model = attnxr.Model(hf_model)
    assert (model.n_layers, model.n_heads, model.head_size) == (3, HEADS, SIZE)
    assert model.verify().attrs["passed"] == 1
    enc = model.encode(token_ids=TEXT, include=["query_vector", "key_vector", "value_vector"])
    np.testing.assert_array_equal(enc["head_encoding"], handed_to_out(hf_model))
    groups = model.n_heads // model.n_kv_heads
    assert groups == (2 if "group" in kind else 1)
    summed = enc.attention.values @ np.repeat(enc["value_vector"].values, groups, axis=1)
    np.testing.assert_allclose(enc["head_encoding"], summed, atol=1e-5)
    for name, part in (("query_vector", 0), ("key_vector", 1), ("value_vector", 2)):
        block: Any = hf_model.layers[0]
        with torch.no_grad():
            true = block.qkv(block.norm(hf_model.embeddings(torch.tensor(TEXT)))).chunk(3, dim=-1)[part]
        step = 1 if name == "query_vector" else groups
        true = true.unflatten(-1, (HEADS, SIZE)).transpose(0, 1)[::step]
        assert oracles.relative_error(enc[name].values[0], true.numpy()) < 1e-6
    own = (enc.attention.values > 0).any(axis=1)
    on = (model.encode(token_ids=TEXT, causal=True).attention.values > 0).any(axis=1)
    np.testing.assert_array_equal(on, own & ~ahead(N).numpy())
    if turns:
        off = (model.encode(token_ids=TEXT, causal=False).attention.values > 0).any(axis=1)
        np.testing.assert_array_equal(off, own | own.swapaxes(-1, -2))
    else:
        with pytest.raises(UnsupportedModelError, match="causal=False"):
            model.encode(token_ids=TEXT, causal=False)
    with torch.no_grad():
        assert torch.equal(hf_model(torch.tensor([TEXT])).last_hidden_state, before)


@pytest.mark.parametrize("kind", ["added", "filled", "chosen", "folded", "fused causal", "fused added", "fused told"])
def test_both_ways_is_the_same_model_without_its_mask(kind: str) -> None:
    hf_model = made(KINDS[kind][0])
    found = attnxr.Model(hf_model).encode(token_ids=TEXT, causal=False)
    without = made(plain if "fused" not in kind else fused)
    if kind == "folded":
        bias = torch.linspace(0, 1, N)
        without = made(masked_by(lambda scores: scores + bias[: scores.shape[-1]]))
    np.testing.assert_allclose(found["head_encoding"], handed_to_out(without), atol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "added", "letters", "folded", "grouped", "fused causal"])
def test_what_is_put_in_place_of_an_encoding_goes_on_through_the_model(kind: str) -> None:
    hf_model = made(KINDS[kind][0])
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT).isel(layer=[1], head=[2], position=[5])
    vectors = enc["head_encoding"].copy(data=np.random.default_rng(0).normal(size=(1, 1, 1, SIZE)).astype(np.float32))
    found = model.replace(enc, by=vectors)
    given = torch.from_numpy(vectors.values[0, 0, 0])

    def put(module: nn.Module, args: tuple) -> tuple:
        changed = args[0].clone()
        changed[0, 5, 2 * SIZE : 3 * SIZE] = given
        return (changed,)

    with torch.no_grad():
        before = hf_model(torch.tensor([TEXT])).last_hidden_state[0]
        hook = hf_model.layers[1].out.register_forward_pre_hook(put)  # type: ignore[union-attr]
        after = hf_model(torch.tensor([TEXT])).last_hidden_state[0]
        hook.remove()
    expected = (after - before).norm() / before.norm()
    np.testing.assert_allclose(found["hidden_change_anywhere"].squeeze(), expected, rtol=1e-4)


def test_eight_threads_see_each_their_own_text() -> None:
    model = attnxr.Model(made(KINDS["added"][0]))
    texts = [[5 + i, *TEXT[: 3 + i % 4]] for i in range(24)]
    alone = [model.encode(token_ids=text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: model.encode(token_ids=text), texts))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one["head_encoding"], other["head_encoding"])


def test_nothing_is_watched_after_a_pass_however_it_ended() -> None:
    class First(Watcher):
        def __init__(self, raised: Exception) -> None:
            self.raised = raised

        def attending(self, module: Any, query: Tensor, key: Tensor, value: Tensor) -> None:
            raise self.raised

    window = Window(made(plain))
    assert window.run(torch.tensor([TEXT]), First(Stop())) is None
    with pytest.raises(ZeroDivisionError):
        window.run(torch.tensor([TEXT]), First(ZeroDivisionError()))
    assert not _get_current_function_mode_stack()


def two_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two products are added before the softmax, as where a second one is of positions."""
    scores = scaled(q, k) + scaled(q.flip(1), k)
    return (scores.softmax(-1) @ v.transpose(1, 2)).transpose(1, 2)


def two_softmaxes(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return plain(q, k, v) - 0.3 * plain(k, q, v)


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    return (q.softmax(-1) @ (k.softmax(-2).mT @ v)).transpose(1, 2)


def pooled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (torch.cat([each, each.mean(dim=1, keepdim=True)], dim=1) for each in (k, v))
    return plain(q, k, v)


def talking(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Weights of one head are mixed with another's."""
    weights = scaled(q, k).softmax(-1)
    return ((weights + weights.roll(1, 1)) @ v.transpose(1, 2)).transpose(1, 2)


def gated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return plain(q, k, v) * q.sigmoid()


def test_a_gate_is_seen_too() -> None:
    model = attnxr.Model(made(gated))
    enc = model.encode(token_ids=TEXT, include=["query_vector", "value_vector"])
    np.testing.assert_allclose(enc["gate"], torch.sigmoid(torch.from_numpy(enc["query_vector"].values)), rtol=1e-5)
    np.testing.assert_allclose(enc["head_encoding"], enc["attention"].values @ enc["value_vector"].values, atol=1e-5)
    assert model.verify().attrs["passed"] == 1


def heads_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads, then texts: of one text this is a text of one head in four texts."""
    q, k, v = (each.permute(2, 0, 1, 3) for each in (q, k, v))
    return ((q @ k.mT / SIZE**0.5).softmax(-1) @ v).permute(1, 2, 0, 3)


REFUSED = {
    two_products: "sum of several products",
    two_softmaxes: "no linear map in layer 0",
    linear: "linear attention",
    pooled: "3 keys and 3 values for a text of 2 tokens",
    talking: "multiplies no values by a softmax",
    heads_first: r"shape \(4, 1, 2, 8\) for 1 texts",
}


@pytest.mark.parametrize("attend", REFUSED, ids=lambda attend: attend.__name__)
def test_what_cannot_be_told_is_refused_with_the_reason(attend: Attend) -> None:
    with pytest.raises(UnsupportedModelError, match=REFUSED[attend]):
        attnxr.Model(made(attend))


FAMILIES_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "longformer": ({"attention_window": 4}, "sparse by blocks"),
    "big_bird": ({"attention_type": "block_sparse"}, "attention_type from 'block_sparse' to 'original_full'"),
    "convbert": ({}, "no linear map in layer 0 that reads the concatenated head encodings"),
    "cpmant": ({"dim_head": 8, "dim_ff": 48}, "34 keys and 34 values for a text of 2 tokens"),
    "ibert": ({}, "does not run on a text of 48 tokens"),
    "yoso": ({}, "a kind of their own"),
    "rwkv": ({"attention_hidden_size": 32}, "no attention layers"),
}


@pytest.mark.parametrize("model_type", FAMILIES_REFUSED)
def test_a_family_is_refused_with_the_reason(model_type: str) -> None:
    options, reason = FAMILIES_REFUSED[model_type]
    with pytest.raises(UnsupportedModelError, match=reason):
        attnxr.Model(build(model_type, options))


@pytest.mark.parametrize("model_type", ["openai-gpt", "xlm", "flaubert"])
def test_blocks_that_are_none_leave_the_encodings_right(model_type: str) -> None:
    sizes = {} if model_type == "openai-gpt" else {"emb_dim": 32, "n_layers": 3, "n_heads": 4}
    model = attnxr.Model(build(model_type, sizes))
    assert model.verify().attrs["passed"] == 1
    assert model.neighbors(model.encode(token_ids=TEXT), k=3).own_rank.shape == (3, 4, N)


def test_a_bias_that_came_with_the_mask_stays_and_causal_false_is_refused() -> None:
    """Falcon's, with ALiBi: by scaled_dot_product_attention, which the unwatched model calls, too."""
    model = attnxr.Model(build("falcon", FALCON_RW))
    assert model.verify().attrs["passed"] == 1
    assert float(model.verify().unchanged) == 0
    model.encode(token_ids=TEXT, causal=True)
    with pytest.raises(UnsupportedModelError, match="one piece"):
        model.encode(token_ids=TEXT, causal=False)


@pytest.mark.parametrize("family", ["bloom", "deberta-v2", "gptj", "mpt"])
def test_positional_has_no_effect_where_values_have_no_position(family: str) -> None:
    model = attnxr.Model(FAMILIES[family].build())
    enc = model.encode(token_ids=TEXT)
    with_it, without = (model.neighbors(enc, k=4, positional=each) for each in (True, False))
    for name in with_it.data_vars:
        np.testing.assert_array_equal(with_it[name], without[name])
