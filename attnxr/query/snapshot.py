"""All that is known of a model as it was at one moment: what one call works with from its beginning to its end."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from attnxr.errors import AttnxrError, UnsupportedModelError
from attnxr.loading.by_name import POOLER
from attnxr.options import Stack
from attnxr.probe.ahead import refuse_other_masks
from attnxr.probe.interface import on_cpu
from attnxr.probe.settings import equal
from attnxr.probe.stacks import DecoderWindow, encoder_window
from attnxr.probe.window import Window, sample
from attnxr.tokens import VocabularyTokens
from attnxr.vocabulary.encodings import Vocabulary


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A model looked into.

    Attributes
    ----------
    window : Window
    state : tuple
        What `Window.state` was before anything else was found out.
    fingerprint : str
    tokens : VocabularyTokens
        Names of the vocabulary entries.
    vocabulary : Vocabulary
        Their encodings.
    """

    window: Window
    state: tuple
    fingerprint: str
    tokens: VocabularyTokens
    vocabulary: Vocabulary

    def is_current(self) -> bool:
        """Whether the model's weights and settings are still those that were looked at."""
        return equal(self.window.state(), self.state)


@on_cpu()
def take(
    hf_model: PreTrainedModel,
    tokenizer: Any,
    memory: int,
    layers: Sequence[int] | None = None,
    stack: Stack | None = None,
) -> Snapshot:
    """Find out all about a model, or a stack of one, as it is now; see `attnxr.Model` for the arguments and errors."""
    kinds: dict[Stack | None, Callable] = {
        None: lambda: Window(hf_model, tokenizer, layers),
        "encoder": lambda: encoder_window(hf_model, tokenizer),
        "decoder": lambda: DecoderWindow(hf_model, tokenizer),
    }
    window = kinds[stack]()
    state = window.state()
    size = window.n_embeddings
    if tokenizer is not None:
        # Rows of the matrix beyond the last token are padding: no token has them.
        size = min(size, max(tokenizer.get_vocab().values()) + 1)
    tokens = VocabularyTokens(tokenizer, size)
    try:
        refuse_other_masks(window)
        vocabulary = Vocabulary(window, size, memory)
    except (AttnxrError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a family that runs on one short text need not run on many, or on a long one
        raise UnsupportedModelError(
            f"{window.family} runs on two tokens, and not on other texts ({type(error).__name__}: {error}). attnxr "
            "looks into models that run on any text, and on several texts of one length together."
        ) from error
    return Snapshot(window, state, _fingerprint(window, state, layers), tokens, vocabulary)


def cross(decoder: Snapshot) -> Snapshot:
    """The same of a decoder's attention to the encoder's text, by a snapshot of the decoder.

    What it writes is compared with nothing but what the decoder's vocabulary is in the stream.
    """
    assert isinstance(decoder.window, DecoderWindow)
    window = decoder.window.cross()
    return replace(decoder, window=window, fingerprint=_fingerprint(window, decoder.state, None))


def _fingerprint(window: Window, state: tuple, layers: Sequence[int] | None) -> str:
    where_from = ("architectures", "dtype", "transformers_version")
    config = {
        key: value
        for key, value in window.model.config.to_dict().items()
        if not key.startswith("_") and key not in where_from
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(window.told(state).encode())
    digest.update((window.stack or "").encode())
    if layers is not None:  # what comes first among them is what all are compared with, unless told otherwise
        digest.update(f"layers {window.layout.layers}".encode())
    for key, tensor in window.named_tensors():
        if not key.startswith(POOLER):
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode() + sample(tensor))
    return digest.hexdigest()[:16]
