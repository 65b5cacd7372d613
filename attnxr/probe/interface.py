"""The one door into any model: an attention and a mask function that transformers calls by name.

``transformers`` hands query, key and value of every layer of every model that uses its attention interface to one
function, chosen by name. attnxr registers such a function once. It computes nothing of its own: it calls the
family's own eager attention, and shows what went in and came out to the `Watcher` of the call that is running, which
may put something else in its place. A mask
function of the same name makes the family's own mask, or makes it look one way or both ways where that was asked.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import eager_mask

from attnxr.errors import UnsupportedModelError

NAME = "attnxr"
_AUTOCAST = ("cpu", "cuda", "mps", "xpu")


class _Eager(str):
    """The name, in a form that also counts as "eager".

    Some families ask whether the implementation is "eager" before they do what only their eager attention needs, such
    as masking all but the keys that a sparse attention picked. What is registered here is their eager attention.
    """

    def __eq__(self, other: object) -> bool:
        return other == "eager" or str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


def select(hf_model: PreTrainedModel, as_eager: bool) -> None:
    """Have a model call what is registered here, under a name that counts as "eager" or not."""
    hf_model.set_attn_implementation(NAME)
    for module in hf_model.modules():
        config = getattr(module, "config", None)
        if isinstance(config, PreTrainedConfig) and config._attn_implementation == NAME:
            config._attn_implementation_internal = _Eager(NAME) if as_eager else NAME


class Watcher:
    """What a forward pass shows to the call that started it. Subclasses override what they want to see.

    Attributes
    ----------
    forced_causal : bool or None
        Whether the pass is to look only backwards, or both ways; None leaves the model's own mask as it is.
    """

    forced_causal: bool | None = None

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        """See a module's inputs before it runs."""

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """See a module's output; what is returned, if anything, takes its place."""

    def bypassed(self, block: nn.Module) -> bool:
        """Say whether a block is to let its input through unchanged, without running."""
        return False

    def attending(self, module: nn.Module | None, query: Tensor, key: Tensor, value: Tensor) -> None:
        """See what an attention layer is about to work on (batch, heads, tokens, features).

        The module is None where the layer is seen through the second door, see `attnxr.probe.seen`.
        """

    def attended(self, output: Tensor, weights: Tensor) -> Tensor | None:
        """See its output (batch, tokens, heads, features) and weights (batch, heads, tokens, tokens).

        What is returned, if anything, takes the output's place.
        """
        return None


class Stop(Exception):  # noqa: N818 - not an error
    """Raised by a watcher that has seen enough, to end the forward pass there."""


_watcher: ContextVar[Watcher | None] = ContextVar("attnxr_watcher", default=None)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Show `watcher` the forward passes of this thread, until it raises `Stop` or the block ends."""
    token = _watcher.set(watcher)
    try:
        yield
    except Stop:
        pass
    finally:
        _watcher.reset(token)


@contextmanager
def on_cpu() -> Iterator[None]:
    """Make new tensors on the CPU, whatever the caller's default device is, and of the precision that is asked for.

    Under the caller's ``torch.autocast`` some products would be of half precision, and others not, so that a text and
    the vocabulary it is compared with would be rounded in different ways: it is off in here.
    """
    with ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
    """Forward pre-hook of every module that is looked into."""
    if watcher := _watcher.get():
        watcher.before(module, args, kwargs)


def after(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
    """Forward hook of every module that is looked into."""
    watcher = _watcher.get()
    return watcher.after(module, args, kwargs, output) if watcher else None


def make_bypassable(block: nn.Module, outputs: int | None) -> None:
    """Let a block be passed by when the watcher says so.

    Parameters
    ----------
    block : nn.Module
        Its first floating-point argument is the stream that runs through it.
    outputs : int or None
        Length of the tuple it returns, of which the stream is the first; None where it returns a tensor.
    """
    forward = block.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        watcher = _watcher.get()
        if watcher is None or not watcher.bypassed(block):
            return forward(*args, **kwargs)
        unchanged = stream(args, kwargs)
        return unchanged if outputs is None else (unchanged, *[None] * (outputs - 1))

    block.forward = run


def stream(args: tuple, kwargs: dict) -> Tensor:
    """The stream among a block's arguments: the first that is a tensor of floating-point numbers."""
    return next(tensor for tensor in tensors(args, kwargs) if tensor.is_floating_point())


def tensors(args: tuple, kwargs: dict) -> list[Tensor]:
    """The tensors among a module's arguments."""
    return [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]


def _own_attention(module: nn.Module) -> Callable:
    """The eager attention function of the module's own family."""
    for cls in type(module).__mro__:
        function = getattr(sys.modules.get(cls.__module__), "eager_attention_forward", None)
        if function is not None:
            return function
    raise UnsupportedModelError(
        f"{type(module).__name__} has no eager attention function beside it, so there is no reference for what it "
        "should compute. Expected a family of transformers whose file defines `eager_attention_forward`."
    )


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    watcher = _watcher.get() or Watcher()
    watcher.attending(module, query, key, value)
    output, weights = _own_attention(module)(module, query, key, value, attention_mask, **kwargs)
    instead = watcher.attended(output, weights)
    return output if instead is None else instead, weights


def _mask(*, mask_function: Callable, allow_is_bidirectional_skip: bool = False, **kwargs: Any) -> Tensor | None:
    """The family's own mask; padding, which is no part of `mask_function`, stays masked whatever is asked."""
    watcher = _watcher.get()
    if watcher is not None and watcher.forced_causal is not None:
        own, allow_is_bidirectional_skip = mask_function, False
        if watcher.forced_causal:

            def mask_function(batch: Any, head: Any, query: Any, key: Any) -> Any:
                return own(batch, head, query, key) & (key <= query)

        else:
            # Tokens that see each other one way see each other both ways: a window keeps its reach.
            def mask_function(batch: Any, head: Any, query: Any, key: Any) -> Any:
                return own(batch, head, query, key) | own(batch, head, key, query)

    return eager_mask(mask_function=mask_function, allow_is_bidirectional_skip=allow_is_bidirectional_skip, **kwargs)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
