"""Weights that are not floats, adapters, compiled parts and offloaded ones: right, or refused with the reason."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr
from torch import Tensor, nn

import attnxr
from attnxr.errors import UnsupportedModelError
from attnxr.probe.linear import matrix, shape
from tests.support import models, oracles, weights
from tests.support.weights import KINDS, TEXT, Kind, Packed, RoundingEach, replaced

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks for it


@pytest.mark.filterwarnings("ignore")  # of the packages
@pytest.mark.parametrize("name", KINDS)
def test_weights_of_any_kind_are_right_or_refused(name: str) -> None:
    kind: Kind = KINDS[name]
    if not weights.is_there(kind):
        pytest.skip(f"{kind.package} is not installed")
    if not kind.refused:
        weights.check(kind)
        return
    hf_model = kind.make()()
    with pytest.raises(UnsupportedModelError, match=kind.refused):
        attnxr.Model(hf_model)


# The one way to the matrix that a module applies


def plain() -> Any:
    return models.randomise(nn.ModuleDict({"embeddings": nn.Linear(64, 8)}), 5)["embeddings"]


class Hidden(nn.Module):
    """Shows the weight of the map inside, and applies another one, as an adapter does."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner, self.in_features, self.out_features = inner, inner.in_features, inner.out_features

    @property
    def weight(self) -> Tensor:
        return self.inner.weight

    def forward(self, given: Tensor) -> Tensor:
        return 2 * self.inner(given) + given[..., :1]


@pytest.mark.parametrize("how", ["plain", "hooked", "replaced", "packed", "hidden", "conv", "half"])
def test_a_matrix_is_what_the_module_makes_of_vectors(how: str) -> None:
    module = plain()
    if how == "hooked":
        module.register_forward_hook(lambda _m, _args, out: 3 * out)
    elif how == "replaced":
        module.forward = lambda given: nn.Linear.forward(module, given) - given[..., 3:4]
    elif how == "packed":
        module = Packed(module)
    elif how == "hidden":
        module = Hidden(module)
    elif how == "conv":
        module = models.randomise(transformers.pytorch_utils.Conv1D(8, 64), 7)
    elif how == "half":
        module = module.bfloat16()
    like = torch.empty(0, dtype=torch.bfloat16 if how == "half" else torch.float32)
    found, offset = matrix(module, 64, like, "It")
    given = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)).to(like)
    with torch.no_grad():
        true = module(given).double()
    assert shape(module) == (8, 64)
    error = oracles.relative_error((given.double() @ found.double().T + offset.double()).numpy(), true.numpy())
    assert error <= (1e-2 if how == "half" else 1e-6)


def test_what_rounds_its_input_is_no_linear_map() -> None:
    with pytest.raises(UnsupportedModelError, match=r"W_O is a RoundingEach .* no linear map"):
        matrix(RoundingEach(plain()), 64, torch.empty(0), "W_O")


# Layers that write


class Halving(nn.Linear):
    """Writes to its own weight each time that it runs, through ``.data``, which counts no versions."""

    def __init__(self, given: nn.Linear) -> None:
        super().__init__(given.in_features, given.out_features, given.bias is not None)
        self.load_state_dict(given.state_dict())

    def forward(self, given: Tensor) -> Tensor:
        self.weight.data.mul_(0.5)
        return super().forward(given)


def test_a_model_that_never_computes_the_same_again_is_refused_and_left_as_it_is() -> None:
    hf_model = replaced(weights.llama(), Halving, "v_proj")
    before = copy.deepcopy(hf_model.state_dict())
    with pytest.raises(UnsupportedModelError, match=r"each time.*layers\.0\.self_attn\.v_proj, a Halving"):
        attnxr.Model(hf_model)
    assert all(torch.equal(each, before[name]) for name, each in hf_model.state_dict().items())


def test_a_model_that_packs_is_the_same_model_before_and_after_it_ran() -> None:
    hf_model = KINDS["by hand: packs once"].make()()
    model = attnxr.Model(hf_model)
    enc, fingerprint = model.encode(token_ids=TEXT), model.fingerprint
    with torch.no_grad():
        hf_model(torch.tensor([TEXT]))
    assert model.fingerprint == fingerprint
    xr.testing.assert_equal(model.encode(token_ids=TEXT), enc)
    model.neighbors(enc, k=3)  # the encodings are still of this model


# Adapters of PEFT


def adapted(hf_model: Any, *names: str, **options: Any) -> Any:
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=[*names], init_lora_weights=False, **options)
    return peft.get_peft_model(hf_model, config).eval()


def test_an_adapter_unmerged_and_merged_says_the_same() -> None:
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "embed_tokens", "lm_head")
    unmerged = attnxr.Model(adapted(weights.llama(), *names))
    merged = attnxr.Model(adapted(weights.llama(), *names).merge_and_unload())
    found, expected = (
        [
            enc["head_encoding"],
            model.distances(enc, metric="euclidean")["distance"],
            model.distances(enc, metric="euclidean", of="contribution", space="embedding")["distance"],
            model.distances(enc, metric="dot", of="hidden", space="unembedding")["distance"],
            model.logit_parts(enc)["head_logit"].isel(position=slice(None, -1)),
        ]
        for model in (unmerged, merged)
        for enc in [model.encode(token_ids=TEXT, include=["hidden"])]
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, atol=1e-5 * np.abs(other.values).max())


def test_an_adapter_that_is_switched_off_later_is_seen() -> None:
    hf_model = adapted(weights.llama(), "v_proj", "o_proj")
    model = attnxr.Model(hf_model)
    on = model.encode(token_ids=TEXT)["head_encoding"].values
    with hf_model.disable_adapter():
        off = model.encode(token_ids=TEXT)["head_encoding"].values
    expected = attnxr.Model(weights.llama()).encode(token_ids=TEXT)["head_encoding"].values
    np.testing.assert_array_equal(off, expected)
    assert oracles.relative_error(on, off) > 0.01
    np.testing.assert_array_equal(model.encode(token_ids=TEXT)["head_encoding"].values, on)


def test_biases_of_a_transform_are_counted_once_where_an_adapter_shows_them_twice() -> None:
    """PEFT's layer has the ``bias`` of the map inside, which is a linear map with that bias too."""
    hf_model = adapted(models.tiny_bert(transformers.BertForMaskedLM), "dense").get_base_model()
    model = attnxr.Model(hf_model)
    parts = model.logit_parts(model.encode(token_ids=TEXT))
    merged = attnxr.Model(adapted(models.tiny_bert(transformers.BertForMaskedLM), "dense").merge_and_unload())
    expected = merged.logit_parts(merged.encode(token_ids=TEXT))
    for name in ("head_logit", "bias_logit", "logit", "remainder"):
        np.testing.assert_allclose(parts[name], expected[name], atol=1e-4 * float(np.abs(expected["logit"]).max()))


def test_an_adapter_around_a_compiled_model_and_one_that_is_compiled_are_taken_off() -> None:
    expected = attnxr.Model(adapted(weights.llama(), "v_proj")).encode(token_ids=TEXT)
    model = attnxr.Model(torch.compile(adapted(weights.llama(), "v_proj"), backend="eager"))
    xr.testing.assert_equal(model.encode(token_ids=TEXT)["head_encoding"], expected["head_encoding"])
