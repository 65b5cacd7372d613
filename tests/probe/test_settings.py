"""What a model computes with besides its tensors is noticed when it changes, and looked at anew."""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
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


STRENGTH = 1.0
STRENGTHS = {"by": 1.0}


class Slotted:
    """An object without a ``__dict__``, and a class that says something for all."""

    __slots__ = ("by",)
    also = 1.0

    def __init__(self) -> None:
        self.by = 1.0


class Outside(nn.Module):
    """A module that is no part of the model, such as a sparse autoencoder, and a method of it that is a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.by = nn.Parameter(torch.ones(1)), 1.0

    def forward(self, _m: Any, _i: Any, output: Tensor) -> Tensor:
        return output * self.weight

    def by_number(self, _m: Any, _i: Any, output: Tensor) -> Tensor:
        return output * self.by


def _of_keyword(_m: Any, _i: Any, output: Tensor, *, by: dict = STRENGTHS) -> Tensor:
    return output * by["by"]


def _fill(tensor: Tensor, value: float) -> None:
    with torch.no_grad():
        tensor.fill_(value)


def _hold(held: Any, hook: Callable[[Any], Any], change: Callable[[Any], Any]) -> tuple[Callable, Callable]:
    """A hook that holds something, and what changes that."""
    return hook(held), lambda: change(held)


# What a hook can hold, or look at: a hook on the embeddings that multiplies them by 1, and what makes that a 3.
HELD: dict[str, Callable[[], tuple[Any, Callable]]] = {
    "a number of the file": lambda: (
        lambda _m, _i, out: out * STRENGTH,
        lambda: setattr(sys.modules[__name__], "STRENGTH", 3.0),
    ),
    "a dict of the file": lambda: (lambda _m, _i, out: out * STRENGTHS["by"], lambda: STRENGTHS.update(by=3.0)),
    "a keyword's default": lambda: (_of_keyword, lambda: STRENGTHS.update(by=3.0)),
    "an array": lambda: _hold(
        np.ones(1, np.float32), lambda a: lambda _m, _i, out: out * torch.from_numpy(a), lambda a: a.fill(3)
    ),
    "one of many": lambda: _hold(
        dict.fromkeys(range(144), 1.0), lambda d: lambda _m, _i, out: out * d[99], lambda d: d.update({99: 3.0})
    ),
    "a deque": lambda: _hold(deque([1.0]), lambda d: lambda _m, _i, out: out * d[0], lambda d: d.__setitem__(0, 3.0)),
    "an object with slots": lambda: _hold(
        Slotted(), lambda held: lambda _m, _i, out: out * held.by, lambda held: setattr(held, "by", 3.0)
    ),
    "a class": lambda: _hold(
        type("Of", (), {"by": 1.0}), lambda kind: lambda _m, _i, out: out * kind.by, lambda kind: setattr(kind, "by", 3)
    ),
    "a tensor's data": lambda: _hold(torch.ones(1), lambda t: lambda _m, _i, out: out * t, lambda t: t.data.fill_(3.0)),
    "another module's weight": lambda: _hold(
        Outside(), lambda it: lambda _m, _i, out: out * it.weight, lambda it: _fill(it.weight, 3.0)
    ),
    "another module": lambda: _hold(Outside(), lambda it: it, lambda it: _fill(it.weight, 3.0)),
    "another module's method": lambda: _hold(Outside(), lambda it: it.by_number, lambda it: setattr(it, "by", 3.0)),
    "what nobody can look into": lambda: _hold(
        iter([]), lambda _: _from_far_away([1.0]).hook, lambda _: _far.append(3.0)
    ),
}
_far: list[float] = []


class _from_far_away:  # noqa: N801 - a function that makes a hook
    def __init__(self, by: list[float]):
        self.hook = lambda _m, _i, out: out * sys.modules[__name__]._far[-1]
        _far[:] = by


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


@pytest.mark.parametrize("held", HELD)
def test_what_a_hook_looks_at_is_noticed(held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found out by then is not used: words are compared as the hook makes them now."""
    monkeypatch.setitem(STRENGTHS, "by", 1.0)
    monkeypatch.setattr(sys.modules[__name__], "STRENGTH", 1.0)
    hf_model: Any = FAMILIES["bert"].build()
    embeddings = hf_model.get_input_embeddings()
    hook, change = HELD[held]()
    embeddings.register_forward_hook(hook)
    model = attnxr.Model(hf_model)
    old = model.encode(token_ids=TEXT)
    model.neighbors(old, k=3)
    change()
    new = model.encode(token_ids=TEXT)
    near = model.neighbors(new, k=3)
    with pytest.raises(InputError, match="fingerprint"):
        model.neighbors(old, k=3)
    assert attnxr.Model(hf_model).fingerprint == model.fingerprint
    embeddings._forward_hooks.clear()
    with torch.no_grad():
        embeddings.weight *= 3  # what the hook does
    plain = attnxr.Model(hf_model)
    enc = plain.encode(token_ids=TEXT)
    expected = plain.neighbors(enc, k=3)
    np.testing.assert_allclose(new["head_encoding"], enc["head_encoding"], atol=1e-5)
    np.testing.assert_allclose(near["distance"], expected["distance"], atol=1e-5)
    np.testing.assert_array_equal(near["neighbor_id"], expected["neighbor_id"])


def test_a_function_that_a_familys_file_calls_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    hf_model: Any = FAMILIES["llama"].build()
    model = attnxr.Model(hf_model)
    old = model.encode(token_ids=TEXT)
    theirs = sys.modules[type(hf_model).__module__]
    monkeypatch.setattr(theirs, "apply_rotary_pos_emb", lambda query, key, *_: (query, key))
    new = model.encode(token_ids=TEXT)
    assert float(abs(new["head_encoding"] - old["head_encoding"]).max()) > 1e-3
    with pytest.raises(InputError, match="fingerprint"):
        model.neighbors(old, k=3)


def test_a_hook_on_every_module_there_is_is_noticed() -> None:
    hf_model: Any = FAMILIES["gpt2"].build()
    model = attnxr.Model(hf_model)
    old = model.encode(token_ids=TEXT)
    kept = nn.modules.module.register_module_forward_hook(
        lambda module, _i, out: out * 3 if isinstance(module, nn.Embedding) else None
    )
    try:
        with pytest.raises(InputError, match="fingerprint"):
            model.neighbors(old, k=3)
        assert model.fingerprint == attnxr.Model(hf_model).fingerprint
    finally:
        kept.remove()
    model.neighbors(old, k=3)


class _Noting(nn.Module):
    """A module of the user's that notes in a variable of its file what it saw."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, given: Tensor) -> Tensor:
        NOTED.append(given.shape)
        return self.inner(given)


NOTED: list[Any] = []


def test_what_a_module_notes_in_its_file_is_no_setting() -> None:
    hf_model: Any = FAMILIES["llama"].build()
    hf_model.layers[0].mlp = _Noting(hf_model.layers[0].mlp)
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT)
    assert model._look() is model._look()
    NOTED.clear()
    model.neighbors(enc, k=3)
    assert model.fingerprint == attnxr.Model(hf_model).fingerprint


def test_a_heads_part_of_a_matrix_that_is_set_without_torch_counting_it_is_noticed() -> None:
    """``weight.data[…] = 0`` is how heads are switched off, and single words are given other embeddings."""

    def rows(hf_model: Any, names: list[str]) -> Any:
        return [hf_model.get_submodule(name).weight for name in names]

    for part in (np.s_[:, 8:16], np.s_[8:16], np.s_[5], np.s_[:, 5]):
        hf_model: Any = FAMILIES["bert"].build()
        hf_model.config.name_or_path = "a name"
        model = attnxr.Model(hf_model)
        names = ["encoder.layer.1.attention.output.dense", "embeddings.word_embeddings", "encoder.layer.0.output.dense"]
        for weight in rows(hf_model, names):
            old = model.encode(token_ids=TEXT)
            weight.data[part] = 0
            assert model.fingerprint == attnxr.Model(hf_model).fingerprint != old.attrs["fingerprint"]
            with pytest.raises(InputError, match="fingerprint"):
                model.neighbors(old, k=3)


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
