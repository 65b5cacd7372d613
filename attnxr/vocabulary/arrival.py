"""What arrives at a layer's attention when the embeddings of a token go straight there: the model's own numbers.

The blocks before the layer are passed by, so that its attention is handed what it makes of the embeddings as they
enter the model: for layer 0 that is what happens in any forward pass, for the others the layer's own reading of them;
for the first layer too, where blocks without attention come before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnxr.errors import UnsupportedModelError
from attnxr.probe.finite import remedy
from attnxr.probe.interface import Stop, Watcher, stream
from attnxr.probe.window import Window, typed

Arriving = Literal["value", "key", "query", "embedding"]
ARRIVING: tuple[Arriving, ...] = get_args(Arriving)

BATCH = 4096  # vocabulary entries taken at once


class Arrival(Watcher):
    """A pass that ends at a layer's attention, and keeps what that and the steps before it were handed.

    Parameters
    ----------
    window : Window
    layer : int
        Which of the layers with attention.
    positional : tensor, optional
        What to put in place of the positional term.
    norm : int, optional
        The pass is to end at the input of the LayerNorm of that number, or, with `normed`, to go on from there.
    normed : tensor, optional
        What to put in place of that LayerNorm's output.
    through_first : bool
        Whether the first block runs, and is not passed by; it makes no difference to what arrives at that itself.

    Attributes
    ----------
    vectors : dict of tensors (batch, heads, tokens, features)
        By space; those of ``embedding``, the stream that enters the first block, have one head.
    positional : tensor or None
        The positional term, where the model adds one.
    norms : list of nn.LayerNorm
        Those that ran, in order.
    norm_inputs : list of tensors
        What each of them was handed.
    """

    def __init__(
        self,
        window: Window,
        layer: int = 0,
        *,
        positional: Tensor | None = None,
        norm: int | None = None,
        normed: Tensor | None = None,
        through_first: bool = False,
    ):
        self.vectors: dict[Arriving, Tensor] = {}
        self.positional: Tensor | None = None
        self.norms: list[nn.LayerNorm] = []
        self.norm_inputs: list[Tensor] = []
        self._layout = window.layout
        self._entered = 0
        self._first_to_pass_by = 1 if through_first else 0
        self._end_of_passed_by = window.layout.order[layer]
        self._attentions_before = 1 if through_first and layer and not window.layout.order[0] else 0
        self._put_positional, self._norm, self._normed = positional, norm, normed

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if module in self._layout.blocks and "embedding" not in self.vectors:
            self.vectors["embedding"] = stream(args, kwargs).detach()[:, None]
        if isinstance(module, nn.LayerNorm):
            self.norms.append(module)
            self.norm_inputs.append(args[0])
            if self._norm == len(self.norms) - 1 and self._normed is None:
                raise Stop

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Tensor | None:
        if module is self._layout.positions:
            self.positional = output
            if self._put_positional is not None:
                return self._put_positional.to(output).expand_as(output)
        if isinstance(module, nn.LayerNorm) and self._normed is not None and self._norm == len(self.norms) - 1:
            return self._normed.to(output)
        return None

    def bypassed(self, block: nn.Module) -> bool:
        self._entered += 1
        return self._first_to_pass_by < self._entered <= self._end_of_passed_by

    def attending(self, module: nn.Module | None, query: Tensor, key: Tensor, value: Tensor) -> None:
        if self._attentions_before:
            self._attentions_before -= 1
            return
        self.vectors |= {"query": query, "key": key, "value": value}
        raise Stop


@dataclass(frozen=True, eq=False)
class Text:
    """What a text makes of its tokens where they arrive at a layer's attention.

    Attributes
    ----------
    token_ids : int64 tensor (n,)
    terms : float32 CPU tensor (n, E)
        What tells its positions apart: the terms that the model adds to its embeddings, E numbers each; for a model
        that adds none, the positions themselves, 0 … n−1, with E = 1. Zeros stand for no positional term at all.
    vectors : dict of float64 arrays (heads, n, features)
        What the attention was handed, by space.
    of_types : float32 CPU tensor (n, E), optional
        The part of `terms` that token types make, where the text has any.
    """

    token_ids: Tensor
    terms: Tensor
    vectors: dict[Arriving, NDArray[np.float64]]
    of_types: Tensor | None = None


def read(window: Window, layer: int, token_ids: Tensor, types: Sequence[int] = ()) -> Text:
    """Run a text up to a layer's attention.

    Parameters
    ----------
    window : Window
    layer : int
        Which of the layers with attention.
    token_ids : int64 tensor (n,)
        The whole text: some families count positions by what the tokens are.
    types : list of int, length n
        Token types, where the model is given any.
    """
    seen = Arrival(window, layer)
    window.run(token_ids[None], seen, inputs=typed(types))
    if seen.positional is None:
        terms = torch.arange(len(token_ids), dtype=torch.float32)[:, None]
    else:
        terms = seen.positional.reshape(-1, seen.positional.shape[-1]).to("cpu", torch.float32)
    vectors = {space: found[0].to("cpu", torch.float64).numpy() for space, found in seen.vectors.items()}
    if not types:
        return Text(token_ids, terms, vectors)
    of_types = torch.zeros_like(terms)
    # A type is added to the same sum as a position, so it is told by what the norm behind that sum is handed.
    if seen.positional is not None and seen.norms:
        without = Arrival(window, layer)
        window.run(token_ids[None], without)
        of_types += (seen.norm_inputs[0].double() - without.norm_inputs[0].double())[0].to("cpu", torch.float32)
    return Text(token_ids, terms + of_types, vectors, of_types)


def arrivals(
    window: Window, space: Arriving, layer: int, term: Tensor, token_ids: Tensor, through_first: bool = False
) -> Tensor:
    """Vocabulary encodings at one position, computed by the model itself.

    Parameters
    ----------
    window : Window
    space : {"value", "key", "query", "embedding"}
    layer : int
        Which of the layers with attention.
    term : float32 tensor (E,)
        The position's row of `Text.terms`; zeros leave the positional term out.
    token_ids : int64 tensor (m,)
    through_first : bool
        Whether the embeddings go through the first block before, the attention of which sees the token alone.

    Returns
    -------
    float32 CPU tensor (heads, m, features)
        ``heads`` is the number of key/value heads, of query heads for ``query``, and 1 for ``embedding``.

    Raises
    ------
    UnsupportedModelError
        If the model makes infinite or undefined numbers of a token.
    """
    added = window.layout.positions is not None

    def first(texts: Tensor) -> Tensor:
        seen = Arrival(window, layer, positional=term if added else None, through_first=through_first)
        window.run(texts, seen, position_id=None if added else int(term))
        return seen.vectors[space][:, :, 0].transpose(0, 1).to("cpu", torch.float32)

    found = torch.cat([first(batch[:, None]) for batch in token_ids.split(BATCH)], dim=1)
    lost = torch.nonzero(~found.isfinite().all(dim=2).all(dim=0))[:, 0]
    if len(lost):
        # ESM divides by the share of a text that is no mask: a mask needs another token beside it.
        beside = torch.full_like(lost, window.n_embeddings // 2)
        texts = torch.stack([token_ids[lost], beside], dim=1)
        found[:, lost] = torch.cat([first(batch) for batch in texts.split(BATCH)], dim=1)
        lost = lost[~found[:, lost].isfinite().all(dim=2).all(dim=0)]
        if len(lost):
            raise UnsupportedModelError(
                f"{window.family} makes {space} vectors that are infinite or NaN of {len(lost)} vocabulary entries, "
                f"the first of which is {window.entry(int(token_ids[lost[0]]))}. No distance can be given to them. "
                f"{remedy(window.model.dtype)}"
            )
    return found
