"""Infinite and undefined numbers: which vocabulary entries have them, and what to do about it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnxr.errors import UnsupportedModelError


def remedy(dtype: torch.dtype) -> str:
    """What to do about infinite or undefined numbers of a model in this precision."""
    if dtype.itemsize < 4:
        return f"Did the model overflow in {str(dtype).removeprefix('torch.')}? Load it in float32."
    return (
        "Are its weights whole? Look for the parameters that are not: "
        "[name for name, each in hf_model.named_parameters() if not each.isfinite().all()]."
    )


def lost_rows(table: Tensor | NDArray) -> NDArray[np.intp]:
    """Which rows of (…, rows, features) have a number that is infinite or NaN, in any of the leading dimensions."""
    found = torch.as_tensor(table).detach().flatten(0, -3) if table.ndim > 2 else torch.as_tensor(table).detach()[None]
    # A sum of finite numbers can overflow, one with others cannot be finite: a first look that makes no large array. In
    # the table's own precision, since torch converts slowly; in half precision sums of many numbers would overflow.
    sums = found.sum(dim=-1, dtype=torch.float32 if found.dtype.itemsize < 4 else found.dtype)
    suspects = torch.nonzero(~sums.isfinite().all(dim=0))[:, 0]
    lost = ~found[:, suspects].isfinite().all(dim=-1).all(dim=0)
    return suspects[lost].cpu().numpy()


def refuse_rows(table: Tensor | NDArray, what: str, family: str, tokenizer: Any, dtype: torch.dtype) -> None:
    """Fail where rows of a table, one for each vocabulary entry, have numbers that are infinite or NaN.

    Parameters
    ----------
    table : array (…, V, features)
    what : str
        What the rows are, for the message.
    family : str
        What to call the model.
    tokenizer : transformers tokenizer or None
        To call the entry by its token.
    dtype : torch.dtype
        Of the model.

    Raises
    ------
    UnsupportedModelError
        With the id and the token of the first of them.
    """
    lost = lost_rows(table).tolist()
    if lost and tokenizer is not None:  # rows beyond the last token are padding: no token has them
        size = max(tokenizer.get_vocab().values()) + 1
        lost = [i for i in lost if i < size]
    if lost:
        raise UnsupportedModelError(
            f"The {what} of {family} are infinite or NaN for {len(lost)} vocabulary entries, the first of which is "
            f"{entry(tokenizer, lost[0])}. Expected finite numbers: no distance can be given to these. {remedy(dtype)}"
        )


def entry(tokenizer: Any, token_id: int) -> str:
    """A vocabulary entry in words: its id and, where it is known, its token."""
    if tokenizer is None:
        return f"the id {token_id}"
    return f"the id {token_id}, token {tokenizer.convert_ids_to_tokens(token_id)!r}"
