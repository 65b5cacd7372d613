"""All that is known of a model as it was at one moment: what one call works with from its beginning to its end."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from attnxr.loading.by_name import POOLER
from attnxr.probe.interface import on_cpu
from attnxr.probe.settings import equal
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
def take(hf_model: PreTrainedModel, tokenizer: Any, memory: int) -> Snapshot:
    """Find out all about a model as it is now; see `attnxr.Model` for the arguments and errors."""
    window = Window(hf_model, tokenizer)
    state = window.state()
    size = window.n_embeddings
    if tokenizer is not None:
        # Rows of the matrix beyond the last token are padding: no token has them.
        size = min(size, max(tokenizer.get_vocab().values()) + 1)
    tokens = VocabularyTokens(tokenizer, size)
    return Snapshot(window, state, _fingerprint(window), tokens, Vocabulary(window, size, memory))


def _fingerprint(window: Window) -> str:
    where_from = ("architectures", "dtype", "transformers_version")
    config = {
        key: value
        for key, value in window.model.config.to_dict().items()
        if not key.startswith("_") and key not in where_from
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(window.settings.told().encode())
    for key, tensor in window.model.state_dict().items():
        if not key.startswith(POOLER):
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode() + sample(tensor, 1024))
    return digest.hexdigest()[:16]
