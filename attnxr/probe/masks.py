"""Attention masks, as a model applies them to its scores: made to look both ways, where it can be told what they hide.

A mask is added to the scores, or says where they are to be replaced. One that is added hides where it is very negative;
it can be told from a position's bias, or from a sum of the two, since it is 0 wherever it does not hide.
"""

from typing import Any

import torch
from torch import Tensor

_HIDDEN = -1e3  # at most: the masks that transformers adds are of -1e4 and less


def both_ways(visible: Tensor) -> Tensor:
    """Tokens that see each other one way see each other both ways; what does not see itself is padding, and stays so.

    Parameters
    ----------
    visible : bool tensor (…, n, n)
    """
    alive = visible.diagonal(dim1=-2, dim2=-1)
    return visible | (visible.transpose(-1, -2) & alive[..., None, :])


def added_both_ways(mask: Tensor) -> Tensor:
    """A mask (…, n, n) that is added, made to look both ways; anything else that is added is left as it is."""
    hidden = mask <= _HIDDEN
    if not hidden.any() or mask[~hidden].any():
        return mask
    return mask.masked_fill(hidden & both_ways(~hidden), 0)


def is_square(mask: Any, tokens: int) -> bool:
    """Whether something says one thing of each pair of tokens."""
    return isinstance(mask, Tensor) and mask.ndim >= 2 and mask.shape[-2:] == (tokens, tokens)


def ahead(tokens: int, device: torch.device) -> Tensor:
    """Which tokens (n, n) come after each."""
    return torch.ones(tokens, tokens, dtype=torch.bool, device=device).triu(1)
