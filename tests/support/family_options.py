"""Small sizes, and options that turn on what a family can do, shared by the tables of families."""

from typing import Any

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


BERT = "encoder.layer.{}.attention.output.dense"
ALBERT = "encoder.albert_layer_groups.0.albert_layers.0.attention.dense"
LLAMA = "layers.{}.self_attn.o_proj"

GROUPED: dict[str, Any] = {"num_key_value_heads": 2}
BIASED = GROUPED | {"attention_bias": True}
ALL_BIASED = BIASED | {"mlp_bias": True}
WIDE: dict[str, Any] = {"head_dim": 12}  # more than hidden_size / num_attention_heads
WINDOW: dict[str, Any] = {"sliding_window": 4}
MIXED = WINDOW | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
MULTIPLIED: dict[str, Any] = {"embedding_multiplier": 1.7, "residual_multiplier": 0.6, "attention_multiplier": 0.3}
STRETCHED = {"rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 6}
YARN = STRETCHED | {"rope_type": "yarn"}
FACTORS = {"short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 6.0]}
LONG = {"rope_theta": 1e4, "rope_type": "longrope", "original_max_position_embeddings": 6, **FACTORS}
LLAMA3 = STRETCHED | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}

MODERNBERT = {
    "local_attention": 6,
    "attention_bias": True,
    "mlp_bias": True,
    "norm_bias": True,
    "cls_token_id": 0,
    "sep_token_id": 2,
}
ESM2 = {"position_embedding_type": "rotary", "token_dropout": True, "mask_token_id": 3}
QWEN2_MOE = {
    **GROUPED,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 40,
}
QWEN3_MOE = BIASED | WIDE | EXPERTS | {"moe_intermediate_size": 24}
GEMMA3 = BIASED | WIDE | MIXED | {"query_pre_attn_scalar": 10}
GEMMA2 = GEMMA3 | {"attn_logit_softcapping": 2.0}
MINISTRAL3 = GROUPED | WIDE | {"rope_parameters": YARN | {"llama_4_scaling_beta": 0.5}}
GPT_OSS = {
    **(BIASED | WIDE | MIXED | EXPERTS),
    "rope_parameters": YARN,
    "initializer_range": 1.0,  # of the attention sinks too
}
LINEAR = {  # attention without a softmax, in some of the layers
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
BETWEEN = {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
QWEN3_5 = GROUPED | WIDE | LINEAR | BETWEEN
QWEN3_NEXT = QWEN3_5 | {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
AFMOE = GROUPED | WIDE | MIXED | EXPERTS | {"num_experts": 4, "moe_intermediate_size": 24, "num_dense_layers": 1}
BEAM = (
    GROUPED
    | WIDE
    | MIXED
    | {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "n_group": 2,
        "topk_group": 1,
    }
)
LAGUNA = GROUPED | {
    "head_dim": 8,
    "sliding_window": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "num_hidden_layers": 4,
    "layer_types": ["full_attention", "sliding_attention"] * 2,
    "num_attention_heads_per_layer": [4, 6, 4, 6],
}
CONV = GROUPED | {"num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2}
LFM3 = CONV | WINDOW | {"head_dim": 12, "layer_types": ["conv", "conv", "full_attention", "sliding_attention"]}
MIMO = {
    **WINDOW,
    "head_dim": 12,
    "v_head_dim": 8,
    "num_key_value_heads": 1,  # twice as many in the sliding layers
    "num_hidden_layers": 4,
    "layer_types": ["full_attention", "sliding_attention"] * 2,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
JAMBA = {
    **GROUPED,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "use_mamba_kernels": False,
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
    "num_experts": 2,
    "num_hidden_layers": 4,
}
GEMMA4 = {
    **GROUPED,
    **WINDOW,
    "head_dim": 8,
    "global_head_dim": 12,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 67,
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
