"""How tensors are stored: a quantised one is several plain ones that say together what its numbers are."""

import copy

from torch import Tensor, nn


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's numbers are those that it stores, and are numbers to compute with: not packed, not 8 bits."""
    is_float = tensor.is_floating_point() and tensor.dtype.itemsize > 1
    return type(tensor) in (Tensor, nn.Parameter) and is_float and not tensor.is_meta


def parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that one consists of: itself, but for a wrapper of others such as torchao's and quanto's."""
    if not _wraps_others(tensor):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
    return [part for name in names for part in parts(getattr(tensor, name))]


def twin(tensor: Tensor) -> Tensor:
    """Copy a tensor, with all that it consists of."""
    if not _wraps_others(tensor):
        return copy.deepcopy(tensor)
    names, context = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
    inner = {name: twin(getattr(tensor, name)) for name in names}
    made = type(tensor).__tensor_unflatten__(inner, context, tensor.shape, tensor.stride())  # type: ignore[attr-defined]
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


def _wraps_others(tensor: Tensor) -> bool:
    return type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "__tensor_flatten__")
