"""Tiny random models with real tokenizers, the kinds of model that tests are run on."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SENTENCE = "Time flies like an arrow. Fruit flies like a banana."
CORPUS = [SENTENCE] * 8 + [
    "A transformer reads a text token by token, and every head writes what it has found.",
    "Which words of the whole vocabulary is that nearest to? Nobody knows before looking.",
    "The quick brown fox jumps over the lazy dog, while the dog dreams of running after foxes.",
    "Each layer adds to the stream; each position keeps its own; the norms keep them in bounds.",
    "Fruit flies live for forty days, arrows fly for seconds, and bananas do not fly at all.",
    "He said that she had said that they were saying nothing that anybody had not said before.",
    "Attention is a weighted sum of values, and the weights are never negative and sum to one.",
    "In the beginning the numbers were random, then they were trained, and then they were read.",
]
VOCABULARY_SIZE = 400


def byte_level_tokenizer() -> Any:
    """A RoBERTa tokenizer: byte-level BPE, `<s> ... </s>` around a text."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    inner: Any = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    return transformers.RobertaTokenizer(tokenizer_object=inner)


def wordpiece_tokenizer() -> Any:
    """A BERT tokenizer: lower-casing WordPiece, `[CLS] ... [SEP]` around a text."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = string.ascii_lowercase + string.digits
    words = sorted(set(re.findall("[a-z]+", " ".join(CORPUS).lower())) - set(letters))
    tokens = [*special, *string.punctuation, *letters, *(f"##{letter}" for letter in letters), "##ing", *words]
    return transformers.BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


def randomise(hf_model: Any, seed: int) -> Any:
    """Give every parameter a random value, biases and LayerNorm weights too: leaving one out shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in hf_model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * (0.5 if "embeddings" in name else 1.5 * parameter.shape[1] ** -0.5))
            else:
                parameter.copy_(0.3 * noise + (1.0 if "LayerNorm.weight" in name else 0.0))
    return hf_model.eval()


def _sizes(vocab_size: int) -> dict[str, Any]:
    return {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
    }


def tiny_roberta(cls: Any = transformers.RobertaModel, *, seed: int = 0, **options: Any) -> Any:
    """A random RoBERTa: positions count from padding_idx + 1 = 2, so that 38 tokens fit."""
    sizes = _sizes(VOCABULARY_SIZE) | options
    config = transformers.RobertaConfig(**sizes, type_vocab_size=2, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    return randomise(cls(config), seed)


def tiny_bert(cls: Any = transformers.BertModel, *, seed: int = 1, **options: Any) -> Any:
    """A random BERT whose vocabulary has more rows than its tokenizer has tokens, as some published ones."""
    return randomise(cls(transformers.BertConfig(**(_sizes(VOCABULARY_SIZE) | options))), seed)


def tiny_unsupported(family: str) -> Any:
    """A random model whose attention cannot be looked into."""
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1}
    assert family == "fnet"
    return transformers.FNetModel(transformers.FNetConfig(**sizes, intermediate_size=16))


def save(folder: Path, hf_model: Any, tokenizer: Any = None) -> Path:
    """Save a model, and its tokenizer if any, the way published ones are (safetensors)."""
    hf_model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def tiny_gpt2(cls: Any = transformers.GPT2LMHeadModel, *, seed: int = 2, **options: Any) -> Any:
    """A random GPT-2 that continues texts of `byte_level_tokenizer`; nothing ends them, unless told."""
    sizes = {"vocab_size": VOCABULARY_SIZE, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64}
    config = transformers.GPT2Config(**(sizes | {"bos_token_id": 0, "eos_token_id": None} | options))
    return randomise(cls(config), seed)


def tiny_t5(cls: Any = transformers.T5ForConditionalGeneration, *, seed: int = 4, **options: Any) -> Any:
    """A random encoder-decoder for texts of `byte_level_tokenizer`, whose stacks differ in their number of layers."""
    sizes = {"vocab_size": VOCABULARY_SIZE, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4}
    special = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.T5Config(**(sizes | special | {"num_layers": 2, "num_decoder_layers": 3} | options))
    return randomise(cls(config), seed)


CHAT_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)


def decoder_tokenizer() -> Any:
    """As GPT-2's, which puts nothing around a text and has a token that begins one; and with a template of chats."""
    inner = byte_level_tokenizer().backend_tokenizer
    inner.post_processor = processors.ByteLevel(trim_offsets=True)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", chat_template=CHAT_TEMPLATE
    )
