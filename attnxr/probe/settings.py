"""What a model computes with besides its tensors: attributes of its modules, its configuration, its hooks.

An adapter is switched off, an epsilon set, a forward replaced without any tensor being touched. So all of it is kept
as it is at one moment, in a form that is cheap to compare with a later one.
"""

import dis
import functools
import json
from collections import deque
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
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
_LARGEST = 1024  # of a larger container only the identity and the size count
_DEEPEST = 5
_LIBRARIES = ("torch", "transformers", "numpy", "builtins")  # what these say outside their modules is taken to stay

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
        for number, name, value in _all_of(self._modules):
            if (number, name, None) not in notes and _inside(value) is not None:
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
        kinds = [(type(each), *(key for key, _ in _hooks(each))) for each in modules]
        inner = [held(value, without) for value, without in self._inner.values()]
        functions = [[*_functions_of(kind).values()] for kind in {type(each): None for each in modules}]
        return modules, kinds, functions, list(self._values()), inner, list(_everywhere().values())

    def runs_foreign_code(self, modules: list[nn.Module]) -> bool:
        """Whether hooks, or forwards of single modules, run along with the model: they can look anywhere.

        Parameters
        ----------
        modules : list of nn.Module
            As for `now`.
        """
        return bool(_everywhere()) or any(
            "forward" in vars(each) or any(True for _ in _hooks(each)) for each in modules
        )

    def told(self) -> str:
        """The same in words that another process would use, too; without what the configuration says."""
        kinds = {}
        for kind in {type(module) for module in self._modules}:
            foreign = [[name, self._tell(each)] for name, each in sorted(_foreign_functions_of(kind).items())]
            kinds[kind] = [_told(kind.forward), *foreign]
        parts = []
        for module, values, names, hooks in zip(self._modules, self._values(), self._names, self._hooks, strict=True):
            said = [
                (name, self._tell(value))
                for name, value in zip(names, values, strict=True)
                if (name == "forward" or not isinstance(module, PreTrainedModel))
                and not isinstance(value, PreTrainedConfig)
            ]
            parts.append([kinds[type(module)], sorted(said), [self._tell(hook) for hook in hooks]])
        everywhere = [self._tell(hook) for hook in _everywhere().values()]
        return json.dumps([*parts, everywhere] if everywhere else parts)

    def _tell(self, value: Any) -> Any:
        return _told(value, self._inner.get(id(value), (value, ()))[1])


def snapshot(top: nn.Module) -> dict[_Place, Any]:
    """All settings under a module, by the number of the module and the name of the attribute or the hook's id."""
    return {
        (number, name, part): held(each)
        for number, name, value in _all_of([*top.modules()])
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


def _all_of(modules: list[nn.Module]) -> Iterator[tuple[int, Any, Any]]:
    """All settings: the number of the module, or −1, the name or the hook's id, and the value."""
    for number, module in enumerate(modules):
        for name, value in (*vars(module).items(), *_hooks(module)):
            if name not in _NOT_READ:
                yield number, name, value
    for kind in {type(module): None for module in modules}:
        for name, value in _foreign_functions_of(kind).items():
            yield -1, f"{kind.__qualname__}.{name}", value
    for key, value in _everywhere().items():
        yield -1, key, value


def _everywhere() -> dict[int, Any]:
    """The hooks that torch runs with every module there is, by their ids."""
    return {**nn.modules.module._global_forward_pre_hooks, **nn.modules.module._global_forward_hooks}


def _functions_of(kind: type) -> dict[str, Any]:
    """The functions that the modules of a class compute with: its methods, and what its forward calls by name."""
    called = getattr(kind, "forward", None)
    called = getattr(called, "__wrapped__", called)
    found = dict(_globals_of(called)) if isinstance(called, FunctionType) else {}
    found = {f"{name}()": each for name, each in found.items() if isinstance(each, FunctionType)}
    for cls in reversed(kind.__mro__):
        if cls not in (object, nn.Module):
            found |= {name: each for name, each in vars(cls).items() if isinstance(each, FunctionType)}
    return found


def _foreign_functions_of(kind: type) -> dict[str, Any]:
    return {name: each for name, each in _functions_of(kind).items() if not _is_of_library(each)}


def _is_of_library(value: Any) -> bool:
    return (getattr(value, "__module__", None) or "builtins").partition(".")[0] in _LIBRARIES


def equal(one: Any, other: Any) -> bool:
    """Whether two things are equal; those that cannot say so (arrays, tensors) are, if they are the same object."""
    try:
        return bool(one == other)
    except (RuntimeError, ValueError, TypeError):
        return False


def held(value: Any, without: Collection[Any] = (), depth: int = _DEEPEST) -> Any:
    """A value as it is now: itself where it cannot change, and otherwise what is in it, but for some parts."""
    if (isinstance(value, _PLAIN) and not isinstance(value, type)) or not depth:
        return value
    if isinstance(value, Tensor):
        return value, 0 if value.is_inference() else value._version
    if isinstance(value, np.ndarray):
        return value, value.tobytes() if value.size <= _LARGEST and not value.dtype.hasobject else value.shape
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
        found += (value.__kwdefaults__ or {}).items()
        return [*found, *(() if _is_of_library(value) else _globals_of(value))] or None
    if isinstance(value, MethodType):
        return [("self", value.__self__), ("function", value.__func__)]
    if isinstance(value, nn.Module):
        return _inside_module(value)
    if isinstance(value, type):
        return _said_by(value) or None
    if isinstance(value, functools.partial):
        return [("function", value.func), *enumerate(value.args), *value.keywords.items()]
    if isinstance(value, dict):
        return list(value.items()) if len(value) <= _LARGEST else [("size", len(value))]
    if isinstance(value, list | tuple | deque):
        # Nothing is what a list of things to do, or of what was seen, is filled with: None tells nothing.
        known = [each for each in value if each is not None] if len(value) <= _LARGEST else [len(value)]
        return list(enumerate(known))
    if isinstance(value, set | frozenset):
        return [("set", frozenset(value))] if len(value) <= _LARGEST else [("size", len(value))]
    own = getattr(value, "__dict__", None)
    found = list(own.items()) if isinstance(own, dict) else []
    slots = (name for cls in type(value).__mro__ for name in _names(vars(cls).get("__slots__", ())))
    found += [(name, getattr(value, name)) for name in slots if name != "__dict__" and hasattr(value, name)]
    return found + _said_by(type(value)) if found or isinstance(own, dict) else None


def _inside_module(module: nn.Module) -> list[tuple[Any, Any]]:
    """What a module computes with, wherever it stands: the model's own are looked at besides, as such."""
    found: list[tuple[Any, Any]] = [*module.named_parameters(), *module.named_buffers()]
    for name, part in module.named_modules():
        found += [
            (f"{name}.{key}", value)
            for key, value in vars(part).items()
            if key not in _NOT_READ and isinstance(value, _PLAIN)
        ]
    return found


def _said_by(kind: type) -> list[tuple[Any, Any]]:
    """What a class says for all that are of it."""
    if _is_of_library(kind):
        return []
    given = (*_PLAIN, Tensor, np.ndarray, dict, list)
    return [
        (f"class.{name}", each) for name, each in vars(kind).items() if name[:2] != "__" and isinstance(each, given)
    ]


def _names(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)


def _globals_of(function: FunctionType) -> list[tuple[Any, Any]]:
    """What a function reads that is in no module of the model: variables of the file that it is written in."""
    around = function.__globals__
    found = ((name, around[name]) for name in _global_names(function.__code__) if name in around)
    return [(name, each) for name, each in found if not isinstance(each, ModuleType)]


@functools.lru_cache(maxsize=4096)
def _global_names(code: CodeType) -> tuple[str, ...]:
    own = [each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    inner = [name for each in code.co_consts if isinstance(each, CodeType) for name in _global_names(each)]
    return tuple(dict.fromkeys([*own, *inner]))


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
