"""What a model computes with besides its tensors is noticed when it changes, and looked at anew."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import attnxr
from attnxr.errors import InputError
from tests.support.families import FAMILIES

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]


class Adapted(nn.Module):
    """A linear map with an adapter that can be switched off, as peft's."""

    def __init__(self, inner: nn.Linear):
        super().__init__()
        self.inner, self.disabled, self.scaling = inner, False, {"x": 1.0}
        self.added = nn.Linear(inner.in_features, inner.out_features, bias=False)

    def forward(self, given: Tensor) -> Tensor:
        written = self.inner(given)
        return written if self.disabled else written + self.scaling["x"] * self.added(given)


class Steering:
    """A hook with a state of its own, and a log of what it saw."""

    def __init__(self) -> None:
        self.strength, self.seen = 1.0, []  # type: ignore[var-annotated]

    def __call__(self, _m: Any, _i: Any, output: Any) -> Any:
        self.seen.append(output[0].shape)
        return output * self.strength


def llama() -> Any:
    torch.manual_seed(0)
    hf_model: Any = FAMILIES["llama"].build()
    for layer in hf_model.layers:
        layer.self_attn.v_proj = Adapted(layer.self_attn.v_proj)
    hf_model.layers[0].input_layernorm.register_forward_hook(Steering())
    strength = {"by": 1.0}
    hf_model.layers[1].mlp.register_forward_hook(lambda _m, _i, out: out * strength["by"])
    hf_model.strength = strength
    return hf_model


def _set(find: Callable[[Any], Any], name: str, value: Any) -> Callable[[Any], None]:
    return lambda hf_model: setattr(find(hf_model), name, value)


def _replace_forward(hf_model: Any) -> None:
    norm = hf_model.layers[1].input_layernorm
    norm.forward = types.MethodType(lambda self, given: 2 * type(self).forward(self, given), norm)


def _set_strength(hf_model: Any) -> None:
    (hook,) = hf_model.layers[0].input_layernorm._forward_hooks.values()
    hook.strength = 3.0


CHANGES: dict[str, Callable[[Any], None]] = {
    "scaling": _set(lambda model: model.layers[1].self_attn, "scaling", 2.0),
    "epsilon": _set(lambda model: model.layers[0].input_layernorm, "variance_epsilon", 0.5),
    "activation": _set(lambda model: model.layers[0].mlp, "act_fn", nn.Tanh()),
    "forward": _replace_forward,
    "adapter": _set(lambda model: model.layers[0].self_attn.v_proj, "disabled", True),
    "adapter's scale": lambda model: model.layers[0].self_attn.v_proj.scaling.update(x=4.0),
    "hook's state": _set_strength,
    "hook's closure": lambda model: model.strength.update(by=5.0),
    "another hook": lambda model: model.layers[0].mlp.register_forward_hook(lambda _m, _i, out: -out) and None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_that_changes_is_noticed(change: str) -> None:
    hf_model = llama()
    model = attnxr.Model(hf_model)
    old, fingerprint = model.encode(token_ids=TEXT), model.fingerprint
    xr.testing.assert_identical(model.encode(token_ids=TEXT), old)
    model.neighbors(old, k=3)
    dist = model.distances(old).distance
    CHANGES[change](hf_model)
    new, again = model.encode(token_ids=TEXT), attnxr.Model(hf_model)
    xr.testing.assert_identical(new, again.encode(token_ids=TEXT))
    assert float(abs(new["head_encoding"] - old["head_encoding"]).max()) > 1e-3
    xr.testing.assert_identical(model.neighbors(new, k=3), again.neighbors(new, k=3))
    assert model.fingerprint == again.fingerprint != fingerprint
    with pytest.raises(InputError, match="fingerprint"):
        model.neighbors(old, k=3)
    with pytest.raises(InputError, match="changed"):
        dist[0, 0].load()


def test_a_value_of_the_configuration_that_changes_is_noticed() -> None:
    hf_model: Any = FAMILIES["gpt2"].build()
    model = attnxr.Model(hf_model)
    old, fingerprint = model.encode(token_ids=TEXT), model.fingerprint
    hf_model.config.scale_attn_by_inverse_layer_idx ^= True
    assert model.fingerprint == attnxr.Model(hf_model).fingerprint != fingerprint
    with pytest.raises(InputError, match="fingerprint"):
        model.neighbors(old, k=3)


def test_what_changes_no_number_changes_no_answer() -> None:
    """Notes that a model or a hook makes as it runs, and the mode it is in."""
    hf_model = llama()

    def count(module: Any, *_: Any) -> None:
        module.calls = getattr(module, "calls", 0) + 1

    hf_model.layers[2].register_forward_hook(count)
    model = attnxr.Model(hf_model)
    old = model.encode(token_ids=TEXT)
    seen = model._look()
    with torch.no_grad():
        hf_model(torch.tensor([TEXT]))
    hf_model.train()
    assert model._look().fingerprint == seen.fingerprint
    model.neighbors(old, k=3)
    assert attnxr.Model(llama()).fingerprint == attnxr.Model(llama()).fingerprint


def test_an_adapter_of_peft_that_is_switched_off_is_noticed() -> None:
    peft = pytest.importorskip("peft")
    hf_model: Any = FAMILIES["llama"].build()
    hf_model.add_adapter(peft.LoraConfig(target_modules=["v_proj"], init_lora_weights=False), "x")
    model = attnxr.Model(hf_model)
    old = model.encode(token_ids=TEXT)
    hf_model.disable_adapters()
    new = model.encode(token_ids=TEXT)
    plain = attnxr.Model(FAMILIES["llama"].build()).encode(token_ids=TEXT)
    xr.testing.assert_allclose(new["head_encoding"], plain["head_encoding"], atol=1e-5)
    assert float(abs(new["head_encoding"] - old["head_encoding"]).max()) > 1e-2
    with pytest.raises(InputError, match="fingerprint"):
        model.neighbors(old, k=3)


def test_outputs_that_transformers_records_are_no_settings() -> None:
    """It leaves hooks in a model that was asked for hidden states or attentions once; they change nothing."""
    hf_model, again = llama(), llama()
    again.load_state_dict(hf_model.state_dict())
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT)
    hooks = sum(len(module._forward_hooks) for module in hf_model.modules())
    for each in (hf_model, again):
        with torch.no_grad():
            each(torch.tensor([TEXT]), output_hidden_states=True, output_attentions=True)
    assert sum(len(module._forward_hooks) for module in hf_model.modules()) > hooks
    xr.testing.assert_identical(model.encode(token_ids=TEXT), enc)
    assert model.neighbors(enc, k=3).sizes["rank"] == 3
    assert attnxr.Model(again).fingerprint == model.fingerprint
