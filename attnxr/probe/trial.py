"""A run of a copy of a model's own tensors, which shows whether its modules write to them as they run.

Quantised layers pack their weights when they are first run. A view that shares them would pack the caller's.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attnxr.probe.settings import equal, held

# Modules of these write to nothing of their own in evaluation mode; others are tried.
_TRUSTED = ("torch.nn.modules.", "transformers.")
_BUT = "transformers.integrations."


def to_try(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that could write to their own tensors: those of other libraries, and of its user."""

    def is_trusted(module: nn.Module) -> bool:
        where = type(module).__module__
        return where.startswith(_TRUSTED) and not where.startswith(_BUT) and "forward" not in vars(module)

    return [module for module in model.modules() if not is_trusted(module)]


def copies(modules: list[nn.Module]) -> dict[int, Tensor]:
    """Copy all tensors of modules, with what was hung on them, by the id of the original."""
    found: dict[int, Tensor] = {}
    for tensor in (tensor for module in modules for tensor in _tensors(module)):
        if id(tensor) not in found:
            found[id(tensor)] = twin = copy.deepcopy(tensor)
            for name, value in vars(tensor).items():
                vars(twin).setdefault(name, copy.deepcopy(value))
    return found


def places(copied: dict[int, Tensor]) -> dict[int, Any]:
    """Where copies lie and what hangs on them, to be compared after they were run."""
    return {key: (twin.data_ptr(), twin.dtype, twin.shape, held(vars(twin))) for key, twin in copied.items()}


def written_to(
    model: nn.Module, modules: list[nn.Module], copied: dict[int, Tensor], before: dict[int, Any]
) -> list[str]:
    """The modules, by name and type, whose copied tensors are no longer what they were."""
    after = places(copied)
    names = {id(module): name for name, module in model.named_modules()}
    changed = {
        id(tensor)
        for module in modules
        for tensor in _tensors(module)
        if not equal(before[id(tensor)], after[id(tensor)]) or not _same_bits(tensor, copied[id(tensor)])
    }
    return [
        f"{names[id(module)] or 'the model itself'}, a {type(module).__name__}"
        for module in modules
        if any(id(tensor) in changed for tensor in _tensors(module, recurse=False))
    ]


def _tensors(module: nn.Module, recurse: bool = True) -> Iterator[Tensor]:
    yield from module.parameters(recurse)
    yield from module.buffers(recurse)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    bits = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return torch.equal(*bits)
