"""A model whose layers write to their own tensors as they run is left as it is; a copy of them runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import attnxr
from attnxr.errors import UnsupportedModelError
from tests.support import models
from tests.support.families import FAMILIES

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]


class Packing(nn.Linear):
    """Packs its weight into a buffer when it first runs, as bitsandbytes' 4-bit layer does on some CPUs."""

    def forward(self, given: Tensor) -> Tensor:
        weight = self.pack()
        return functional.linear(given, weight, self.bias)

    def pack(self) -> Tensor:
        if not hasattr(self.weight, "scale"):
            self.weight.scale = self.weight.data.abs().amax()
            self.weight.data = self.weight.data / self.weight.scale
        return self.weight * self.weight.scale


class Moving(Packing):
    """Hands on what hangs on its weight, as bitsandbytes' 8-bit layer does, and writes no number."""

    def pack(self) -> Tensor:
        self.scale = getattr(self.weight, "held", None)
        self.weight.held = None
        return self.weight


class Reading(Packing):
    """A subclass that only reads."""

    def pack(self) -> Tensor:
        return self.weight


def build(kind: type[nn.Linear]) -> Any:
    hf_model: Any = FAMILIES["llama"].build()
    for layer in hf_model.layers:
        old = layer.self_attn.v_proj
        new = kind(old.in_features, old.out_features, bias=old.bias is not None)
        new.load_state_dict(old.state_dict())
        new.weight.held = torch.ones(3)
        layer.self_attn.v_proj = new
    return hf_model.eval()


@pytest.mark.parametrize("kind", [Packing, Moving])
def test_a_layer_that_writes_to_its_own_weight_runs_on_a_copy_and_is_left_as_it_is(kind: type[nn.Linear]) -> None:
    hf_model, untouched = build(kind), build(kind)
    model = attnxr.Model(hf_model)
    found, expected = (each.encode(token_ids=TEXT) for each in (model, attnxr.Model(build(nn.Linear))))
    np.testing.assert_allclose(found["head_encoding"], expected["head_encoding"], rtol=1e-4, atol=1e-5)
    assert model.verify().attrs["passed"] == 1
    for one, other in zip(hf_model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(one, other)
        assert vars(one).keys() == vars(other).keys()
    assert all(torch.equal(layer.self_attn.v_proj.weight.held, torch.ones(3)) for layer in hf_model.layers)
    ids = torch.tensor([TEXT])
    assert torch.equal(hf_model(ids)[0], untouched(ids)[0])


def test_a_layer_of_ones_own_that_only_reads_is_looked_into() -> None:
    found, expected = (attnxr.Model(each).encode(token_ids=TEXT) for each in (build(Reading), build(nn.Linear)))
    assert (found["head_encoding"] == expected["head_encoding"]).all()


def test_layers_without_numbers_are_refused() -> None:
    hf_model: Any = FAMILIES["llama"].build()
    hf_model.layers[0].mlp.up_proj = nn.LazyLinear(48)
    with pytest.raises(UnsupportedModelError, match=r"uninitialised \(layers\.0\.mlp\.up_proj"):
        attnxr.Model(hf_model)


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors"])
def test_a_quantised_folder_without_its_library_is_said_to_be_one(method: str, tmp_path: Path) -> None:
    folder = models.save(tmp_path, models.tiny_roberta(), models.byte_level_tokenizer())
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=f"quantised .quant_method '{method}'"):
        attnxr.load_model(str(folder))
