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
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, PreTrainedModel

from tests.support import further_families
from tests.support.family_options import (
    AFMOE,
    ALBERT,
    ALL_BIASED,
    BEAM,
    BERT,
    BETWEEN,
    BIASED,
    CONV,
    DEEPSEEK,
    ESM2,
    EXPERTS,
    GEMMA2,
    GEMMA3,
    GEMMA4,
    GPT_OSS,
    GROUPED,
    JAMBA,
    LAGUNA,
    LATENT,
    LFM3,
    LINEAR,
    LLAMA,
    LLAMA3,
    LONG,
    MIMO,
    MINISTRAL3,
    MIXED,
    MODERNBERT,
    MULTIPLIED,
    QWEN2_MOE,
    QWEN3_5,
    QWEN3_MOE,
    QWEN3_NEXT,
    SIZES,
    WIDE,
    WINDOW,
)


@dataclass(frozen=True)
class Family:
    name: str  # as people call it
    model_type: str
    # "learned" (a term added to the embeddings, sinusoids too), "rotary", "relative" (a bias of scores by distance), or
    # "computed" by no module
    positions: str
    output: str  # path of layer i's output projection W_O, to be formatted with i; ALBERT's layers share one
    build: Callable[[], PreTrainedModel]  # the base model, in eval mode, the same each time
    # Which layers are looked into, where only some have attention, or are of one shape; by default all.
    layers: tuple[int, ...] = ()
    # For families that compute attention themselves: the function of their file that does, and what query, key, value
    # and weights are called in there as it returns.
    seen: tuple[str, ...] = ()
    stack: str = ""  # of an encoder-decoder: "encoder" or "decoder"

    def run(self, hf_model: Any, ids: torch.Tensor, **options: Any) -> Any:
        """A forward pass of the model, or of the stack of it: over ids (texts, tokens)."""
        if self.stack == "decoder":
            source = torch.tensor([SOURCE]).expand(len(ids), -1)
            return hf_model(input_ids=source, decoder_input_ids=ids, use_cache=False, **options)
        inner = hf_model.get_encoder() if self.stack else hf_model
        cached = {} if self.stack else {"use_cache": False}
        return inner(ids, attention_mask=torch.ones_like(ids), **cached, **options)

    def given(self, ids: list[int]) -> dict[str, Any]:
        """The same ids as `attnxr.Model.encode` takes them."""
        return {"token_ids": SOURCE, "target": ids} if self.stack == "decoder" else {"token_ids": ids}


SOURCE = [9, 30, 51, 14, 2]  # what the encoder reads while a decoder is looked into


def build(model_type: str, options: dict[str, Any], auto: Any = AutoModel) -> PreTrainedModel:
    parts = {name: SIZES | options[name] for name in ("text_config", "encoder", "decoder") if name in options}
    config = AutoConfig.for_model(model_type, **(options | parts if parts else SIZES | options))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = auto.from_config(config)
        for path, module in model.named_modules():
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
                if path.endswith("Attention.q"):  # T5 has its scale of scores in these weights
                    parameter.mul_(config.d_kv**-0.5)
    return model.eval()


_TABLE: list[tuple[str, str, str, str, dict[str, Any]]] = [
    # name, id, positions, output projection, options
    ("BERT", "bert", "learned", BERT, {}),
    ("RoBERTa", "roberta", "learned", BERT, {}),
    ("RoBERTa-PreLayerNorm", "roberta-prelayernorm", "learned", BERT, {}),
    ("XLM-RoBERTa", "xlm-roberta", "learned", BERT, {}),
    ("XLM-RoBERTa-XL", "xlm-roberta-xl", "learned", BERT, {}),
    ("CamemBERT", "camembert", "learned", BERT, {}),
    ("data2vec-text", "data2vec-text", "learned", BERT, {}),
    ("ERNIE", "ernie", "learned", BERT, {"use_task_id": True}),
    ("ELECTRA", "electra", "learned", BERT, {"embedding_size": 20}),
    ("ALBERT", "albert", "learned", ALBERT, {"embedding_size": 20}),
    ("DistilBERT", "distilbert", "learned", "transformer.layer.{}.attention.out_lin", {"hidden_dim": 48}),
    ("BertGeneration", "bert-generation", "learned", BERT, {}),
    ("Splinter", "splinter", "learned", BERT, {"question_token_id": 3}),
    ("ESM-1b", "esm", "learned", BERT, {"emb_layer_norm_before": True}),
    ("ESM-2", "esm-rotary", "rotary", BERT, ESM2),
    ("Nomic BERT", "nomic_bert", "rotary", LLAMA, {}),
    ("GTE", "gte", "rotary", LLAMA, {}),
    ("Jina embeddings v3", "jina_embeddings_v3", "rotary", LLAMA, {}),
    ("EuroBERT", "eurobert", "rotary", LLAMA, ALL_BIASED | {"mask_token_id": 3}),
    ("ModernBERT", "modernbert", "rotary", "layers.{}.attn.Wo", MODERNBERT),
    ("ModernBERT decoder", "modernbert-decoder", "rotary", "layers.{}.attn.Wo", MODERNBERT),
    ("GPT-2", "gpt2", "learned", "h.{}.attn.c_proj", {"n_inner": 48, "scale_attn_by_inverse_layer_idx": True}),
    ("GPT-BigCode", "gpt_bigcode", "learned", "h.{}.attn.c_proj", {"n_inner": 48}),
    ("OPT", "opt", "learned", "decoder.layers.{}.self_attn.out_proj", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    ("BioGPT", "biogpt", "learned", "layers.{}.self_attn.out_proj", {}),
    ("CTRL", "ctrl", "computed", "h.{}.multi_head_attention.dense", {"dff": 48}),
    ("GPT-NeoX", "gpt_neox", "rotary", "layers.{}.attention.dense", {}),
    ("Llama", "llama", "rotary", LLAMA, ALL_BIASED),
    ("Mistral", "mistral", "rotary", LLAMA, GROUPED | WINDOW),
    ("Mixtral", "mixtral", "rotary", LLAMA, GROUPED | WINDOW | EXPERTS),
    ("Ministral", "ministral", "rotary", LLAMA, GROUPED | WIDE | MIXED),
    ("Ministral 3", "ministral3", "rotary", LLAMA, MINISTRAL3),
    ("Qwen2", "qwen2", "rotary", LLAMA, GROUPED | MIXED | {"use_sliding_window": True}),
    ("Qwen2-MoE", "qwen2_moe", "rotary", LLAMA, QWEN2_MOE),
    ("Qwen3", "qwen3", "rotary", LLAMA, BIASED | WIDE),
    ("Qwen3-MoE", "qwen3_moe", "rotary", LLAMA, QWEN3_MOE),
    ("Gemma", "gemma", "rotary", LLAMA, BIASED | WIDE),
    ("Gemma 2", "gemma2", "rotary", LLAMA, GEMMA2),
    ("Gemma 3", "gemma3", "rotary", LLAMA, GEMMA3),
    ("VaultGemma", "vaultgemma", "rotary", LLAMA, GEMMA2),
    ("Phi", "phi", "rotary", "layers.{}.self_attn.dense", GROUPED | {"qk_layernorm": True}),
    ("Phi-3", "phi3", "rotary", LLAMA, GROUPED | WINDOW),
    ("Phi-3 long", "phi3-long", "rotary", LLAMA, GROUPED | {"rope_parameters": LONG}),
    ("Phi-3.5-MoE", "phimoe", "rotary", LLAMA, BIASED | EXPERTS),
    ("OLMo", "olmo", "rotary", LLAMA, BIASED | {"clip_qkv": 2.0}),
    ("OLMo 2", "olmo2", "rotary", LLAMA, BIASED),
    ("OLMo 3", "olmo3", "rotary", LLAMA, BIASED | MIXED),
    ("OLMoE", "olmoe", "rotary", LLAMA, BIASED | EXPERTS),
    ("StarCoder2", "starcoder2", "rotary", LLAMA, GROUPED | WINDOW),
    ("Cohere", "cohere", "rotary", LLAMA, BIASED | {"use_qk_norm": True}),
    ("Cohere 2", "cohere2", "rotary", LLAMA, BIASED | MIXED),
    ("StableLM", "stablelm", "rotary", LLAMA, GROUPED | {"use_qkv_bias": True, "qk_layernorm": True}),
    ("Granite", "granite", "rotary", LLAMA, ALL_BIASED | MULTIPLIED),
    ("Granite MoE", "granitemoe", "rotary", LLAMA, BIASED | EXPERTS | MULTIPLIED),
    ("GPT-OSS", "gpt_oss", "rotary", LLAMA, GPT_OSS),
    ("SmolLM3", "smollm3", "rotary", LLAMA, ALL_BIASED | {"no_rope_layers": [1, 0, 1]}),
    ("GLM", "glm", "rotary", LLAMA, BIASED | WIDE),
    ("GLM-4", "glm4", "rotary", LLAMA, BIASED | WIDE),
    ("Helium", "helium", "rotary", LLAMA, ALL_BIASED | {"head_dim": 8}),
    ("Persimmon", "persimmon", "rotary", "layers.{}.self_attn.dense", {}),
    ("Nemotron", "nemotron", "rotary", LLAMA, ALL_BIASED | WIDE),
    ("EXAONE 4", "exaone4", "rotary", LLAMA, GROUPED | MIXED),
    ("Seed-OSS", "seed_oss", "rotary", LLAMA, ALL_BIASED | WIDE | {"attention_out_bias": True}),
    ("Apertus", "apertus", "rotary", LLAMA, BIASED | {"rope_parameters": LLAMA3}),
    ("Arcee", "arcee", "rotary", LLAMA, ALL_BIASED | WIDE),
    ("ERNIE 4.5", "ernie4_5", "rotary", LLAMA, GROUPED | WIDE | {"use_bias": True}),
    ("HunYuan", "hunyuan_v1_dense", "rotary", LLAMA, BIASED | WIDE),
    ("Jais 2", "jais2", "rotary", LLAMA, ALL_BIASED | WIDE),
    ("nanochat", "nanochat", "rotary", LLAMA, BIASED),
    ("MiniCPM3", "minicpm3", "rotary", LLAMA, LATENT),
    ("DeepSeek-V2", "deepseek_v2", "rotary", LLAMA, DEEPSEEK),
    ("DeepSeek-V3", "deepseek_v3", "rotary", LLAMA, DEEPSEEK),
    # what heads write is multiplied by a gate, or normed, before W_O reads it; layers differ
    ("BitNet", "bitnet", "rotary", LLAMA, GROUPED),
    ("BEAM", "beam", "rotary", LLAMA, BEAM),
    ("LFM2", "lfm2", "rotary", "layers.{}.self_attn.out_proj", CONV),
    ("Laguna, layers of 4 heads", "laguna", "rotary", LLAMA, LAGUNA),
    ("Laguna, layers of 6 heads", "laguna-6", "rotary", LLAMA, LAGUNA),
    ("LFM3", "lfm3", "rotary", LLAMA, LFM3),
    ("Jamba", "jamba", "rotary", LLAMA, JAMBA),
    ("OLMo Hybrid", "olmo_hybrid", "rotary", LLAMA, GROUPED | LINEAR | BETWEEN),
    ("AFMoE", "afmoe", "rotary", LLAMA, AFMOE),
    ("MiMo-V2-Flash, full layers", "mimo_v2_flash", "rotary", LLAMA, MIMO),
    ("MiMo-V2-Flash, sliding layers", "mimo_v2_flash-sliding", "rotary", LLAMA, MIMO),
    ("Qwen3-Next", "qwen3_next", "rotary", LLAMA, QWEN3_NEXT),
    ("Qwen3.5", "qwen3_5", "rotary", LLAMA, QWEN3_5),
    ("Gemma 4, sliding layers", "gemma4", "rotary", LLAMA, GEMMA4),
    ("Gemma 4, full layers", "gemma4-full", "rotary", LLAMA, GEMMA4),
    ("Qwen3.5-MoE", "qwen3_5_moe", "rotary", LLAMA, QWEN3_NEXT),
]
_LAYERS_OF: dict[str, tuple[int, ...]] = {
    "qwen3_next": (1, 3),
    "qwen3_5": (1, 3),
    "qwen3_5_moe": (1, 3),
    "olmo_hybrid": (1, 3),
    "lfm2": (1, 3),
    "lfm3": (2, 3),
    "jamba": (1, 3),
    "laguna": (0, 2),
    "laguna-6": (1, 3),
    "mimo_v2_flash": (0, 2),
    "mimo_v2_flash-sliding": (1, 3),
    "gemma4": (0, 2),
    "gemma4-full": (1, 3),
}

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
    ("DeBERTa", "deberta", "relative", BERT, _DEBERTA_1, ("forward", *_PROBABLE)),
    (
        "DeBERTa-v2",
        "deberta-v2",
        "relative",
        BERT,
        _DEBERTA_2,
        ("forward", "query_layer", "key_layer / scale", "value_layer", "attention_probs"),
    ),
    ("RemBERT", "rembert", "learned", BERT, _REMBERT, ("forward", *_PROBABLE)),
    ("RoFormer", "roformer", "rotary", BERT, {"embedding_size": 20}, ("forward", *_PROBABLE)),
    ("LUKE", "luke", "learned", BERT, {"entity_vocab_size": 10, "entity_emb_size": 8}, ("forward", *_PROBABLE)),
    ("Megatron-BERT", "megatron-bert", "learned", BERT, {}, ("forward", *_PROBABLE)),
    ("BigBird (full)", "big_bird", "learned", BERT, {"attention_type": "original_full"}, ("forward", *_PROBABLE)),
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
_BART = {
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "decoder_start_token_id": 2,
    "scale_embedding": True,
}
_T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 6,
    "decoder_start_token_id": 1,
}
_SPARSE_T5 = _T5 | {"num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
_NLLB = _BART | {"num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 2}
_FULL = _BART | {"attention_type": "original_full"}
_LED = _BART | {"max_encoder_position_embeddings": 48, "max_decoder_position_embeddings": 48, "attention_window": 4}
WHISPER = _BART | {"max_target_positions": 48, "max_source_positions": 8, "num_mel_bins": 6}
_OF_BART = "layers.{}.self_attn.out_proj"
_OF_T5 = "block.{}.layer.0.SelfAttention.o"
_STATES = ("forward", "query_states", "key_states", "value_states", "attn_probs")

_STACKS_TABLE: list[tuple[str, str, str, str, dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    # of encoder-decoders: name, id, positions, output projection in a stack, options, how it is seen, which stacks
    ("T5", "t5", "relative", _OF_T5, _T5, (), ("encoder", "decoder")),
    ("mT5", "mt5", "relative", _OF_T5, _T5 | {"feed_forward_proj": "gated-gelu"}, (), ("encoder", "decoder")),
    ("UMT5", "umt5", "relative", _OF_T5, _T5, (), ("encoder", "decoder")),
    ("Switch Transformers", "switch_transformers", "relative", _OF_T5, _SPARSE_T5, (), ("decoder",)),
    ("LongT5", "longt5", "relative", _OF_T5, _T5, (), ("decoder",)),
    ("BART", "bart", "learned", _OF_BART, _BART, (), ("encoder", "decoder")),
    ("mBART", "mbart", "learned", _OF_BART, _BART, (), ("encoder", "decoder")),
    ("PLBART", "plbart", "learned", _OF_BART, _BART, (), ("encoder", "decoder")),
    ("MVP", "mvp", "learned", _OF_BART, _BART, _STATES, ("encoder", "decoder")),
    ("Marian", "marian", "learned", _OF_BART, _BART, (), ("encoder", "decoder")),
    ("Pegasus", "pegasus", "learned", _OF_BART, _BART, (), ("encoder", "decoder")),
    ("BigBird-Pegasus", "bigbird_pegasus", "learned", _OF_BART, _FULL, (), ("decoder",)),
    ("Blenderbot", "blenderbot", "learned", _OF_BART, _BART, (), ("encoder", "decoder")),
    ("Blenderbot small", "blenderbot-small", "learned", _OF_BART, _BART, (), ("encoder", "decoder")),
    ("M2M100", "m2m_100", "learned", _OF_BART, _BART, (), ("encoder", "decoder")),
    ("NLLB-MoE", "nllb-moe", "learned", _OF_BART, _NLLB, (), ("encoder", "decoder")),
    ("LED", "led", "learned", _OF_BART, _LED, _STATES, ("decoder",)),
]
# Of the ids that are no model type.
_MODEL_TYPES = {
    "esm-rotary": "esm",
    "gemma3": "gemma3_text",
    "phi3-long": "phi3",
    "falcon-40b": "falcon",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "laguna-6": "laguna",
    "mimo_v2_flash-sliding": "mimo_v2_flash",
    "gemma4": "gemma4_text",
    "gemma4-full": "gemma4_text",
}

FAMILIES = {
    key: Family(
        name, model_type, positions, output, partial(build, model_type, options), _LAYERS_OF.get(key, ()), *seen
    )
    for name, key, positions, output, options, *seen in [*_TABLE, *_OWN_TABLE]
    for model_type in [_MODEL_TYPES.get(key, key)]
}
FAMILIES |= {
    f"{model_type}-{stack}": Family(
        f"{name} {stack}",
        model_type,
        positions,
        f"{stack}.{output}",
        partial(build, model_type, options),
        seen=seen,
        stack=stack,
    )
    for name, model_type, positions, output, options, seen, stacks in _STACKS_TABLE
    for stack in stacks
}
FAMILIES |= {
    key: Family(
        name,
        key.removesuffix("-pictures"),
        positions,
        output,
        partial(build, key.removesuffix("-pictures"), options),
        further_families.LAYERS_OF.get(key, ()),
        *seen,
    )
    for name, key, positions, output, options, *seen in further_families.TABLE
}
WITH_HEAD = {
    model_type: partial(build, model_type, options, AutoModelForSeq2SeqLM)
    for _, model_type, _, _, options, *_ in _STACKS_TABLE
}
"""Encoder-decoders with their head for language."""
