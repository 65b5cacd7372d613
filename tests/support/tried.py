"""Every model type of the installed transformers with a model of text, tried with small random weights.

``python -m tests.support.tried`` tries all that tests/test_families.py does not hold to its checks, and writes into the
package for each whether it is looked into, through which door, or the reason why not: all that a new release of
transformers breaks shows as a difference of that file. ``python -m tests.support.tried model_type …`` prints the same
of some. A model type that cannot be built from the sizes below says so; that is no judgement of it.
"""

from __future__ import annotations

import csv
import signal
import sys
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

import attnxr
from attnxr.errors import AttnxrError
from attnxr.loading.tested import TRIED, Tried
from attnxr.probe.layout import UnevenLayersError
from tests.support.families import FAMILIES
from tests.support.family_options import DEEPSEEK, GEMMA3, GROUPED, LATENT, LINEAR, SIZES

# Small sizes under the other names that families have for them; those that a configuration does not know do no harm.
_OTHER_NAMES = {
    "d_model": 32,
    "emb_dim": 32,
    "n_embd": 32,
    "num_layers": 3,
    "n_layers": 3,
    "n_layer": 3,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "num_heads": 4,
    "n_heads": 4,
    "n_head": 4,
    "attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "d_ff": 48,
    "dim_ff": 48,
    "dim_head": 8,
    "ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "embedding_size": 32,
    "moe_intermediate_size": 24,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "rotary_dim": 4,
    "attention_window": 4,
    "depth": 2,
    "embed_dim": 32,
    "out_hidden_size": 32,
    "mlp_dim": 48,
}
_SPARSE = DEEPSEEK | {"index_topk": 3, "index_n_heads": 2, "index_head_dim": 8, "n_shared_experts": 1}
_DENSE_FIRST = {"mlp_layer_types": ["dense", "sparse", "sparse"]}
_T5_GEMMA = GEMMA3 | {"cross_attention_hidden_size": 32}
_ROPES = {
    name: {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    for name in ("full_attention", "sliding_attention")
}
_ANGLES = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_BY_AXIS = {"rope_parameters": _ANGLES}
_HALF_BY_AXIS = {"rope_parameters": _ANGLES | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]}}
# What some need besides, or in place of these.
_OPTIONS: dict[str, dict[str, Any]] = {
    "axk2": _SPARSE | _DENSE_FIRST | {"gated_norm_rank": 4},
    "deepseek_v32": _SPARSE,
    "dots3_note_text": {
        **_SPARSE,
        **_DENSE_FIRST,
        "per_layer_config": {},
        "layer_types": ["indexed_attention", "sliding_attention", "indexed_attention"],
        "head_dim": 12,
        "sliding_window": 4,
        "shared_experts_intermediate_size": 24,
    },
    "gemma3n_text": {
        **GEMMA3,
        "num_kv_shared_layers": 0,
        "intermediate_size": [48] * 3,
        "vocab_size_per_layer_input": 67,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.9, 0.0, 0.0],
    },
    "gemma4_unified_text": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "per_layer_config": {"1": {"head_dim": 12}, "2": {"head_dim": 12}},
    },
    "glm4v_moe_text": _HALF_BY_AXIS,
    "glm4v_text": _HALF_BY_AXIS,
    "glm_moe_dsa": _SPARSE,
    "glm_ocr_text": _HALF_BY_AXIS,
    "longcat_flash": {
        **LATENT,
        "num_layers": 2,
        "head_dim": 4,
        "expert_ffn_hidden_size": 24,
        "ffn_hidden_size": 48,
        "n_routed_experts": 4,
        "zero_expert_num": 2,
        "moe_topk": 2,
    },
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "chunk_size": 8, "n_groups": 2},
    "mistral4": DEEPSEEK,
    "neomme": {
        **GROUPED,
        "head_dim": 16,
        "embedding_rank": 16,
        "per_layer_config": {},
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window": 4,
        "document_token_id": 5,
        "image_token_id": 6,
        "rope_parameters": _ROPES,
    },
    "paddleocr_vl_text": _BY_AXIS,
    "perceiver": {
        "num_latents": 8,
        "d_latents": 32,
        "d_model": 32,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
        "image_size": 8,
        "train_size": [8, 8],
    },
    "qwen2_5_omni_text": _BY_AXIS,
    "qwen2_5_vl_text": _BY_AXIS,
    "qwen3_omni_moe_text": _BY_AXIS,
    "qwen4_exp_text": {
        **GROUPED,
        **LINEAR,
        "head_dim": 8,
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention", "indexed_attention"] * 2,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24,
        "hc_lowrank": 8,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },
    "reformer": {
        "attention_head_size": 8,
        "axial_pos_shape": [8, 6],
        "axial_pos_embds_dim": [16, 16],
        "attn_layers": ["local", "local"],
        "num_hidden_layers": 2,
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
        "feed_forward_size": 48,
    },
    "t5gemma": {"encoder": SIZES | _T5_GEMMA, "decoder": SIZES | _T5_GEMMA},
    "zamba2": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
        "mamba_d_state": 8,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "chunk_size": 8,
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "hybrid_layer_ids": [1, 3],
        "use_mamba_kernels": False,
    },
    "zaya": {**GROUPED, "num_experts_per_tok": 1, "layer_types": ["hybrid"] * 3, "router_hidden_size": 16},
}
_LARGEST = 130_000_000  # parameters of a model that is tried: a larger one ignored the sizes


_SECONDS = 300  # for one model: some recurrent layers are very slow without their own kernels


class _TooLongError(BaseException):  # no Exception: attnxr would tell it as the model's own
    pass


def _too_long(number: int, frame: object) -> None:
    raise _TooLongError


def model_types() -> list[str]:
    """All model types with a model of text, be it inside one of pictures or sounds; those that are tested, too."""
    names = (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
        MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    )
    return sorted(_tested() | {model_type for each in names for model_type in each})


def not_tested() -> list[str]:
    """Those of them that no test holds to the checks."""
    return [each for each in model_types() if each not in _tested()]


def _tested() -> set[str]:
    return {family.model_type for family in FAMILIES.values()}


def built(model_type: str) -> torch.nn.Module:
    """A small random model: that of the tested families, or one of as many of the sizes as its configuration takes."""
    tested = next((family for family in FAMILIES.values() if family.model_type == model_type), None)
    if tested is not None:
        return tested.build()
    config = AutoConfig.for_model(model_type)
    left: dict[str, Any] = _sizes(config)
    for name in config.sub_configs:  # of its text, its encoder and decoder, its images
        if isinstance(inner := getattr(config, name, None), PreTrainedConfig):
            left[name] = {"model_type": inner.model_type} | _sizes(inner) | _OPTIONS.get(inner.model_type, {})
    left |= _OPTIONS.get(model_type, {})
    while True:
        try:
            config = AutoConfig.for_model(model_type, **left)
            break
        except NotImplementedError as error:  # "does not support the setting of `num_hidden_layers`", or of a limit
            name = next((each for each in left if each in str(error)), "max_position_embeddings")
            if name not in left:
                raise
            del left[name]
    with torch.device("meta"):
        size = sum(each.numel() for each in AutoModel.from_config(config).parameters())
    if size > _LARGEST:
        raise ValueError(f"it has {size:,} parameters at small sizes")
    torch.manual_seed(0)
    return AutoModel.from_config(config).eval()


def _sizes(config: PreTrainedConfig) -> dict[str, Any]:
    known = {**dict.fromkeys(SIZES), **config.to_dict()}
    sizes = SIZES | _OTHER_NAMES
    if "kv_lora_rank" in known:
        sizes |= LATENT | {"head_dim": LATENT["qk_rope_head_dim"]}
    found: dict[str, Any] = {name: size for name, size in sizes.items() if isinstance(known.get(name, []), int | None)}
    kinds = list(dict.fromkeys(known.get("layer_types") or ()))
    if len(kinds) > 1:  # some of each, as the first three may have no attention
        found["layer_types"] = (kinds * 3)[: SIZES["num_hidden_layers"]]
    ropes = known.get("rope_parameters") or {}
    if "mrope_section" in ropes:  # how many angles are for time, height and width
        angles = int(_OTHER_NAMES["head_dim"] * ropes.get("partial_rotary_factor", 1.0)) // 2
        found["rope_parameters"] = ropes | {"mrope_section": [angles - angles // 2, angles // 2, 0]}
    return found


def tried(model_type: str) -> Tried:
    """Build a model of a type, look into it, and have it verify itself."""

    def came(outcome: str, reason: str) -> Tried:
        return Tried(model_type, outcome, " ".join(reason.split()), transformers.__version__)

    try:
        hf_model = built(model_type)
    except Exception as error:
        return came("not built", f"{type(error).__name__}: {error}"[:200])
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_SECONDS)
    try:
        found = [_found(model) for model in _groups(hf_model)]
        if not all(found):
            return came("broken", "It does not pass its own checks.")
        return came("looked into", found[0] if len(found) == 1 else f"{found[0]}, {len(found)} groups of layers")
    except AttnxrError as error:
        return came("refused", _shortened(error))
    except _TooLongError:
        return came("not ended", f"It takes more than {_SECONDS} seconds.")
    except Exception as error:
        return came("broken", f"{type(error).__name__}: {error}"[:200])
    finally:
        signal.alarm(0)


def _shortened(error: AttnxrError) -> str:
    """Of a message, or of the one of each stack, what is the matter, without what is to be done."""
    of_each = str(error).split(" And of its decoder: ")
    return " Its decoder: ".join(f"{each.split('. ')[0].removesuffix('.')}." for each in of_each)


def _groups(hf_model: torch.nn.Module) -> list[attnxr.Model]:
    """The model, or one for each group of its layers that have one shape."""
    try:
        return [attnxr.Model(hf_model)]
    except UnevenLayersError as error:
        return [attnxr.Model(hf_model, layers=layers) for layers in error.groups]


def _found(model: attnxr.Model) -> str:
    """The door of a model that verifies itself, and of an encoder-decoder its stacks that do; "" of one that fails."""
    held, refused = [], []
    for stack in model.stacks or (None,):
        try:
            if not model.verify(stack=stack).attrs["passed"]:
                return ""
            held.append(stack)
        except AttnxrError as error:
            if stack is None:
                raise
            refused.append(f"{stack} refused: {_shortened(error)}")
    first = model._look(held[0]).window
    door = "second door" if first.by_functions else "first door"
    return "; ".join([f"{door}, each of {', '.join(map(str, held))}" if model.stacks else door, *refused])


def main() -> None:
    transformers.logging.set_verbosity_error()
    found = []
    for model_type in sys.argv[1:] or not_tested():
        found.append(tried(model_type))
        print(*found[-1][:3], sep=": ", flush=True)
    if sys.argv[1:]:
        return
    with TRIED.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Tried._fields)
        writer.writerows(found)


if __name__ == "__main__":
    main()
