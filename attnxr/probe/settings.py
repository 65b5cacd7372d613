"""What a model computes with besides its tensors: attributes of its modules, its configuration, its hooks.

An adapter is switched off, an epsilon set, a forward replaced without any tensor being touched. So all of it is kept
as it is at one moment, in a form that is cheap to compare with a later one.
"""

import functools
import json
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

# What torch keeps in every module (its tensors and hooks are looked at as such), and what changes no number.
_NOT_READ = {
    *vars(nn.Module()),
    "generation_config",
    "gradient_checkpointing",
    "max_seq_len_cached",  # the longest text so far, for frequencies that depend on it
    "_is_hf_initialized",
}
_RECORDING = "transformers.utils.output_capturing"
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device)
_LARGEST = 64  # of a larger container only the identity and the size count
_DEEPEST = 4

_Place = tuple[int, str | int, Any]


class Settings:
    """The attributes, configuration and hooks of all modules under one.

    Attributes that a module gets later are what it notes as it runs (frequencies for long texts, say), and no settings;
    but for ``forward``, which takes the place of the one of its class.

    Parameters
    ----------
    top : nn.Module
    notes : set of (int, str or int, Any)
        What is not to count, see `places_that_differ`: numbers of modules, names of attributes or ids of hooks, and
        the part of those that have parts.
    """

    def __init__(self, top: nn.Module, notes: set[_Place]):
        self._top = top
        self._modules = list(top.modules())
        skipped = {*_NOT_READ, "forward"}
        self._names = [
            ("forward", *(name for name in vars(module) if name not in skipped and (number, name, None) not in notes))
            for number, module in enumerate(self._modules)
        ]
        self._hooks = [
            [hook for key, hook in _hooks(module) if (number, key, None) not in notes]
            for number, module in enumerate(self._modules)
        ]
        # What can change and stay the same object is looked into each time, once wherever it stands.
        self._inner: dict[int, tuple[Any, set]] = {}
        for number, module in enumerate(self._modules):
            for name, value in (*vars(module).items(), *_hooks(module)):
                if name not in _NOT_READ and (number, name, None) not in notes and _inside(value) is not None:
                    _, without = self._inner.setdefault(id(value), (value, set()))
                    without |= {part for where, what, part in notes if (where, what) == (number, name)}

    def _values(self) -> Iterator[list[Any]]:
        for module, names in zip(self._modules, self._names, strict=True):
            own = vars(module)
            yield [own.get(name) for name in names]

    def now(self, modules: list[nn.Module]) -> tuple:
        """Something to hand to `equal`, that differs after any of it was changed.

        Parameters
        ----------
        modules : list of nn.Module
            All that the top has at this moment.
        """
        kinds = [(type(each), type(each).forward, *(key for key, _ in _hooks(each))) for each in modules]
        everywhere = nn.modules.module._global_forward_pre_hooks, nn.modules.module._global_forward_hooks
        inner = [
            held(value, without) for value, without in (*self._inner.values(), *((each, ()) for each in everywhere))
        ]
        return modules, kinds, list(self._values()), inner, [held(hooks) for hooks in everywhere]

    def told(self) -> str:
        """The same in words that another process would use, too; without what the configuration says."""
        kinds = {kind: _told(kind.forward) for kind in {type(module) for module in self._modules}}
        parts = []
        for module, values, names, hooks in zip(self._modules, self._values(), self._names, self._hooks, strict=True):
            said = [
                (name, self._tell(value))
                for name, value in zip(names, values, strict=True)
                if (name == "forward" or not isinstance(module, PreTrainedModel))
                and not isinstance(value, PreTrainedConfig)
            ]
            parts.append([kinds[type(module)], sorted(said), [self._tell(hook) for hook in hooks]])
        return json.dumps(parts)

    def _tell(self, value: Any) -> Any:
        return _told(value, self._inner.get(id(value), (value, ()))[1])


def snapshot(top: nn.Module) -> dict[_Place, Any]:
    """All settings under a module, by the number of the module and the name of the attribute or the hook's id."""
    return {
        (number, name, part): held(each)
        for number, module in enumerate(top.modules())
        for name, value in (*vars(module).items(), *_hooks(module))
        if name not in _NOT_READ
        for part, each in ([(None, value)] if _inside(value) is None else _inside(value) or ())
    }


def places_that_differ(before: dict[_Place, Any], after: dict[_Place, Any]) -> set[_Place]:
    """Where a pass through a model has left other settings than there were: notes it makes as it runs, no settings."""
    # What is not there is another thing than None: a tensor that was None before has no place of its own.
    return {place for place in before | after if not equal(before.get(place, before), after.get(place, after))}


def _hooks(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    """The hooks of a module, but for those with which transformers records outputs, once it has been asked for any."""
    yield from module._forward_pre_hooks.items()
    for key, hook in module._forward_hooks.items():
        if getattr(hook, "__module__", None) != _RECORDING:
            yield key, hook


def equal(one: Any, other: Any) -> bool:
    """Whether two things are equal; those that cannot say so (arrays, tensors) are, if they are the same object."""
    try:
        return bool(one == other)
    except (RuntimeError, ValueError, TypeError):
        return False


def held(value: Any, without: Collection[Any] = (), depth: int = _DEEPEST) -> Any:
    """A value as it is now: itself where it cannot change, and otherwise what is in it, but for some parts."""
    if isinstance(value, _PLAIN) or not depth:
        return value
    if isinstance(value, Tensor):
        return value, 0 if value.is_inference() else value._version
    if isinstance(value, nn.Module):
        return value  # one of the model's, or one that it does not run
    inner = _inside(value)
    if inner is None:
        return value
    return value if type(value) in (FunctionType, MethodType) else type(value), [
        (key, held(each, depth=depth - 1)) for key, each in inner if key not in without
    ]


def _inside(value: Any) -> list[tuple[Any, Any]] | None:
    """What a value consists of, by name; None where it has no parts that could change."""
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        found = [*zip(value.__code__.co_freevars, cells, strict=False), *enumerate(value.__defaults__ or ())]
        return found or None
    if isinstance(value, MethodType):
        owner = value.__self__
        return None if isinstance(owner, nn.Module | type) else [("self", owner)]
    if isinstance(value, functools.partial):
        return [("function", value.func), *enumerate(value.args), *value.keywords.items()]
    if isinstance(value, dict):
        return list(value.items()) if len(value) <= _LARGEST else [("size", len(value))]
    if isinstance(value, list | tuple):
        # Nothing is what a list of things to do, or of what was seen, is filled with: None tells nothing.
        known = [each for each in value if each is not None] if len(value) <= _LARGEST else [len(value)]
        return list(enumerate(known))
    if isinstance(value, set | frozenset):
        return [("set", frozenset(value))] if len(value) <= _LARGEST else [("size", len(value))]
    own = getattr(value, "__dict__", None)
    return list(own.items()) if isinstance(own, dict) else None


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _told(value: Any, without: Collection[Any] = (), depth: int = _DEEPEST) -> Any:
    """A value in words; of what has none, its type."""
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, _PLAIN):
        return repr(value)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, Tensor):
        flat = value.detach().reshape(-1)
        few = flat[:: max(1, len(flat) // _LARGEST)]
        return [kind, str(value.dtype), list(value.shape), [] if value.is_meta else repr(few.tolist())]
    if isinstance(value, set | frozenset):
        return [kind, sorted(map(repr, value))]
    if isinstance(value, CodeType):
        return [value.co_name, value.co_code.hex(), value.co_names, [_told(each) for each in value.co_consts]]
    name = getattr(value, "__qualname__", kind)
    code = [_told(value.__code__)] if hasattr(value, "__code__") else []  # a method of a partial has none
    inner = None if isinstance(value, nn.Module) else _inside(value)
    parts = [[str(key), _told(each, depth=depth - 1)] for key, each in inner or () if key not in without and depth]
    return [name, *code, parts]
