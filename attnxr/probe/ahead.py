"""Whether tokens see the later ones both in the model as it was loaded and in it as it is looked into."""

import torch

from attnxr.errors import UnsupportedModelError
from attnxr.probe.interface import Watcher
from attnxr.probe.window import Window

_SEES = 1e-2  # by how much, relatively, what is made of a token changes with the one after it
_SEES_NOT = 1e-4


def refuse_other_masks(window: Window) -> None:
    """Fail where eager attention hides tokens that the model's own attention does not hide, or the reverse.

    Some families leave it to fused attention to know which way the mask goes, and say something else there.

    Parameters
    ----------
    window : Window

    Raises
    ------
    UnsupportedModelError
    """
    if window.by_functions or not window.is_fused:  # the model's own attention runs, or eager attention is its own
        return
    size = window.n_embeddings
    texts = torch.tensor([[size // 2, size // 3], [size // 2, size // 4]])
    shown, own = _change(window.run(texts, Watcher())[0]), _change(window.run_alone(texts))
    if min(shown, own) <= _SEES_NOT and max(shown, own) >= _SEES:
        ways = "a token sees those after it", "a token sees only those before it"
        as_loaded, as_eager = ways if own > shown else ways[::-1]
        raise UnsupportedModelError(
            f"In {window.family} {as_loaded} with the attention that it was loaded with, and {as_eager} with its eager "
            "attention, which is what is looked into. Nobody can say which of the two is meant. Where it is the eager "
            "one, load the model with attn_implementation='eager'."
        )


def _change(states: torch.Tensor) -> float:
    """How much the first of two tokens is changed by the second, of states (2 texts, 2 tokens, D)."""
    one, other = states[:, 0].double()
    return float((one - other).norm() / one.norm())
