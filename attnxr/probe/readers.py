"""What W_O really reads: what the heads wrote, or that with each number multiplied by something first.

z is what attention sums. Some models multiply it by a gate before W_O reads it (Qwen3-Next, AFMoE), or put a norm in
between (BitNet). Which it is, is tried: four texts run in one pass, all the same, and in place of z stand

1. what the heads wrote,
2. the same number everywhere, of which a gate and the weight of a norm can be read off,
3. random numbers,
4. twice these.

The first linear map whose input then differs from text to text is W_O. Behind it the four texts are made the same
again, so that the next layer is tried in the same pass. What W_O was handed is z times a *gate* if one and the same
gate explains all four; it is that behind a *norm* if, besides, each head at each position has one scale of its own,
which does not grow with z. Anything else is not known, and so is a W_O with a hook that changes what it is handed:
called by itself, it would make something else of that.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attnxr.probe.interface import Watcher, tensors
from attnxr.probe.linear import shape
from attnxr.probe.norms import tolerance

_TEXTS = 4
_SIZE = 1024.0  # of what stands in place of z: none of a norm's epsilon is left; exact, a power of 2


def find(run: Callable[[Tensor, Watcher], Any], token: int) -> list[nn.Module | None]:
    """Find for each call of attention its reader; None where that is handed neither z times a gate nor z normed.

    Parameters
    ----------
    run : callable
        ``run(token_ids, watcher)`` runs a model on a batch of token ids.
    token : int
        What to run it on, twice in each text.
    """
    seen = _Trial()
    run(torch.full((_TEXTS, 2), token), seen)
    return seen.found


class _Trial(Watcher):
    def __init__(self) -> None:
        self.found: list[nn.Module | None] = []
        self._z: Tensor | None = None
        self._reading: nn.Module | None = None
        self._given = torch.empty(0)

    def attended(self, output: Tensor, weights: Tensor) -> Tensor:
        noise = torch.randn(output.shape[1:], generator=torch.Generator().manual_seed(len(self.found)))
        noise = (_SIZE * noise).to(output)
        z = torch.stack([output[0], torch.full_like(output[0], _SIZE), noise, 2 * noise])
        self.found.append(None)
        self._z, self._reading = z, None
        return z

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if self._z is None or self._reading is not None or shape(module) is None:
            return
        given = next((each for each in tensors(args, kwargs) if each.is_floating_point()), None)
        if given is None or given.numel() % _TEXTS or _are_the_same(given):
            return
        self._reading, self._given = module, given

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if self._z is None or module is not self._reading or not isinstance(output, Tensor):
            return None
        z, self._z = self._z, None
        given, allowed = self._given, tolerance(z.dtype)
        whole = given.numel() == z.numel() and given.shape[-1] == z.shape[-2] * z.shape[-1]
        unhooked = whole and _near(module(given).double(), output.double(), allowed)
        if unhooked and _is_known(z.double(), given.reshape(z.shape).double(), allowed):
            self.found[-1] = module
        self._given = torch.empty(0)
        rows = output.reshape(_TEXTS, -1)
        return rows[:1].expand_as(rows).reshape(output.shape)


def _are_the_same(given: Tensor) -> bool:
    rows = given.reshape(_TEXTS, -1)
    return bool((rows == rows[:1]).all())


def _is_known(z: Tensor, read: Tensor, allowed: float) -> bool:
    """Whether `read` is z, both (4, n, H, d), with each number times a gate, or behind a norm."""
    if not read.isfinite().all():
        return False
    gated = z * (read[1] / _SIZE)
    if _near(read, gated, allowed):
        return True
    scale = (read * gated).sum(-1, keepdim=True) / (gated * gated).sum(-1, keepdim=True).clamp_min(1e-300)
    grows_not = _near(read[3], read[2], allowed)
    return grows_not and _near(read, gated * scale, allowed)


def _near(found: Tensor, true: Tensor, allowed: float) -> bool:
    """Whether all numbers are equal, but for rounding of each."""
    return bool(((found - true).abs() <= allowed * true.abs()).all())
