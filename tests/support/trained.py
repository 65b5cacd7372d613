"""A small decoder that was trained until it has an induction head: a model whose heads are known to have roles."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional, init

WORDS = ["<s>", *string.ascii_lowercase, *string.ascii_uppercase, *string.digits]
TEXTS, TOKENS, SHORTEST, LONGEST = 64, 33, 8, 16


def tokenizer() -> Any:
    """Each letter and digit is a token; they stand between spaces, after ``<s>``."""
    inner: Any = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")


def untrained(seed: int = 0) -> Any:
    """A Llama of two layers of four heads, whose feed-forward blocks add nothing: attention alone."""
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=1,
        max_position_embeddings=64,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},  # turns fast enough to tell near places apart
        bos_token_id=0,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hf_model = transformers.LlamaForCausalLM(config)
    for layer in hf_model.model.layers:
        init.zeros_(layer.mlp.down_proj.weight)
        layer.mlp.requires_grad_(False)
    return hf_model.eval()


def repeated(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw texts of random blocks repeated, (text, token), and where their next token can be known, (text, token − 1).

    Blocks are of many lengths, so that no fixed distance tells what comes next: only an earlier place of the token.
    """
    length = torch.randint(SHORTEST, LONGEST + 1, (TEXTS, 1), generator=generator)
    blocks = 1 + torch.rand(TEXTS, len(WORDS) - 1, generator=generator).argsort(dim=1)
    at = torch.arange(TOKENS - 1)
    ids = torch.cat([torch.zeros(TEXTS, 1, dtype=torch.int64), blocks.gather(1, at % length)], dim=1)
    return ids, at > length


@contextmanager
def one_thread() -> Iterator[None]:
    """So small matrices gain nothing by threads, which on a busy machine wait for each other twenty times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def train(seed: int = 0, steps: int = 400, enough: float = 0.05) -> Any:
    """Train on random blocks repeated, until what can be known is known: some 150 steps, in 10 seconds of one core.

    The first layer learns to look at the previous token, the second to find the place behind the token's earlier one.

    Parameters
    ----------
    seed : int
        Of the weights and the texts.
    steps : int
        The most that are made.
    enough : float
        The loss where the next token can be known, in nats, at which training ends.

    Returns
    -------
    transformers.LlamaForCausalLM
        In evaluation mode; `tokenizer` makes tokens for it.
    """
    hf_model = untrained(seed).train()
    generator = torch.Generator().manual_seed(seed)
    trained = [parameter for parameter in hf_model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, betas=(0.9, 0.95), weight_decay=0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 20)
        ids, known = repeated(generator)
        logits = hf_model(ids, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits[known], ids[:, 1:][known])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1)
        optimizer.step()
        if loss.item() < enough:
            break
    return hf_model.eval()
