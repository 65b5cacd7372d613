"""A run of a copy of a model's own tensors, which shows what quantised layers do as they run.

Some pack their weights when they are first run, or put them elsewhere: a view that shares them would do that to the
caller's, so that these are copied for it. Some round what they are handed, all tokens of it together: then what they
make of a token depends on the others.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attnxr.probe.linear import shape
from attnxr.probe.norms import tolerance
from attnxr.probe.settings import equal, held
from attnxr.probe.stored import parts, twin

# Modules of these write to nothing of their own in evaluation mode; others are tried.
_TRUSTED = ("torch.nn.modules.", "transformers.")
_BUT = "transformers.integrations."
_LARGER = 64.0  # what is beside a token while it is looked at


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
            found[id(tensor)] = copied = twin(tensor)
            for name in vars(tensor).keys() - vars(copied).keys():
                setattr(copied, name, copy.deepcopy(getattr(tensor, name)))
    return found


def places(copied: dict[int, Tensor]) -> dict[int, Any]:
    """Where copies lie and what hangs on them, to be compared after they were run."""
    return {
        key: ([part.data_ptr() for part in parts(each)], each.dtype, each.shape, held(vars(each)))
        for key, each in copied.items()
    }


def written_to(modules: list[nn.Module], copied: dict[int, Tensor], before: dict[int, Any]) -> list[nn.Module]:
    """The modules whose copied tensors are no longer what they were."""
    after = places(copied)
    changed = {
        id(tensor)
        for module in modules
        for tensor in _tensors(module)
        if not equal(before[id(tensor)], after[id(tensor)]) or not _same_bits(tensor, copied[id(tensor)])
    }
    return [module for module in modules if any(id(each) in changed for each in _tensors(module, recurse=False))]


@contextmanager
def mixing(model: nn.Module) -> Iterator[list[str]]:
    """Find, as a model runs, the linear maps of other libraries that make other vectors of a token beside other ones.

    Each is handed what it was handed again, and beside that the same many times as large.

    Yields
    ------
    list of str
        Their names and types, filled as the model runs.
    """
    found: list[str] = []
    names = {module: name for name, module in model.named_modules()}

    def again(module: nn.Module, args: tuple, output: Any) -> None:
        given = next((each for each in args if isinstance(each, Tensor) and each.is_floating_point()), None)
        if id(module) in asked or given is None or given.ndim < 2 or not isinstance(output, Tensor):
            return
        asked.add(id(module))  # its own second call is seen here too
        beside = torch.cat([given, _LARGER * given], dim=-2)
        alone, made = (module(each)[..., : given.shape[-2], :].double() for each in (given, beside))
        allowed = tolerance(output.dtype) * float(output.double().norm())
        changes = not float((alone - output.double()).norm()) <= allowed  # from call to call, whatever is beside it
        if not changes and not float((made - alone).norm()) <= allowed:
            found.append(f"{names[module] or 'the model itself'}, a {type(module).__name__}")

    asked: set[int] = set()
    hooks = [module.register_forward_hook(again) for module in to_try(model) if shape(module) is not None]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(module: nn.Module, recurse: bool = True) -> Iterator[Tensor]:
    yield from module.parameters(recurse)
    yield from module.buffers(recurse)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    both = zip(parts(one), parts(other), strict=True)
    return all(torch.equal(*(_bits(tensor) for tensor in pair)) for pair in both)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
