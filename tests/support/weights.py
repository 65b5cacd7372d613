"""Every kind of weights that a model can have: quantised, offloaded, with adapters, compiled; and what holds of each.

``python -m tests.support.weights [kind …]`` tries those whose packages are installed, and writes what came of each.
Models are as tiny as the packages allow, and answers are compared with the same model, built anew and run with plain
PyTorch hooks: what its modules make of vectors, never what their ``weight`` says.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

import attnxr
from attnxr.errors import AttnxrError
from tests.support import models, oracles

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
HEADS, SIZE, VOCABULARY = 4, 16, 96


def llama(**options: Any) -> Any:
    """Of 64 features: packages round groups of as many."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HEADS * SIZE,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 48,
        "pad_token_id": 1,
    }
    return models.randomise(transformers.LlamaForCausalLM(transformers.LlamaConfig(**(sizes | options))), 3)


def replaced(hf_model: Any, kind: Callable[[nn.Linear], nn.Module], *names: str) -> Any:
    """Put another module in the place of some linear maps, made of them."""
    for path, module in list(hf_model.named_modules()):
        if isinstance(module, nn.Linear) and path.endswith(names):
            hf_model.set_submodule(path, kind(module))
    return hf_model.eval()


# Layers as packages have them, by hand


class Packed(nn.Linear):
    """8-bit numbers, four to an int32, and a scale for each row: ``weight`` is of another shape and says nothing."""

    def __init__(self, given: nn.Linear) -> None:
        super().__init__(given.in_features, given.out_features, given.bias is not None)
        scale = given.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        rounded = (given.weight.detach() / scale).round().to(torch.int8)
        self.weight = nn.Parameter(rounded.reshape(-1, 4).view(torch.int32), requires_grad=False)
        self.register_buffer("scale", scale)
        if given.bias is not None:
            self.bias = given.bias

    def matrix(self) -> Tensor:
        scale: Any = self.scale
        return self.weight.view(torch.int8).reshape(self.out_features, self.in_features) * scale

    def forward(self, given: Tensor) -> Tensor:
        return functional.linear(given, self.matrix(), self.bias)


class RoundingEach(Packed):
    """Rounds each token's vector to 8 bits first: no linear map, and each token alone."""

    def forward(self, given: Tensor) -> Tensor:
        unit = self.largest(given.abs()) / 127
        return super().forward((given / unit).round() * unit)

    def largest(self, sizes: Tensor) -> Tensor:
        return sizes.amax(dim=-1, keepdim=True)


class RoundingAll(RoundingEach):
    """Rounds all tokens together, as torch's dynamic quantisation does."""

    def largest(self, sizes: Tensor) -> Tensor:
        return sizes.amax()


class PackingOnce(nn.Linear):
    """Packs its own weight when it first runs, as bitsandbytes does."""

    def __init__(self, given: nn.Linear) -> None:
        super().__init__(given.in_features, given.out_features, given.bias is not None)
        self.load_state_dict(given.state_dict())

    def forward(self, given: Tensor) -> Tensor:
        kept: Any = self.weight
        if not hasattr(kept, "unit"):
            kept.unit = 4.0
            kept.data = kept.data / kept.unit
        return functional.linear(given, self.weight * kept.unit, self.bias)


# Kinds


@dataclass(frozen=True)
class Kind:
    """A kind of weights.

    Attributes
    ----------
    package : str
        What has to be installed; "" for none.
    make : callable
        Makes what builds one and the same model at each call.
    refused : str
        What the refusal says, where the model is refused.
    is_linear : bool
        Whether W_O is a linear map, so that heads have a part in what it writes.
    tolerance : float
    """

    package: str
    make: Callable[[], Callable[[], Any]]
    refused: str = ""
    is_linear: bool = True
    tolerance: float = 1e-5


def _by_hand(kind: Callable[[nn.Linear], nn.Module], *names: str) -> Callable[[], Callable[[], Any]]:
    return lambda: lambda: replaced(llama(), kind, *names)


def _saved() -> str:
    folder = tempfile.mkdtemp()
    llama().save_pretrained(folder)
    return folder


def _loaded(config: Callable[[], Any], dtype: torch.dtype = torch.float32) -> Callable[[], Callable[[], Any]]:
    """What from_pretrained quantises; with the attention that attnxr calls, as what is rounded once more differs."""

    def make() -> Callable[[], Any]:
        folder = _saved()
        return lambda: transformers.AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=config(), device_map="cpu", attn_implementation="eager", dtype=dtype
        ).eval()

    return make


def _bits(**options: Any) -> Callable[[], Any]:
    return lambda: transformers.BitsAndBytesConfig(**options)


def _torchao(name: str, **options: Any) -> Callable[[], Any]:
    def config() -> Any:
        import torchao.quantization as quantization  # type: ignore[import-not-found]

        return transformers.TorchAoConfig(getattr(quantization, name)(**options))

    return config


def _compressed(bits: int, ran: bool, rounding: bool = False) -> Callable[[], Callable[[], Any]]:
    def make() -> Callable[[], Any]:
        from compressed_tensors.compressors import ModelCompressor  # type: ignore[import-not-found]
        from compressed_tensors.quantization import (  # type: ignore[import-not-found]
            QuantizationArgs,
            QuantizationConfig,
            QuantizationScheme,
            QuantizationStatus,
            apply_quantization_config,
        )

        hf_model = llama()
        of_weights = QuantizationArgs(num_bits=bits, symmetric=True, strategy="channel")
        of_inputs = QuantizationArgs(num_bits=8, symmetric=True, strategy="token", dynamic=True) if rounding else None
        scheme = QuantizationScheme(targets=["Linear"], weights=of_weights, input_activations=of_inputs)
        apply_quantization_config(hf_model, QuantizationConfig(config_groups={"all": scheme}, ignore=["lm_head"]))
        for module in hf_model.modules():
            if hasattr(module, "weight_scale"):
                module.weight_scale.data.copy_(module.weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1))
            if hasattr(module, "quantization_status"):
                module.quantization_status = QuantizationStatus.FROZEN
        compressor = ModelCompressor.from_pretrained_model(hf_model)
        compressor.compress_model(hf_model)
        folder = tempfile.mkdtemp()
        hf_model.save_pretrained(folder)
        compressor.update_config(folder)

        def build() -> Any:
            found = transformers.AutoModelForCausalLM.from_pretrained(
                folder, device_map="cpu", attn_implementation="eager"
            ).eval()
            if ran:
                with torch.no_grad():
                    found(torch.tensor([TEXT]))
            return found

        return build

    return make


def _gptq() -> Callable[[], Any]:
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear  # type: ignore[import-not-found]

    def packed(given: nn.Linear) -> nn.Module:
        rows, width = given.weight.shape
        groups = given.weight.detach().float().reshape(rows, -1, 32)
        scale = groups.abs().amax(dim=-1) / 7
        made = TorchLinear(4, 32, True, False, width, rows)
        rounded = nn.Linear(width, rows, bias=False)
        rounded.weight.data = ((groups / scale[..., None]).round() * scale[..., None]).reshape(rows, width)
        made.pack(rounded, scale, torch.full_like(scale, 8), torch.arange(width) // 32)
        made.post_init()
        return made

    return lambda: replaced(llama(attn_implementation="eager").to(torch.bfloat16), packed, "_proj")


def _hqq() -> Callable[[], Any]:
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear  # type: ignore[import-not-found]

    def packed(given: nn.Linear) -> nn.Module:
        return HQQLinear(given, BaseQuantizeConfig(nbits=4, group_size=64), compute_dtype=torch.float32, device="cpu")

    return lambda: replaced(llama(), packed, "_proj")


def _awq() -> Callable[[], Any]:
    from awq.modules.linear.gemm import WQLinear_GEMM  # type: ignore[import-not-found]

    def packed(given: nn.Linear) -> nn.Module:
        rows, width = given.weight.shape
        groups = given.weight.detach().float().reshape(rows, -1, 32)
        least = groups.amin(dim=-1)
        scale = (groups.amax(dim=-1) - least) / 15
        zero = (-least / scale).round()
        rounded = nn.Linear(width, rows, bias=False)
        rounded.weight.data = ((groups / scale[..., None]).round() * scale[..., None]).reshape(rows, width)
        return WQLinear_GEMM.from_linear(rounded.half(), 4, 32, False, scale.half().T.contiguous(), zero.T.contiguous())

    return lambda: replaced(llama(attn_implementation="eager").half(), packed, "_proj")


def _adapter(kind: str = "LoraConfig", inside: bool = True, **options: Any) -> Callable[[], Callable[[], Any]]:
    def make() -> Callable[[], Any]:
        import peft  # type: ignore[import-not-found]

        def build() -> Any:
            hf_model = llama()
            torch.manual_seed(1)
            found = peft.get_peft_model(hf_model, getattr(peft, kind)(**options)).eval()
            return found.get_base_model() if inside else found

        return build

    return make


def _lora(*names: str, inside: bool = True, **options: Any) -> Callable[[], Callable[[], Any]]:
    always = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "init_lora_weights": False}
    return _adapter(inside=inside, target_modules=[*names], **always, **options)


def _compiled_parts() -> Callable[[], Any]:
    return lambda: replaced(llama(), lambda given: torch.compile(given, backend="eager"), "o_proj", "lm_head")


def _offloaded(**where: str) -> Callable[[], Callable[[], Any]]:
    def make() -> Callable[[], Any]:
        folder = _saved()
        parts = ("model.embed_tokens", "model.rotary_emb", "model.layers.0", "model.layers.1", "model.norm", "lm_head")
        places = dict.fromkeys(parts, "cpu") | {name.replace("__", "."): each for name, each in where.items()}
        return lambda: transformers.AutoModelForCausalLM.from_pretrained(
            folder, device_map=places, offload_folder=tempfile.mkdtemp()
        ).eval()

    return make


def _dispatched() -> Callable[[], Any]:
    import accelerate

    return lambda: accelerate.dispatch_model(llama(), {"": "cpu"}, force_hooks=True)


def _offloaded_to_memory() -> Callable[[], Any]:
    import accelerate

    return lambda: accelerate.cpu_offload(llama(), execution_device=torch.device("cpu"))


def _dynamic() -> Callable[[], Any]:
    return lambda: torch.ao.quantization.quantize_dynamic(llama(), {nn.Linear}, torch.qint8)


_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_BESIDE = "beside it"
_OFFLOADED = "accelerate keeps them elsewhere"
KINDS: dict[str, Kind] = {
    "by hand: packed": Kind("", _by_hand(Packed, "_proj", "lm_head")),
    "by hand: packs once": Kind("", _by_hand(PackingOnce, "_proj", "lm_head")),
    "by hand: each token rounded": Kind("", _by_hand(RoundingEach, *_ATTENTION), is_linear=False),
    "by hand: all tokens rounded": Kind("", _by_hand(RoundingAll, *_ATTENTION), _BESIDE),
    "torch: dynamic int8": Kind("", _dynamic, _BESIDE),
    "torch: compiled parts": Kind("", _compiled_parts),
    "accelerate: hooks": Kind("accelerate", _dispatched),
    "accelerate: to memory": Kind("accelerate", _offloaded_to_memory, _OFFLOADED),
    "accelerate: to a disk": Kind("accelerate", _offloaded(model__layers__1="disk"), _OFFLOADED),
    "peft: LoRA, as a PeftModel": Kind("peft", _lora(*_ATTENTION, inside=False)),
    "peft: LoRA everywhere": Kind("peft", _lora(*_ATTENTION, "embed_tokens", "lm_head", inside=False)),
    "peft: DoRA": Kind("peft", _lora("v_proj", "o_proj", use_dora=True)),
    "peft: IA3": Kind(
        "peft",
        _adapter(
            "IA3Config",
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
            init_ia3_weights=False,
        ),
    ),
    "peft: prefix": Kind(
        "peft",
        _adapter("PrefixTuningConfig", False, task_type="CAUSAL_LM", num_virtual_tokens=3),
        "lies around the model",
    ),
    "bitsandbytes: 8 bits": Kind("bitsandbytes", _loaded(_bits(load_in_8bit=True)), _BESIDE),
    "bitsandbytes: 8 bits, no outliers": Kind(
        "bitsandbytes", _loaded(_bits(load_in_8bit=True, llm_int8_threshold=0.0)), is_linear=False
    ),
    "bitsandbytes: 4 bits": Kind(
        "bitsandbytes",
        _loaded(_bits(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16), torch.bfloat16),
        tolerance=2e-2,
    ),
    "bitsandbytes: nf4 twice": Kind(
        "bitsandbytes",
        _loaded(
            _bits(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            ),
            torch.bfloat16,
        ),
        tolerance=2e-2,
    ),
    "torchao: int8": Kind("torchao", _loaded(_torchao("Int8WeightOnlyConfig", version=2))),
    "torchao: float8": Kind("torchao", _loaded(_torchao("Float8WeightOnlyConfig"))),
    "torchao: int8, tokens too": Kind(
        "torchao", _loaded(_torchao("Int8DynamicActivationInt8WeightConfig", version=2)), is_linear=False
    ),
    "quanto: int8": Kind("optimum.quanto", _loaded(lambda: transformers.QuantoConfig(weights="int8"))),
    "quanto: int4": Kind("optimum.quanto", _loaded(lambda: transformers.QuantoConfig(weights="int4"))),
    "compressed-tensors: packed": Kind("compressed_tensors", _compressed(4, False), "Run the whole model once"),
    "compressed-tensors: int4, ran": Kind("compressed_tensors", _compressed(4, True)),
    "compressed-tensors: tokens too, ran": Kind("compressed_tensors", _compressed(8, True, True), is_linear=False),
    "gptqmodel: 4 bits": Kind("gptqmodel", _gptq, tolerance=2e-2),
    "hqq: 4 bits": Kind("hqq", _hqq),
    "awq: 4 bits": Kind("awq", _awq, tolerance=2e-2),
}


def is_there(kind: Kind) -> bool:
    """Whether its package is installed."""
    try:
        return not kind.package or importlib.util.find_spec(kind.package) is not None
    except ModuleNotFoundError:  # of a package in another one
        return False


def _plain(hf_model: Any) -> Any:
    return hf_model.get_base_model() if hasattr(hf_model, "get_base_model") else hf_model


@torch.no_grad()
def check(kind: Kind) -> dict[str, float]:
    """Look into a model of a kind, and fail unless all that is said of it is what its modules compute.

    Returns
    -------
    dict of str to float
        How far off each was: what heads write, what W_O makes of it, distances, logits.
    """
    build = kind.make()
    hf_model, witness = build(), build()
    plain, ids = _plain(witness), torch.tensor([TEXT])
    seen: list[tuple[Tensor, Tensor]] = []
    for layer in plain.model.layers:
        layer.self_attn.o_proj.register_forward_hook(lambda _m, args, out: seen.append((args[0][0], out[0])))
    true = witness(ids).logits[0]
    read, written = (torch.stack([each[i] for each in seen]).double() for i in (0, 1))
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT, include=["hidden"])
    z = enc["head_encoding"].values
    found: dict[str, float] = {}
    heads = read.unflatten(-1, (HEADS, SIZE)).transpose(1, 2).numpy()
    found["encoding"] = oracles.relative_error(z, heads)
    # Neighbours, by what the layer makes of each entry.
    first = plain.model.layers[0]
    words = plain.model.embed_tokens(torch.arange(VOCABULARY))
    values = first.self_attn.v_proj(first.input_layernorm(words)[:, None])[:, 0].double()
    values = values.unflatten(-1, (2, SIZE)).transpose(0, 1).repeat_interleave(HEADS // 2, dim=0).numpy()
    near = model.neighbors(enc, k=5, metric="euclidean").transpose("layer", "head", "position", "rank")
    dist = np.stack([[oracles.distances("euclidean", z[i, h], values[h]) for h in range(HEADS)] for i in range(2)])
    allowed = np.full(dist.shape, kind.tolerance * dist.max())
    oracles.check_neighbors(near["neighbor_id"].values, near["distance"].values, dist, allowed)
    # The output embeddings, by what the head makes of unit vectors.
    matrix = plain.lm_head(torch.eye(HEADS * SIZE, dtype=words.dtype)[:, None])[:, 0].double().numpy().T
    products = model.distances(enc, metric="dot", of="hidden", space="unembedding")["distance"].values
    expected = -enc["hidden"].values @ matrix.T
    found["unembedding"] = float(np.abs(products - expected).max() / np.abs(expected).max())
    if kind.is_linear:
        found |= _of_contributions(model, enc, plain, words, written)
        parts = model.logit_parts(enc)
        logits = true.double().numpy()[np.arange(len(TEXT) - 1), TEXT[1:]]
        of_logit = parts.isel(position=slice(None, -1))
        found["logit"] = float(np.abs(of_logit["logit"].values - logits).max() / np.abs(logits).max())
        found["remainder"] = float(np.abs(of_logit["remainder"].values).max() / np.abs(logits).max())
    else:
        with pytest.raises(AttnxrError, match="no linear map"):
            model.distances(enc, of="contribution", space="embedding")["distance"].values  # noqa: B018
    assert model.verify().attrs["passed"] == 1
    assert torch.equal(hf_model(ids).logits[0], true), "the model is another one now"
    assert torch.equal(build()(ids).logits[0], true), "what is built differs from time to time"
    wrong = {name: error for name, error in found.items() if not error <= kind.tolerance}
    assert not wrong, wrong
    return found


def _of_contributions(model: attnxr.Model, enc: Any, plain: Any, words: Tensor, written: Tensor) -> dict[str, float]:
    """What W_O makes of each head's encoding alone, less what it makes of nothing; all of them add up."""
    own = []
    for i, layer in enumerate(plain.model.layers):
        alone = torch.zeros(HEADS, len(TEXT), HEADS, SIZE, dtype=words.dtype)
        for h in range(HEADS):
            alone[h, :, h] = torch.tensor(enc["head_encoding"].values[i, h]).to(words)
        bias = layer.self_attn.o_proj(torch.zeros_like(alone[:1]).flatten(2))
        own.append((layer.self_attn.o_proj(alone.flatten(2)).double() - bias.double()).numpy())
        total = own[-1].sum(axis=0) + bias[0].double().numpy()
        error = float(np.linalg.norm(total - written[i].numpy()) / np.linalg.norm(written[i].numpy()))
        assert error <= 2e-2, error
    table = words.double().numpy()
    dist = model.distances(enc, metric="euclidean", of="contribution", space="embedding")["distance"].values
    true = np.stack([oracles.distances("euclidean", each, table) for each in own])
    return {"contribution": float(np.abs(dist - true).max() / true.max())}


def main() -> None:
    transformers.logging.set_verbosity_error()
    for name in sys.argv[1:] or KINDS:
        kind = KINDS[name]
        if not is_there(kind):
            print(f"{name}: {kind.package} is not installed", flush=True)
            continue
        try:
            found = ", ".join(f"{what} {error:.0e}" for what, error in check(kind).items())
        except AttnxrError as error:
            found = f"refused: {error}"
        except Exception as error:
            found = f"WRONG: {type(error).__name__}: {error}"
        print(f"{name}: {found}", flush=True)


if __name__ == "__main__":
    main()
