"""The second door, for models that do not use transformers' attention interface: their torch functions are watched.

A product of two activations makes *scores*. What only changes them (a scale, a bias, a mask, a cast, a reshape) keeps
them scores. A softmax makes *weights* of scores, and what only passes these on (a dropout, a cast, a reshape, a head's
mask) keeps them weights. The product whose first operand they are gives the head encodings, and its second operand is
the values; the operands of the product that the scores come from are queries and keys, as they are multiplied: some
models scale one of the two before that. Nothing is asked of a family, and nothing said here is believed: what a
`Watcher` is shown has to pass the same checks as what comes through the first door.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from attnxr.errors import UnsupportedModelError
from attnxr.probe import masks, products
from attnxr.probe.interface import Watcher
from attnxr.probe.products import Product, by_head


@dataclass(frozen=True, eq=False)
class _Mark:
    """What a tensor is, and the product of queries and keys that it comes from; None where these are several."""

    is_weights: bool
    product: Product | None


class Seeing(TorchFunctionMode):
    """Shows a watcher the attention of a forward pass. It belongs to one call and thread, and changes no module.

    Parameters
    ----------
    watcher : Watcher
    texts, tokens : int
        Of the batch that runs.
    keys : collection of int
        How many keys an attention may have: as many as there are tokens, or as an encoder's text has.
    """

    def __init__(self, watcher: Watcher, texts: int, tokens: int, keys: Collection[int]):
        super().__init__()
        self._watcher, self._texts, self._tokens, self._keys = watcher, texts, tokens, keys
        # By id, beside the tensor itself, so that the id stays its own. Forgotten after each layer's attention.
        self._marks: dict[int, tuple[Tensor, _Mark]] = {}

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        see = _SEEN.get(func)
        return func(*args, **(kwargs or {})) if see is None else see(self, func, args, kwargs or {})

    def _mark(self, made: Any, mark: _Mark) -> Any:
        if isinstance(made, Tensor):
            self._marks[id(made)] = made, mark
        return made

    def _marks_of(self, given: Any) -> Iterator[_Mark]:
        for each in given:
            if isinstance(each, Tensor) and id(each) in self._marks:
                yield self._marks[id(each)][1]

    def multiplied(self, func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """A matrix product: of weights and values, or maybe of queries and keys."""
        product = products.read(func, args, kwargs)
        if product is None:
            return func(*args, **kwargs)
        mark = next(self._marks_of(product.given[:1]), None)
        if mark is None or not mark.is_weights:
            return self._mark(func(*args, **kwargs), _Mark(False, product))
        self._marks.clear()
        if mark.product is None:
            raise UnsupportedModelError(
                "The scores of an attention of the model are a sum of several products, so that its queries and keys "
                "cannot be told. Expected one product of these before each softmax."
            )
        scored = mark.product
        self._show(scored.first, scored.second.transpose(-1, -2), product.second)
        made = func(*args, **kwargs)
        laid = product.lay(made)
        instead = self._watcher.attended(self._laid(laid).transpose(1, 2), self._laid(product.first))
        return made if instead is None else product.put(instead.transpose(1, 2).reshape(laid.shape))

    def fused(self, func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """A call of scaled_dot_product_attention, whose weights it keeps to itself: they are made here once more."""
        names = "query", "key", "value", "attn_mask", "dropout_p", "is_causal"
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        query, key, value = (given[name] for name in names[:3])
        self._show(query, key, value)
        causal, ahead = self._watcher.forced_causal, masks.ahead(self._tokens, query.device)
        if causal is not None:
            given["attn_mask"] = _told(given.get("attn_mask"), causal, ahead)
            given["is_causal"] = False
        scores = _plain(query) @ _plain(key).repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3).mT
        scores = scores * (query.shape[-1] ** -0.5 if given.get("scale") is None else given["scale"])
        mask = given.get("attn_mask")
        if mask is not None and mask.dtype != torch.bool:
            scores = scores + mask
        elif mask is not None or given.get("is_causal"):
            scores = scores.masked_fill(ahead if mask is None else ~mask, -torch.inf)
        made = func(**given)
        instead = self._watcher.attended(self._laid(made).transpose(1, 2), self._laid(scores.softmax(dim=-1)))
        return made if instead is None else instead.transpose(1, 2).reshape(made.shape)

    def normalised(self, func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """A softmax: of scores, over the tokens that they are of, or of anything else."""
        given: Any = args[0] if args else kwargs.get("input")
        mark = next(self._marks_of([given]), None)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        if mark is None or mark.is_weights or dim not in (-1, given.ndim - 1):
            return func(*args, **kwargs)
        if self._watcher.forced_causal and masks.is_square(given, self._tokens):
            least = torch.finfo(given.dtype).min
            given = given.masked_fill(masks.ahead(self._tokens, given.device), least)
        made = func(given, *args[1:], **{name: each for name, each in kwargs.items() if name != "input"})
        return self._mark(made, _Mark(True, mark.product))

    def passed_on(self, func: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        """What makes scores of scores; some of it makes weights of weights."""
        found = list(self._marks_of((*args, *kwargs.values())))
        if not found:
            return func(*args, **kwargs)
        if any(mark.is_weights for mark in found):
            kept = len(found) == 1 and func in _OF_WEIGHTS
            made = func(*args, **kwargs)
            return self._mark(made, found[0]) if kept else made
        if self._watcher.forced_causal is False:
            args = self._looking_both_ways(func, args)
        one = all(mark.product is found[0].product for mark in found)
        return self._mark(func(*args, **kwargs), found[0] if one else _Mark(False, None))

    def _looking_both_ways(self, func: Callable, args: tuple) -> tuple:
        """The arguments of what is done to scores, with a mask among them that hides nothing only one way."""
        out = list(args)
        for i, each in enumerate(args):
            if not masks.is_square(each, self._tokens) or next(self._marks_of([each]), None):
                continue
            if func in _ADDED and each.is_floating_point():
                out[i] = masks.added_both_ways(each)
            elif func in _FILLED and each.dtype == torch.bool:
                out[i] = ~masks.both_ways(~each)
            elif func in _CHOSEN and each.dtype == torch.bool:
                # Where it is true the scores are taken, or else what stands in their place.
                of_scores = func is Tensor.where or bool(next(self._marks_of(args[1:2]), None))
                out[i] = masks.both_ways(each) if of_scores else ~masks.both_ways(~each)
        return tuple(out)

    def _show(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        query, key, value = self._laid(query), self._laid(key), self._laid(value)
        keys = key.shape[2]
        if query.shape[2] != self._tokens or value.shape[2] != keys or keys not in self._keys:
            raise UnsupportedModelError(
                f"An attention of the model has {query.shape[2]} queries, {key.shape[2]} keys and {value.shape[2]} "
                f"values for a text of {self._tokens} tokens, as where it is sparse by blocks, pools tokens or adds "
                "some of its own. Expected one of each for each token."
            )
        most = max(key.shape[1], value.shape[1])  # a product repeats the only head of one of the two
        key, value = (each.repeat_interleave(most // each.shape[1], dim=1) for each in (key, value))
        self._watcher.attending(None, query, key, value)

    def _laid(self, matrices: Tensor) -> Tensor:
        found = by_head(matrices, self._texts)
        if found is None:
            raise UnsupportedModelError(
                f"An attention of the model works on arrays of shape {tuple(matrices.shape)} for {self._texts} texts "
                f"of {self._tokens} tokens each. Expected a matrix for each text and head."
            )
        return found


def _plain(given: Tensor) -> Tensor:
    """In the precision that fused kernels compute in."""
    return given.float() if given.dtype.itemsize < 4 else given


def _told(mask: Tensor | None, causal: bool, ahead: Tensor) -> Tensor | None:
    """The mask for a fused call that is to look backwards, or both ways."""
    if mask is None:
        return ~ahead if causal else None
    if mask.dtype == torch.bool:
        return mask & ~ahead if causal else masks.both_ways(mask)
    return mask.masked_fill(ahead, -torch.inf) if causal else masks.added_both_ways(mask)


def _called(names: str) -> list[Callable]:
    """All functions of torch that have one of these names."""
    owners = torch, Tensor, functional, torch.special
    return [getattr(owner, name) for name in names.split() for owner in owners if hasattr(owner, name)]


_ADDED = _called("add add_ __add__ __radd__ __iadd__")
_FILLED = _called("masked_fill masked_fill_")
_CHOSEN = _called("where")
_SHAPED = _called("view view_as reshape reshape_as flatten unflatten squeeze unsqueeze expand expand_as __getitem__")
_CAST = _called("to type type_as float double half bfloat16 contiguous clone detach nan_to_num dropout dropout_")
_SCALED = _called(
    "mul mul_ multiply __mul__ __rmul__ __imul__ div div_ divide true_divide __truediv__ __itruediv__ masked_fill where"
)
_BENT = _called("sub sub_ __sub__ __isub__ max maximum clamp clamp_ clamp_min clip tanh tanh_")
_OF_WEIGHTS = {*_SHAPED, *_CAST, *_SCALED, *_FILLED, *_CHOSEN}
_SEEN: dict[Any, Callable] = {
    **dict.fromkeys([*_OF_WEIGHTS, *_ADDED, *_BENT], Seeing.passed_on),
    **dict.fromkeys(_called("softmax"), Seeing.normalised),
    **dict.fromkeys(products.FUNCTIONS, Seeing.multiplied),
    functional.scaled_dot_product_attention: Seeing.fused,
}
