"""A model whose layers write to their own tensors as they run is left as it is, and refused for that reason."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
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


class InPlace(Packing):
    """The same, through ``.data``, which counts no versions."""

    def pack(self) -> Tensor:
        self.weight.data.mul_(0.5)
        return self.weight


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


@pytest.mark.parametrize("kind", [Packing, InPlace, Moving])
def test_a_layer_that_writes_to_its_own_weight_is_refused_by_name_and_left_as_it_is(kind: type[nn.Linear]) -> None:
    hf_model, untouched = build(kind), build(kind)
    with pytest.raises(
        UnsupportedModelError, match=rf"write to their own.*layers\.0\.self_attn\.v_proj, a {kind.__name__}"
    ):
        attnxr.Model(hf_model)
    for found, expected in zip(hf_model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(found, expected)
        assert vars(found).keys() == vars(expected).keys()
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


@pytest.mark.filterwarnings("ignore")
def test_dynamic_int8_is_refused_for_its_true_reason() -> None:
    hf_model = torch.ao.quantization.quantize_dynamic(copy.deepcopy(models.tiny_bert()), {nn.Linear}, torch.qint8)
    with pytest.raises(UnsupportedModelError, match="no matrix of numbers, as in quantised"):
        attnxr.Model(hf_model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [8, 4])
def test_a_model_of_bitsandbytes_is_left_as_it_is(bits: int, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    sizes: Any = {"vocab_size": 67, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, intermediate_size=64)).save_pretrained(tmp_path)

    def load() -> Any:
        config: Any = transformers.BitsAndBytesConfig(**{f"load_in_{bits}bit": True})
        return transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, quantization_config=config, device_map="cpu"
        ).eval()

    hf_model, ids = load(), torch.tensor([TEXT])
    if bits == 8:
        with pytest.raises(UnsupportedModelError, match="a Linear8bitLt"):
            attnxr.Model(hf_model)
    elif not hf_model.model.layers[0].self_attn.v_proj.support_avx512bf16_for_cpu:  # where it packs nothing
        enc = attnxr.Model(hf_model).encode(token_ids=TEXT)
        written: list[Tensor] = []
        other = load()
        other.model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda _m, args: written.append(args[0]))
        other(ids)
        expected = written[0][0].unflatten(-1, (4, 16)).transpose(0, 1)
        assert float((torch.tensor(enc["head_encoding"].values[0]) - expected).detach().abs().max()) < 1e-5
    assert torch.equal(hf_model(ids).logits, load()(ids).logits)


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors"])
def test_a_quantised_folder_without_its_library_is_said_to_be_one(method: str, tmp_path: Path) -> None:
    folder = models.save(tmp_path, models.tiny_roberta(), models.byte_level_tokenizer())
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError, match=f"quantised .quant_method '{method}'"):
        attnxr.load_model(str(folder))
