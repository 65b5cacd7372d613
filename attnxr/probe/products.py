"""Products of an attention layer, whatever way its code writes them: which operand is what, and how its heads lie.

Of ``a @ b`` the first operand has rows (…, tokens, features or keys), the second one columns; the dimensions before
these are texts and heads, as two, as one (texts · heads, XGLM and DeBERTa-v2), or with the heads in groups. In an
einsum, the letters say it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_OPERANDS: dict[Any, tuple[int, tuple[str, str]]] = {  # where the two stand, and what they are called
    torch.matmul: (0, ("input", "other")),
    Tensor.matmul: (0, ("self", "other")),
    Tensor.__matmul__: (0, ("self", "other")),
    torch.bmm: (0, ("input", "mat2")),
    Tensor.bmm: (0, ("self", "mat2")),
    torch.baddbmm: (1, ("batch1", "batch2")),
    Tensor.baddbmm: (1, ("batch1", "batch2")),
}
FUNCTIONS = (*_OPERANDS, torch.einsum)


@dataclass(frozen=True, eq=False)
class Product:
    """A product of two tensors, as if it were ``first @ second``.

    Attributes
    ----------
    given : (tensor, tensor)
        The operands as they were given.
    first : tensor (…, rows, inner)
    second : tensor (…, inner, columns)
    lay : callable
        Makes (…, rows, columns) of the product.
    put : callable
        The inverse of that.
    """

    given: tuple[Tensor, Tensor]
    first: Tensor
    second: Tensor
    lay: Callable[[Tensor], Tensor]
    put: Callable[[Tensor], Tensor]


def read(func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Product | None:
    """What a call of one of `FUNCTIONS` multiplies; None where that is no product of many matrices."""
    if func is torch.einsum:
        return _read_einsum(*args)
    start, names = _OPERANDS[func]
    found = [args[start + i] if len(args) > start + i else kwargs.get(name) for i, name in enumerate(names)]
    first, second = found
    if not isinstance(first, Tensor) or not isinstance(second, Tensor) or min(first.ndim, second.ndim) < 3:
        return None
    return Product((first, second), first, second, _same, _same)


def _read_einsum(equation: Any, *operands: Any) -> Product | None:
    """The same of an einsum: rows and columns are the letters that one operand has alone."""
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or "." in equation or "->" not in equation or len(operands) != 2:
        return None
    inputs, out = equation.replace(" ", "").split("->")
    one, other = inputs.split(",")
    rows = [letter for letter in one if letter in out and letter not in other]
    columns = [letter for letter in other if letter in out and letter not in one]
    inner = [letter for letter in one if letter in other and letter not in out]
    leading = [letter for letter in one if letter in other and letter in out]
    if not len(rows) == len(columns) == len(inner) == 1 or not leading:
        return None
    if any(len(set(each)) != len(each) for each in (one, other, out)) or len(out) != len(leading) + 2:
        return None
    first = operands[0].permute([one.index(letter) for letter in (*leading, *rows, *inner)])
    second = operands[1].permute([other.index(letter) for letter in (*leading, *inner, *columns)])
    laid = [out.index(letter) for letter in (*leading, *rows, *columns)]
    back = [laid.index(i) for i in range(len(laid))]
    return Product(operands, first, second, lambda made: made.permute(laid), lambda made: made.permute(back))


def _same(made: Tensor) -> Tensor:
    return made


def by_head(tensor: Tensor, texts: int) -> Tensor | None:
    """Lay matrices (…, rows, columns) as (texts, heads, rows, columns); None where the first dimension is no text's."""
    if tensor.ndim == 3:
        return tensor.unflatten(0, (texts, -1)) if tensor.shape[0] % texts == 0 else None
    if tensor.shape[0] != texts:
        return None
    return tensor if tensor.ndim == 4 else tensor.flatten(1, -3)
