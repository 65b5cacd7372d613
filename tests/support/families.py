"""Tiny random text models, one for each family of transformers that attnxr should look into.

The table is data for parametrised tests and for the table of supported families. Each entry turns on what
its family can do (biases, grouped heads, windows, caps, sinks, multipliers), so that a computation that leaves one of
these out shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel


@dataclass(frozen=True)
class Family:
    name: str  # as people call it
    model_type: str
    # "learned" (a term added to the embeddings, sinusoids too), "rotary", "relative" (a bias of scores by distance), or
    # "computed" by no module
    positions: str
    output: str  # path of layer i's output projection W_O, to be formatted with i; ALBERT's layers share one
    build: Callable[[], PreTrainedModel]  # the base model, in eval mode, the same each time
    # For families that compute attention themselves: the function of their file that does, and what query, key, value
    # and weights are called in there as it returns.
    seen: tuple[str, ...] = ()


# What a family calls otherwise, and AutoConfig does not translate, stands in its own options.
SIZES = {
    "vocab_size": 67,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 48,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}


def build(model_type: str, options: dict[str, Any]) -> PreTrainedModel:
    config = AutoConfig.for_model(model_type, **(SIZES | options))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                noise = torch.randn_like(parameter)
                if not parameter.requires_grad:  # a table of sinusoids, as it has to be
                    continue
                if isinstance(module, nn.Embedding):
                    parameter.copy_(0.5 * noise)
                elif parameter.ndim < 2 or "bias" in name or "Norm" in type(module).__name__:
                    parameter.add_(0.3 * noise)  # away from where it does nothing: 0, or 1 for most norms' weights
                else:  # by fan-in; GPT-2 and GPT-OSS store matrices transposed, which makes little difference here
                    parameter.copy_(1.5 * parameter.shape[-1] ** -0.5 * noise)
    return model.eval()


_BERT = "encoder.layer.{}.attention.output.dense"
_ALBERT = "encoder.albert_layer_groups.0.albert_layers.0.attention.dense"
_LLAMA = "layers.{}.self_attn.o_proj"

_GROUPED: dict[str, Any] = {"num_key_value_heads": 2}
_BIASED = _GROUPED | {"attention_bias": True}
_ALL_BIASED = _BIASED | {"mlp_bias": True}
_WIDE: dict[str, Any] = {"head_dim": 12}  # more than hidden_size / num_attention_heads
_WINDOW: dict[str, Any] = {"sliding_window": 4}
_MIXED = _WINDOW | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
_MULTIPLIED: dict[str, Any] = {"embedding_multiplier": 1.7, "residual_multiplier": 0.6, "attention_multiplier": 0.3}
_STRETCHED = {"rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 6}
_YARN = _STRETCHED | {"rope_type": "yarn"}
_FACTORS = {"short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 6.0]}
_LONG = {"rope_theta": 1e4, "rope_type": "longrope", "original_max_position_embeddings": 6, **_FACTORS}
_LLAMA3 = _STRETCHED | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}

_MODERNBERT = {
    "local_attention": 6,
    "attention_bias": True,
    "mlp_bias": True,
    "norm_bias": True,
    "cls_token_id": 0,
    "sep_token_id": 2,
}
_ESM2 = {"position_embedding_type": "rotary", "token_dropout": True, "mask_token_id": 3}
_QWEN2_MOE = {
    **_GROUPED,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 40,
}
_QWEN3_MOE = _BIASED | _WIDE | _EXPERTS | {"moe_intermediate_size": 24}
_GEMMA3 = _BIASED | _WIDE | _MIXED | {"query_pre_attn_scalar": 10}
_GEMMA2 = _GEMMA3 | {"attn_logit_softcapping": 2.0}
_MINISTRAL3 = _GROUPED | _WIDE | {"rope_parameters": _YARN | {"llama_4_scaling_beta": 0.5}}
_GPT_OSS = {
    **(_BIASED | _WIDE | _MIXED | _EXPERTS),
    "rope_parameters": _YARN,
    "initializer_range": 1.0,  # of the attention sinks too
}
LATENT = {
    "attention_bias": True,
    "q_lora_rank": 12,
    "kv_lora_rank": 16,
    "num_key_value_heads": 4,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,  # less than the 12 of queries and keys
}
DEEPSEEK = {
    **LATENT,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
}

_TABLE: list[tuple[str, str, str, str, dict[str, Any]]] = [
    # name, id, positions, output projection, options
    ("BERT", "bert", "learned", _BERT, {}),
    ("RoBERTa", "roberta", "learned", _BERT, {}),
    ("RoBERTa-PreLayerNorm", "roberta-prelayernorm", "learned", _BERT, {}),
    ("XLM-RoBERTa", "xlm-roberta", "learned", _BERT, {}),
    ("XLM-RoBERTa-XL", "xlm-roberta-xl", "learned", _BERT, {}),
    ("CamemBERT", "camembert", "learned", _BERT, {}),
    ("data2vec-text", "data2vec-text", "learned", _BERT, {}),
    ("ERNIE", "ernie", "learned", _BERT, {"use_task_id": True}),
    ("ELECTRA", "electra", "learned", _BERT, {"embedding_size": 20}),
    ("ALBERT", "albert", "learned", _ALBERT, {"embedding_size": 20}),
    ("DistilBERT", "distilbert", "learned", "transformer.layer.{}.attention.out_lin", {"hidden_dim": 48}),
    ("BertGeneration", "bert-generation", "learned", _BERT, {}),
    ("Splinter", "splinter", "learned", _BERT, {"question_token_id": 3}),
    ("ESM-1b", "esm", "learned", _BERT, {"emb_layer_norm_before": True}),
    ("ESM-2", "esm-rotary", "rotary", _BERT, _ESM2),
    ("Nomic BERT", "nomic_bert", "rotary", _LLAMA, {}),
    ("GTE", "gte", "rotary", _LLAMA, {}),
    ("Jina embeddings v3", "jina_embeddings_v3", "rotary", _LLAMA, {}),
    ("EuroBERT", "eurobert", "rotary", _LLAMA, _ALL_BIASED | {"mask_token_id": 3}),
    ("ModernBERT", "modernbert", "rotary", "layers.{}.attn.Wo", _MODERNBERT),
    ("ModernBERT decoder", "modernbert-decoder", "rotary", "layers.{}.attn.Wo", _MODERNBERT),
    ("GPT-2", "gpt2", "learned", "h.{}.attn.c_proj", {"n_inner": 48, "scale_attn_by_inverse_layer_idx": True}),
    ("GPT-BigCode", "gpt_bigcode", "learned", "h.{}.attn.c_proj", {"n_inner": 48}),
    ("OPT", "opt", "learned", "decoder.layers.{}.self_attn.out_proj", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    ("BioGPT", "biogpt", "learned", "layers.{}.self_attn.out_proj", {}),
    ("CTRL", "ctrl", "computed", "h.{}.multi_head_attention.dense", {"dff": 48}),
    ("GPT-NeoX", "gpt_neox", "rotary", "layers.{}.attention.dense", {}),
    ("Llama", "llama", "rotary", _LLAMA, _ALL_BIASED),
    ("Mistral", "mistral", "rotary", _LLAMA, _GROUPED | _WINDOW),
    ("Mixtral", "mixtral", "rotary", _LLAMA, _GROUPED | _WINDOW | _EXPERTS),
    ("Ministral", "ministral", "rotary", _LLAMA, _GROUPED | _WIDE | _MIXED),
    ("Ministral 3", "ministral3", "rotary", _LLAMA, _MINISTRAL3),
    ("Qwen2", "qwen2", "rotary", _LLAMA, _GROUPED | _MIXED | {"use_sliding_window": True}),
    ("Qwen2-MoE", "qwen2_moe", "rotary", _LLAMA, _QWEN2_MOE),
    ("Qwen3", "qwen3", "rotary", _LLAMA, _BIASED | _WIDE),
    ("Qwen3-MoE", "qwen3_moe", "rotary", _LLAMA, _QWEN3_MOE),
    ("Gemma", "gemma", "rotary", _LLAMA, _BIASED | _WIDE),
    ("Gemma 2", "gemma2", "rotary", _LLAMA, _GEMMA2),
    ("Gemma 3", "gemma3", "rotary", _LLAMA, _GEMMA3),
    ("VaultGemma", "vaultgemma", "rotary", _LLAMA, _GEMMA2),
    ("Phi", "phi", "rotary", "layers.{}.self_attn.dense", _GROUPED | {"qk_layernorm": True}),
    ("Phi-3", "phi3", "rotary", _LLAMA, _GROUPED | _WINDOW),
    ("Phi-3 long", "phi3-long", "rotary", _LLAMA, _GROUPED | {"rope_parameters": _LONG}),
    ("Phi-3.5-MoE", "phimoe", "rotary", _LLAMA, _BIASED | _EXPERTS),
    ("OLMo", "olmo", "rotary", _LLAMA, _BIASED | {"clip_qkv": 2.0}),
    ("OLMo 2", "olmo2", "rotary", _LLAMA, _BIASED),
    ("OLMo 3", "olmo3", "rotary", _LLAMA, _BIASED | _MIXED),
    ("OLMoE", "olmoe", "rotary", _LLAMA, _BIASED | _EXPERTS),
    ("StarCoder2", "starcoder2", "rotary", _LLAMA, _GROUPED | _WINDOW),
    ("Cohere", "cohere", "rotary", _LLAMA, _BIASED | {"use_qk_norm": True}),
    ("Cohere 2", "cohere2", "rotary", _LLAMA, _BIASED | _MIXED),
    ("StableLM", "stablelm", "rotary", _LLAMA, _GROUPED | {"use_qkv_bias": True, "qk_layernorm": True}),
    ("Granite", "granite", "rotary", _LLAMA, _ALL_BIASED | _MULTIPLIED),
    ("Granite MoE", "granitemoe", "rotary", _LLAMA, _BIASED | _EXPERTS | _MULTIPLIED),
    ("GPT-OSS", "gpt_oss", "rotary", _LLAMA, _GPT_OSS),
    ("SmolLM3", "smollm3", "rotary", _LLAMA, _ALL_BIASED | {"no_rope_layers": [1, 0, 1]}),
    ("GLM", "glm", "rotary", _LLAMA, _BIASED | _WIDE),
    ("GLM-4", "glm4", "rotary", _LLAMA, _BIASED | _WIDE),
    ("Helium", "helium", "rotary", _LLAMA, _ALL_BIASED | {"head_dim": 8}),
    ("Persimmon", "persimmon", "rotary", "layers.{}.self_attn.dense", {}),
    ("Nemotron", "nemotron", "rotary", _LLAMA, _ALL_BIASED | _WIDE),
    ("EXAONE 4", "exaone4", "rotary", _LLAMA, _GROUPED | _MIXED),
    ("Seed-OSS", "seed_oss", "rotary", _LLAMA, _ALL_BIASED | _WIDE | {"attention_out_bias": True}),
    ("Apertus", "apertus", "rotary", _LLAMA, _BIASED | {"rope_parameters": _LLAMA3}),
    ("Arcee", "arcee", "rotary", _LLAMA, _ALL_BIASED | _WIDE),
    ("ERNIE 4.5", "ernie4_5", "rotary", _LLAMA, _GROUPED | _WIDE | {"use_bias": True}),
    ("HunYuan", "hunyuan_v1_dense", "rotary", _LLAMA, _BIASED | _WIDE),
    ("Jais 2", "jais2", "rotary", _LLAMA, _ALL_BIASED | _WIDE),
    ("nanochat", "nanochat", "rotary", _LLAMA, _BIASED),
    ("MiniCPM3", "minicpm3", "rotary", _LLAMA, LATENT),
    ("DeepSeek-V2", "deepseek_v2", "rotary", _LLAMA, DEEPSEEK),
    ("DeepSeek-V3", "deepseek_v3", "rotary", _LLAMA, DEEPSEEK),
]

_DEBERTA = {"relative_attention": True, "position_biased_input": False, "max_relative_positions": 8}
_DEBERTA_1 = _DEBERTA | {"pos_att_type": ["c2p", "p2c"]}
_DEBERTA_2 = _DEBERTA_1 | {"position_buckets": 4, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
_GPT_NEO = {"attention_types": [[["local", "global"], 1], [["local"], 1]], "window_size": 4, "num_layers": 3}
_GPT_J = {"rotary_dim": 4, "n_inner": 48}
_FALCON = {"new_decoder_architecture": False, "bias": True, "ffn_hidden_size": 48}
_FALCON_7 = _FALCON | {"multi_query": True, "parallel_attn": True}
_FALCON_40 = {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}
FALCON_RW = _FALCON | {"multi_query": False, "num_kv_heads": 4, "parallel_attn": False, "alibi": True}
_MPT = {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 48}
_XGLM = {"d_model": 32, "num_layers": 3, "attention_heads": 4, "ffn_dim": 48}
_REMBERT = {"input_embedding_size": 20, "output_embedding_size": 24}

_LAYERS = ("query_layer", "key_layer", "value_layer")
_PROBABLE = (*_LAYERS, "attention_probs")
_ATTN = ("_attn", "query", "key", "value", "attn_weights")

_OWN_TABLE: list[tuple[str, str, str, str, dict[str, Any], tuple[str, ...]]] = [
    # the same of families that compute attention themselves, and how that is seen
    (
        "MPNet",
        "mpnet",
        "learned",
        "encoder.layer.{}.attention.attn.o",
        {},
        ("forward", "q", "k", "v", "attention_probs"),
    ),
    ("DeBERTa", "deberta", "relative", _BERT, _DEBERTA_1, ("forward", *_PROBABLE)),
    (
        "DeBERTa-v2",
        "deberta-v2",
        "relative",
        _BERT,
        _DEBERTA_2,
        ("forward", "query_layer", "key_layer / scale", "value_layer", "attention_probs"),
    ),
    ("RemBERT", "rembert", "learned", _BERT, _REMBERT, ("forward", *_PROBABLE)),
    ("RoFormer", "roformer", "rotary", _BERT, {"embedding_size": 20}, ("forward", *_PROBABLE)),
    ("LUKE", "luke", "learned", _BERT, {"entity_vocab_size": 10, "entity_emb_size": 8}, ("forward", *_PROBABLE)),
    ("Megatron-BERT", "megatron-bert", "learned", _BERT, {}, ("forward", *_PROBABLE)),
    ("BigBird (full)", "big_bird", "learned", _BERT, {"attention_type": "original_full"}, ("forward", *_PROBABLE)),
    ("GPT-J", "gptj", "rotary", "h.{}.attn.out_proj", _GPT_J, _ATTN),
    ("CodeGen", "codegen", "rotary", "h.{}.attn.out_proj", _GPT_J, _ATTN),
    ("GPT-Neo", "gpt_neo", "learned", "h.{}.attn.attention.out_proj", _GPT_NEO, _ATTN),
    (
        "GPT-NeoX Japanese",
        "gpt_neox_japanese",
        "rotary",
        "layers.{}.attention.dense",
        {"intermediate_multiple_size": 2},
        _ATTN,
    ),
    (
        "BLOOM",
        "bloom",
        "relative",
        "h.{}.self_attention.dense",
        {"n_layer": 3, "n_head": 4},
        ("forward", "query_layer", "key_layer.transpose(-1, -2)", "value_layer", "attention_probs"),
    ),
    (
        "Falcon 7B",
        "falcon",
        "rotary",
        "h.{}.self_attention.dense",
        _FALCON_7,
        ("forward", *_LAYERS, "attention_scores"),
    ),
    (
        "Falcon 40B",
        "falcon-40b",
        "rotary",
        "h.{}.self_attention.dense",
        _FALCON_40,
        ("forward", *_LAYERS, "attention_scores"),
    ),
    (
        "MPT",
        "mpt",
        "relative",
        "blocks.{}.attn.out_proj",
        _MPT,
        ("forward", "query_states", "key_states", "value_states", "attn_weights"),
    ),
    (
        "XGLM",
        "xglm",
        "learned",
        "layers.{}.self_attn.out_proj",
        _XGLM,
        ("forward", "query_states", "key_states", "value_states", "attn_probs"),
    ),
]
# Of the ids that are no model type.
_MODEL_TYPES = {
    "esm-rotary": "esm",
    "gemma3": "gemma3_text",
    "phi3-long": "phi3",
    "falcon-40b": "falcon",
}

FAMILIES = {
    key: Family(name, model_type, positions, output, partial(build, model_type, options), *seen)
    for name, key, positions, output, options, *seen in [*_TABLE, *_OWN_TABLE]
    for model_type in [_MODEL_TYPES.get(key, key)]
}
