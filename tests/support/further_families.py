"""More families: mixtures of experts, hybrids, latent attention, and text models inside models of pictures."""

from typing import Any

from tests.support.family_options import (
    ALL_BIASED,
    BERT,
    BIASED,
    CONV,
    DEEPSEEK,
    EXPERTS,
    GEMMA3,
    GEMMA4,
    GROUPED,
    LATENT,
    LLAMA,
    MIXED,
    QWEN3_5,
    WIDE,
)

_HALF: dict[str, Any] = {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
_SMALL_EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_SHARED = BIASED | WIDE | _SMALL_EXPERTS | {"shared_expert_intermediate_size": 24}
_ROC = {
    "pronunciation_embed_dim": 8,
    "pronunciation_vocab_size": 67,
    "shape_embed_dim": 8,
    "shape_vocab_size": 67,
}
_ROUTED: dict[str, Any] = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_MAMBA: dict[str, Any] = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
    "mamba_expand": 2,
}
_LATENT_WITHOUT_RANK = {name: size for name, size in LATENT.items() if name != "q_lora_rank"}
_KIMI = {
    **_LATENT_WITHOUT_RANK,
    **_HALF,
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "num_experts": 4,
    "num_experts_per_token": 2,
    "moe_intermediate_size": 24,
    "mlp_layer_types": ["dense", *["sparse"] * 3],
    "topk_group": 1,
}
_ZAMBA: dict[str, Any] = {
    "attention_hidden_size": 64,
    "attention_head_dim": 16,
    "num_key_value_heads": 4,
    "mamba_d_state": 8,
    "use_mamba_kernels": False,
    "num_hidden_layers": 4,
    "layers_block_type": ["linear_attention", "hybrid"] * 2,
}
_NEMOTRON_H = {
    **GROUPED,
    "head_dim": 12,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "chunk_size": 8,
    "n_groups": 2,
    "layers_block_type": ["mamba", "attention", "mlp", "attention"],
    "num_hidden_layers": 4,
}
_DBRX = {
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 3,
    "max_seq_len": 48,
    "attn_config": {"kv_n_heads": 2, "clip_qkv": 2.0, "rope_theta": 1e4},
    "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
}
_BOTH_ROPES = {name: {"rope_type": "default", "rope_theta": 1e4} for name in ("full_attention", "sliding_attention")}
_ARIA = GROUPED | {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}
_ERNIE = GROUPED | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 1}
_RECURRENT = GROUPED | {"head_dim": 8, "lru_width": 32, "attention_window_size": 4, "num_hidden_layers": 6}
_CLIP = {"projection_dim": 16}
_MINIMAX = GROUPED | EXPERTS | {"head_dim": 12, "block_size": 4} | _HALF
_MINIMAX_3 = BIASED | WIDE | EXPERTS | {"dense_intermediate_size": 48, "shared_intermediate_size": 24}

TABLE: list[tuple[Any, ...]] = [
    # name, id, positions, output projection, options; and how attention is seen where the family computes it itself
    ("Aria (text)", "aria_text", "rotary", LLAMA, _ARIA),
    ("A.X K1", "axk1", "rotary", LLAMA, DEEPSEEK | {"mlp_layer_types": ["dense", "sparse", "sparse"]}),
    ("Bamba", "bamba", "rotary", LLAMA, GROUPED | _MAMBA | {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]}),
    ("Bailing hybrid", "bailing_hybrid", "rotary", LLAMA, _KIMI | {"num_expert_group": 2}),
    ("CLIP (text)", "clip_text_model", "learned", "encoder.layers.{}.self_attn.out_proj", _CLIP),
    ("Cohere 2 MoE", "cohere2_moe", "rotary", LLAMA, BIASED | MIXED | _SMALL_EXPERTS),
    (
        "Cohere Compass (text)",
        "cohere_compass_text",
        "rotary",
        LLAMA,
        GROUPED | WIDE | MIXED | {"rope_parameters": _BOTH_ROPES},
    ),
    ("CWM", "cwm", "rotary", LLAMA, BIASED | MIXED | {"head_dim": 12}),
    ("DBRX", "dbrx", "rotary", "blocks.{}.norm_attn_norm.attn.out_proj", _DBRX),
    ("Doge", "doge", "rotary", LLAMA, GROUPED),
    ("dots.llm1", "dots1", "rotary", LLAMA, BIASED | MIXED | WIDE | _ROUTED),
    ("ERNIE 4.5 MoE", "ernie4_5_moe", "rotary", LLAMA, _ERNIE),
    ("ESM C", "esmc", "rotary", LLAMA, {"num_key_value_heads": 4}),
    ("EXAONE MoE", "exaone_moe", "rotary", LLAMA, GROUPED | MIXED | _ROUTED | {"num_experts": 4}),
    ("Falcon-H1", "falcon_h1", "rotary", LLAMA, ALL_BIASED | _MAMBA | {"head_dim": 12, "mamba_d_ssm": 64}),
    ("FlexOlmo", "flex_olmo", "rotary", LLAMA, BIASED | _SMALL_EXPERTS),
    ("Flint", "flint", "rotary", LLAMA, _SHARED | MIXED),
    ("GLM-4 MoE", "glm4_moe", "rotary", LLAMA, BIASED | WIDE | _ROUTED),
    ("GLM-4 MoE Lite", "glm4_moe_lite", "rotary", LLAMA, DEEPSEEK),
    ("GPT", "openai-gpt", "learned", "h.{}.attn.c_proj", {}, ("_attn", "q", "k.transpose(-1, -2)", "v", "w")),
    (
        "GraniteMoeHybrid",
        "granitemoehybrid",
        "rotary",
        LLAMA,
        BIASED | EXPERTS | _MAMBA | _HALF | {"shared_intermediate_size": 24, "position_embedding_type": "rope"},
    ),
    (
        "GraniteMoeShared",
        "granitemoeshared",
        "rotary",
        LLAMA,
        BIASED | EXPERTS | {"shared_intermediate_size": 24},
    ),
    ("HunYuan MoE", "hunyuan_v1_moe", "rotary", LLAMA, BIASED | WIDE | _SMALL_EXPERTS | {"moe_topk": 2}),
    ("Hy3", "hy_v3", "rotary", LLAMA, GROUPED | WIDE | _SMALL_EXPERTS),
    ("HyperCLOVA X", "hyperclovax", "rotary", LLAMA, BIASED | {"attention_multiplier": 0.3}),
    ("Kimi Linear", "kimi_linear", "rotary", LLAMA, _KIMI | {"num_expert_group": 1}),
    ("Kolibri 1", "kolibri1", "rotary", LLAMA, _SHARED | MIXED | {"num_local_experts": 4}),
    ("LFM2-MoE", "lfm2_moe", "rotary", "layers.{}.self_attn.out_proj", CONV | _SMALL_EXPERTS | {"num_dense_layers": 1}),
    ("Llama 4 (text)", "llama4_text", "rotary", LLAMA, BIASED | WIDE | EXPERTS | {"intermediate_size_mlp": 48}),
    ("Mellum", "mellum", "rotary", LLAMA, BIASED | WIDE | _SMALL_EXPERTS),
    ("MiniMax", "minimax", "rotary", LLAMA, _MINIMAX),
    ("MiniMax-M2", "minimax_m2", "rotary", LLAMA, GROUPED | WIDE | EXPERTS),
    ("MiniMax-M3 (text)", "minimax_m3_vl_text", "rotary", LLAMA, _MINIMAX_3),
    ("Moshi", "moshi", "rotary", LLAMA, {"ffn_dim": 48, "head_dim": 8}),
    ("Nemotron-H", "nemotron_h", "rotary", "layers.{}.mixer.o_proj", _NEMOTRON_H),
    ("RecurrentGemma", "recurrent_gemma", "rotary", "layers.{}.temporal_block.o_proj", _RECURRENT),
    ("RoCBert", "roc_bert", "learned", BERT, _ROC),
    ("Solar Open", "solar_open", "rotary", LLAMA, BIASED | WIDE | _ROUTED),
    ("UltraBERT", "ultrabert", "rotary", LLAMA, {}),
    ("X-MOD", "xmod", "learned", BERT, {"languages": ["en_XX", "de_DE"], "default_language": "en_XX"}),
    ("Youtu", "youtu", "rotary", LLAMA, LATENT),
    ("Zamba", "zamba", "rotary", "layers.{}.shared_transf.self_attn.o_proj", _ZAMBA | {"mamba_dt_rank": 4}),
]

_TOKENS: dict[str, Any] = {
    "image_token_id": 60,
    "video_token_id": 61,
    "vision_start_token_id": 62,
    "vision_end_token_id": 63,
    "audio_token_id": 64,
}
_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
_QWEN_VIT: dict[str, Any] = {  # the same under other names
    "depth": 1,
    "hidden_size": 32,
    "embed_dim": 32,
    "num_heads": 4,
    "intermediate_size": 32,
    "out_hidden_size": 32,
    "patch_size": 4,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [],
    "fullatt_block_indexes": [],
}
_ANGLES = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
_BY_AXIS = GROUPED | {"head_dim": 8, "rope_parameters": _ANGLES}
_HALF_BY_AXIS = _BY_AXIS | {"rope_parameters": _ANGLES | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 0]}}

_WITH_PICTURES: list[tuple[str, str, str, dict[str, Any], dict[str, Any] | None]] = [
    # of models of pictures: name, model type, path of the model of text in it, options of that and of what sees
    ("Aya Vision", "aya_vision", "language_model", BIASED, _VIT),
    ("Gemma 3 with pictures", "gemma3", "language_model", GEMMA3, _VIT),
    ("Gemma 4 with pictures, sliding layers", "gemma4", "language_model", GEMMA4, None),
    ("GLM-4V", "glm4v", "language_model", _HALF_BY_AXIS, _QWEN_VIT),
    ("Idefics 3", "idefics3", "text_model", GROUPED, _VIT),
    ("InternVL", "internvl", "language_model", GROUPED, _VIT),
    ("LLaVA", "llava", "language_model", GROUPED, _VIT),
    ("Mistral 3", "mistral3", "language_model", GROUPED | {"head_dim": 12}, _VIT),
    ("Qwen2-VL", "qwen2_vl", "language_model", _BY_AXIS, _QWEN_VIT),
    ("Qwen2.5-VL", "qwen2_5_vl", "language_model", _BY_AXIS, _QWEN_VIT),
    ("Qwen3-VL", "qwen3_vl", "language_model", _BY_AXIS, _QWEN_VIT),
    ("Qwen3.5 with pictures", "qwen3_5", "language_model", QWEN3_5, _QWEN_VIT),
    ("SmolVLM", "smolvlm", "text_model", GROUPED, _VIT),
    ("VipLLaVA", "vipllava", "language_model", GROUPED, _VIT),
]
TABLE += [
    (
        name,
        f"{model_type}-pictures",
        "rotary",
        f"{path}.{LLAMA}",
        {"text_config": text, "vision_config": sees, **_TOKENS},
    )
    for name, model_type, path, text, sees in _WITH_PICTURES
]

LAYERS_OF: dict[str, tuple[int, ...]] = {
    "bamba": (1, 3),
    "bailing_hybrid": (1, 3),
    "granitemoehybrid": (1, 3),
    "kimi_linear": (1, 3),
    "lfm2_moe": (1, 3),
    "minimax": (1, 3),
    "nemotron_h": (1, 3),
    "recurrent_gemma": (2, 5),
    "zamba": (1, 3),
    "qwen3_5-pictures": (1, 3),
    "gemma4-pictures": (0, 2),
}
