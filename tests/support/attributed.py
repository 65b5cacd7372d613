"""Direct logit attribution of a few families, from plain hooks on their Hugging Face models in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from tests.support import models
from tests.support.family_options import SIZES
from tests.support.oracles import Array, BlockParts, HeldNorm, gelu_slope, last_hidden_parts

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
CAP = 2.0
CAUSAL: dict[str, dict[str, Any]] = {
    "gpt2": {"n_inner": 48},
    "llama": {"num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 12, "query_pre_attn_scalar": 10, "final_logit_softcapping": CAP},
}
MASKED = {"bert": transformers.BertForMaskedLM, "roberta": transformers.RobertaForMaskedLM}
FAMILIES = (*CAUSAL, *MASKED)


def causal(model_type: str, options: dict[str, Any] | None = None, seed: int = 3) -> Any:
    config = AutoConfig.for_model(model_type, **(SIZES | (CAUSAL.get(model_type, {}) if options is None else options)))
    return models.randomise(AutoModelForCausalLM.from_config(config), seed)


def build(family: str) -> Any:
    """A random model with its head for language, the same each time."""
    if family == "bert":
        return models.tiny_bert(transformers.BertForMaskedLM, vocab_size=67)
    if family == "roberta":
        return models.tiny_roberta(transformers.RobertaForMaskedLM, vocab_size=67)
    return causal(family)


def run(hf_model: Any, token_ids: list[int]) -> tuple[dict[str, tuple[Array, Array]], Array]:
    """What each module was handed and put out, by name, and the logits."""
    seen: dict[str, tuple[Array, Array]] = {}

    def plain(value: Any) -> Array | None:
        value = value[0] if isinstance(value, tuple) else value
        return value.numpy()[0] if isinstance(value, torch.Tensor) and value.ndim == 3 else None

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> None:
            given = args[0] if args else kwargs.get("hidden_states")
            seen[name] = plain(given), plain(output)  # type: ignore[assignment]

        return hook

    hooks = [each.register_forward_hook(keep(name), with_kwargs=True) for name, each in hf_model.named_modules()]
    with torch.no_grad():
        logits = hf_model(input_ids=torch.tensor([token_ids])).logits[0].numpy()
    for hook in hooks:
        hook.remove()
    return seen, logits


def attributed(family: str, token_ids: list[int] = TEXT) -> dict[str, Array]:
    """Logits of all entries (…, n, V) by part, and the model's own."""
    hf_model = build(family).double()
    config = hf_model.config
    seen, logits = run(hf_model, token_ids)
    p = {name: tensor.detach().numpy() for name, tensor in hf_model.state_dict().items()}
    n_heads = config.num_attention_heads

    def heads(name: str) -> Array:
        given = seen[name][0]
        return given.reshape(len(given), n_heads, -1)

    def layer_norm(name: str, eps: float) -> HeldNorm:
        return HeldNorm(seen[name][0], p[f"{name}.weight"], p[f"{name}.bias"], eps)

    def rms(name: str, more: float = 0.0) -> HeldNorm:
        return HeldNorm(seen[name][0], p[f"{name}.weight"] + more, 0.0, config.rms_norm_eps, centred=False)

    blocks, last = [], None
    for i in range(config.num_hidden_layers):
        if family == "gpt2":
            name = f"transformer.h.{i}"
            proj = f"{name}.attn.c_proj"
            blocks.append(BlockParts(heads(proj), p[f"{proj}.weight"].T, p[f"{proj}.bias"], seen[f"{name}.mlp"][1]))
        elif family in CAUSAL:
            name = f"model.layers.{i}"
            proj = f"{name}.self_attn.o_proj"
            offset = p.get(f"{proj}.bias", 0.0)
            if family == "llama":
                blocks.append(BlockParts(heads(proj), p[f"{proj}.weight"], offset, seen[f"{name}.mlp"][1]))
            else:
                branch = rms(f"{name}.post_attention_layernorm", 1.0)
                written = seen[f"{name}.post_feedforward_layernorm"][1]
                blocks.append(BlockParts(heads(proj), p[f"{proj}.weight"], offset, written, branch))
        else:
            name = f"{family}.encoder.layer.{i}"
            proj, eps = f"{name}.attention.output.dense", config.layer_norm_eps
            middle, after = (
                layer_norm(f"{name}.attention.output.LayerNorm", eps),
                layer_norm(f"{name}.output.LayerNorm", eps),
            )
            written = seen[f"{name}.output.dense"][1]
            blocks.append(BlockParts(heads(proj), p[f"{proj}.weight"], p[f"{proj}.bias"], written, None, middle, after))
    if family == "gpt2":
        last, first = layer_norm("transformer.ln_f", config.layer_norm_epsilon), "transformer.h.0"
    elif family in CAUSAL:
        last, first = rms("model.norm", 1.0 if family == "gemma2" else 0.0), "model.layers.0"
    else:
        first = f"{family}.encoder.layer.0"
    parts = last_hidden_parts(seen[first][0], blocks, last)
    found: dict[str, Array] = {}
    if family in CAUSAL:
        found = {name: part @ p["lm_head.weight"].T for name, part in parts.items()}
        return found | {"logit": logits}
    dense, norm, decoder = {
        "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder"),
        "roberta": ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"),
    }[family]
    slope, held = gelu_slope(seen[dense][1]), layer_norm(norm, config.layer_norm_eps)
    for name, part in parts.items():
        moved = part @ p[f"{dense}.weight"].T + (p[f"{dense}.bias"] if name == "bias" else 0.0)
        moved = moved * slope
        out = np.stack([held.of(x, i % slope.shape[0]) for i, x in enumerate(moved.reshape(-1, moved.shape[-1]))])
        out = out.reshape(moved.shape) + (held.bias if name == "bias" else 0.0)
        found[name] = out @ p[f"{decoder}.weight"].T + (p[f"{decoder}.bias"] if name == "bias" else 0.0)
    return found | {"logit": logits}
