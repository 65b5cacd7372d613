"""What stands between the heads and W_O, a gate or a norm, is found by trying, and what heads write goes through it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import attnxr
from attnxr.errors import InputError, UnsupportedModelError
from tests.support import models, oracles
from tests.support.families import FAMILIES

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
KV_HEADS = 2


@functools.lru_cache(maxsize=6)
def built(family: str) -> tuple[Any, attnxr.Model]:
    """A random model with a head for language, in float64, and what looks into it."""
    config = FAMILIES[family].build().config
    hf_model = models.randomise(AutoModelForCausalLM.from_config(config), seed=3).double()
    hf_model.set_experts_implementation("eager")  # the others know no float64
    return hf_model, attnxr.Model(hf_model, layers=FAMILIES[family].layers or None)


def seen(family: str, path: str) -> list[tuple[Tensor, Tensor]]:
    """What the modules of a name were handed and put out, in each layer that is looked into, by plain hooks."""
    hf_model, model = built(family)
    found: list[tuple[Tensor, Tensor]] = []
    modules = [hf_model.model.layers[i].self_attn.get_submodule(path) for i in encodings(family).layer.values]
    hooks = [each.register_forward_hook(lambda _m, args, out: found.append((args[0][0], out[0]))) for each in modules]
    with torch.no_grad():
        hf_model(torch.tensor([TEXT]))
    for hook in hooks:
        hook.remove()
    assert len(found) == model.n_layers
    return found


@functools.lru_cache(maxsize=6)
def encodings(family: str) -> xr.Dataset:
    return built(family)[1].encode(token_ids=TEXT, include=["value_vector"])


def by_head(rows: Tensor, n_heads: int) -> Tensor:
    """(n, H · d) to (H, n, d)."""
    return rows.unflatten(-1, (n_heads, -1)).transpose(0, 1)


def of_queries(made: Tensor) -> Tensor:
    """Qwen3-Next: each head has its query and then its gate."""
    return by_head(made, 4).chunk(2, dim=-1)[1].sigmoid()


GATES: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "afmoe": ("gate_proj", lambda made: by_head(made, 4).sigmoid()),
    "qwen3_next": ("q_proj", of_queries),
    "qwen3_5": ("q_proj", of_queries),
    "laguna-6": ("g_proj", lambda made: nn.functional.softplus(made.float()).double().T[..., None].expand(6, -1, 8)),
}


@pytest.mark.parametrize("family", GATES)
def test_a_gate_is_what_the_models_own_module_makes(family: str) -> None:
    path, gate = GATES[family]
    enc = encodings(family)
    assert enc["gate"].dims == ("layer", "head", "position", "feature")
    for layer, (_, made) in enumerate(seen(family, path)):
        np.testing.assert_allclose(enc["gate"].isel(layer=layer), gate(made), rtol=1e-5)


def test_an_inner_norm_is_its_weight_and_the_scale_that_the_text_gave_it() -> None:
    enc, (hf_model, _) = encodings("bitnet"), built("bitnet")
    for layer, found in enumerate(enc["gate"]):
        z = enc["attention"].values[layer].astype(float) @ np.repeat(enc["value_vector"].values[layer], 2, axis=0)
        norm = hf_model.model.layers[layer].self_attn.attn_sub_norm
        scale = 1 / np.sqrt((oracles.concatenate_heads(z) ** 2).mean(axis=-1) + norm.variance_epsilon)
        weight = norm.weight.detach().numpy().reshape(4, 1, -1)
        np.testing.assert_allclose(found, weight * scale[None, :, None], rtol=1e-5)


@pytest.mark.parametrize("family", ["bitnet", "qwen3_next", "laguna-6"])
def test_a_contribution_is_a_heads_part_of_what_w_o_reads(family: str) -> None:
    hf_model, model = built(family)
    enc = encodings(family)
    found = model.vocabulary_encodings(enc, [5], of="contribution", space="embedding")["vector"]
    for i, (given, made) in enumerate(seen(family, "o_proj")):
        weight = hf_model.model.layers[int(enc.layer[i])].self_attn.o_proj.weight.detach()
        parts = weight.unflatten(1, (model.n_heads, -1))
        true = torch.einsum("dhf,hnf->hnd", parts, by_head(given, model.n_heads))
        assert oracles.relative_error(found.values[i], true.numpy()) <= 1e-5
        np.testing.assert_allclose(found.isel(layer=i).sum("head"), made.detach(), atol=1e-5)


@pytest.mark.parametrize("family", ["bitnet", "qwen3_next"])
def test_the_parts_of_a_logit_go_through_it(family: str) -> None:
    """These models norm before they add, so that a head's part goes through the last norm alone."""
    hf_model, model = built(family)
    enc = encodings(family)
    last: list[Tensor] = []
    hook = hf_model.model.norm.register_forward_hook(lambda _m, args, _out: last.append(args[0][0]))
    with torch.no_grad():
        logits = hf_model(torch.tensor([TEXT])).logits[0]
    hook.remove()
    norm = hf_model.model.norm
    eps = norm.eps if family == "qwen3_next" else norm.variance_epsilon
    gain = norm.weight.detach() + (1 if family == "qwen3_next" else 0)
    gain = gain / (last[0].square().mean(-1, keepdim=True) + eps).sqrt()
    ids = [5, 60]
    found = model.logit_parts(enc, xr.DataArray(ids, dims="entry"))
    for i, (given, _) in enumerate(seen(family, "o_proj")):
        weight = hf_model.model.layers[int(enc.layer[i])].self_attn.o_proj.weight.detach().unflatten(1, (4, -1))
        written = torch.einsum("dhf,hnf->hnd", weight, by_head(given, 4)) * gain
        true = written @ hf_model.lm_head.weight.detach()[ids].T
        np.testing.assert_allclose(found["head_logit"].isel(layer=i), true, atol=1e-6)
    np.testing.assert_allclose(found["logit"], logits[:, ids], atol=1e-6)
    assert abs(found["remainder"]).max() <= 1e-6
    # Blocks with linear attention add what is neither a head's nor a feed-forward's of those that are looked into.
    assert bool((found["rest_logit"] != 0).any()) == (family == "qwen3_next")
    with pytest.raises(UnsupportedModelError, match="gate or a norm"):
        model.head_maps([5])


@pytest.mark.parametrize("family", ["bitnet", "qwen3_next"])
def test_a_replaced_encoding_goes_through_it(family: str) -> None:
    """With a plain hook on the eager attention's output: on a norm, W_O reads of all heads what one of them writes."""
    hf_model, model = built(family)
    enc = encodings(family)
    head, position, layer = 2, 5, int(enc.layer[0])
    change = model.replace(enc.isel(layer=[0], head=[head], position=[position]), by=0 * enc["head_encoding"])
    attention = hf_model.model.layers[layer].self_attn
    gate = enc["gate"].values[0].astype(float)
    z = enc["head_encoding"].values[0].astype(float)
    z[head, position] = 0
    if family == "bitnet":
        norm = attention.attn_sub_norm
        scale = np.sqrt((oracles.concatenate_heads(z) ** 2).mean(axis=-1) + norm.variance_epsilon)
        gate = norm.weight.detach().numpy().reshape(4, 1, -1) / scale[None, :, None]
    read = torch.from_numpy(oracles.concatenate_heads(z * gate))[None]
    ids = torch.tensor([TEXT])
    with torch.no_grad():
        own = hf_model.model(ids).last_hidden_state[0]
        hook = attention.o_proj.register_forward_pre_hook(lambda _m, _args: (read,))
        other = hf_model.model(ids).last_hidden_state[0]
    hook.remove()
    expected = float((other - own)[position].norm() / own[position].norm())
    assert float(change["hidden_change"].squeeze()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", ["bitnet", "afmoe"])
def test_it_is_found_in_every_precision(family: str, dtype: Any) -> None:
    model = attnxr.Model(FAMILIES[family].build(), dtype=dtype)
    assert model.verify().attrs["passed"] == 1
    exact = attnxr.Model(FAMILIES[family].build().double()).encode(token_ids=TEXT) if family == "bitnet" else None
    enc = model.encode(token_ids=TEXT)
    assert enc["gate"].dtype == np.float32
    if exact is not None:
        allowed = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.01}[dtype]
        np.testing.assert_allclose(enc["gate"], exact["gate"], rtol=allowed)


def test_where_a_head_writes_nothing_there_is_no_factor_and_no_contribution(tmp_path: Any) -> None:
    hf_model = FAMILIES["afmoe"].build()
    with torch.no_grad():
        hf_model.layers[1].self_attn.v_proj.weight[:12] = 0  # the values of the first two heads
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT)
    assert enc["gate"].isel(layer=1, head=[0, 1]).isnull().all()
    assert enc["gate"].isel(layer=1, head=[2, 3]).notnull().all()
    found = model.vocabulary_encodings(enc, [5], of="contribution", space="embedding")["vector"]
    assert (found.isel(layer=1, head=[0, 1]) == 0).all()
    assert (found.isel(layer=1, head=[2, 3]) != 0).any("feature").all()
    assert model.verify().attrs["passed"] == 1
    (tmp_path / "text.nc").write_bytes(attnxr.saved.write(enc, model.neighbors(enc, k=2)))
    opened = attnxr.saved.read(tmp_path / "text.nc").encodings
    assert opened is not None
    xr.testing.assert_identical(opened["gate"], enc["gate"])


def test_a_contribution_needs_the_factors() -> None:
    _, model = built("bitnet")
    enc = encodings("bitnet")
    near = model.neighbors(enc.isel(layer=1).sel(head=2), k=3, of="contribution", space="unembedding")
    whole = model.neighbors(enc, k=3, of="contribution", space="unembedding")
    xr.testing.assert_equal(near["neighbor_id"], whole["neighbor_id"].isel(layer=1).sel(head=2))
    with pytest.raises(InputError, match="no 'gate'"):
        model.neighbors(enc.drop_vars("gate"), k=3, of="contribution", space="unembedding")
    with pytest.raises(InputError, match="'gate' has numbers"):
        model.neighbors(enc.assign(gate=enc["gate"] * np.float32("nan")), k=3, of="contribution", space="unembedding")


class Between(nn.Module):
    """Something else than a gate or a norm, before W_O reads what the heads wrote."""

    def __init__(self, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.change = change

    def forward(self, z: Tensor) -> Tensor:
        return self.change(z)


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "the mean of all heads is subtracted": lambda z: z - z.mean(-1, keepdim=True),
    "something is added": lambda z: z + 1,
    "heads are mixed": lambda z: z + z.roll(8, -1),
    "heads change places": lambda z: z.roll(8, -1),
    "it is squared": lambda z: z * z.abs(),
    "positions are mixed": lambda z: z.cumsum(1),
    "a gate that depends on z": lambda z: z * z.sigmoid(),
    "a scale that grows with z": lambda z: z * z.norm(dim=-1, keepdim=True),
}


@pytest.mark.parametrize("what", OTHERS)
def test_anything_else_is_refused_with_the_reason(what: str) -> None:
    hf_model: Any = FAMILIES["bitnet"].build()
    hf_model.layers[1].self_attn.attn_sub_norm = Between(OTHERS[what])
    with pytest.raises(UnsupportedModelError, match="no linear map in layer 1 that reads"):
        attnxr.Model(hf_model)
    chosen = attnxr.Model(hf_model, layers=[0, 2])  # of the others it is known
    assert chosen.verify().attrs["passed"] == 1


def test_nothing_between_is_no_gate() -> None:
    hf_model: Any = FAMILIES["bitnet"].build()
    for layer in hf_model.layers:
        layer.self_attn.attn_sub_norm = nn.Identity()
    assert "gate" not in attnxr.Model(hf_model).encode(token_ids=TEXT)


def test_a_hook_that_changes_what_w_o_is_handed_is_refused() -> None:
    hf_model: Any = FAMILIES["llama"].build()
    hf_model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda _m, args: (args[0] * 0.5,))
    with pytest.raises(UnsupportedModelError, match="layer 0"):
        attnxr.Model(hf_model)
