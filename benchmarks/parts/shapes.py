"""The models that are measured: real architectures and sizes, random weights."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

import attnxr

K = 15
METRICS = ("cosine", "euclidean", "dot", "centered_cosine")


@dataclass(frozen=True)
class Shape:
    """Sizes of a model and of the text that it is given.

    Attributes
    ----------
    layers, heads, head_size, vocabulary, tokens : int
        L, H, d, V and n. The model size D is H·d.
    kv_heads : int, optional
        Key/value heads, where several query heads share one.
    """

    layers: int
    heads: int
    head_size: int
    vocabulary: int
    tokens: int
    kv_heads: int | None = None

    @property
    def width(self) -> int:
        """D, the model size."""
        return self.heads * self.head_size

    @property
    def operations(self) -> int:
        """Floating-point operations of the products of all queries with all vocabulary entries: 2·d·V·L·H·n."""
        return 2 * self.head_size * self.vocabulary * self.layers * self.heads * self.tokens

    def __str__(self) -> str:
        shared = f" ({self.kv_heads} key/value heads)" if self.kv_heads else ""
        return (
            f"{self.layers} layers × {self.heads} heads{shared} × {self.head_size} features, "
            f"V = {self.vocabulary:,}, {self.tokens:,} tokens, k = {K}"
        )


ROBERTA_BASE = Shape(layers=12, heads=12, head_size=64, vocabulary=50265, tokens=14)
ROBERTA_LONG = replace(ROBERTA_BASE, tokens=512)
LLAMA_LONG = Shape(layers=16, heads=32, head_size=64, vocabulary=128256, tokens=2048, kv_heads=8)

SMALL_ROBERTA = Shape(layers=2, heads=4, head_size=32, vocabulary=3000, tokens=6)
SMALL_ROBERTA_LONG = replace(SMALL_ROBERTA, tokens=40)
SMALL_LLAMA_LONG = Shape(layers=2, heads=4, head_size=16, vocabulary=3000, tokens=48, kv_heads=2)

BY_NAME = {"small": SMALL_ROBERTA, "roberta-base": ROBERTA_BASE}
"""The shapes of the asv suites."""


def roberta(shape: Shape) -> RobertaModel:
    """A RoBERTa with random weights; for RoBERTa-base's sizes, of that size in every part."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    return RobertaModel(config).eval()


def llama(shape: Shape) -> LlamaModel:
    """A Llama with random weights. Its feed-forward blocks are small: no encoding of a head depends on their size."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.width // 4,
        max_position_embeddings=4096,
    )
    return LlamaModel(config).eval()


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer for models that have none: entry i is the word ``w`` and its number, as ``w7``."""
    inner: Any = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def token_ids(shape: Shape) -> list[int]:
    """A text of random tokens, none of which is one of RoBERTa's special tokens (ids 0 to 3)."""
    return np.random.default_rng(0).integers(4, shape.vocabulary, shape.tokens).tolist()


def encode(model: attnxr.Model, shape: Shape) -> xr.Dataset:
    """Encodings of that text, without the attention weights, which no search reads."""
    return model.encode(token_ids=token_ids(shape)).drop_vars("attention")
