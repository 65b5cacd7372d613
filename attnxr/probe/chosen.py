"""Some of a model's layers: a watcher that is shown the attention of these alone.

Layers can differ in the number and the size of their heads, so that they do not fit one array. A model is then looked
into at layers of one shape, and nothing that watches it sees the others.
"""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from attnxr.probe.interface import Watcher


class Chosen(Watcher):
    """Shows another watcher all of a forward pass but the attention of layers that were not chosen.

    Parameters
    ----------
    watcher : Watcher
    blocks : collection of nn.Module
        All blocks of the model, each of which has at most one attention; none where that is not known.
    shown : collection of int
        Which runs of blocks have the attention of the chosen layers, those that are passed by counted too; or, without
        blocks, which calls of attention.
    """

    def __init__(self, watcher: Watcher, blocks: Collection[nn.Module], shown: Collection[int]):
        self.forced_causal = watcher.forced_causal
        self._watcher, self._blocks, self._shown = watcher, blocks, shown
        self._number = -1  # of the block, or the call of attention, that runs
        self._is_shown = False

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if module in self._blocks:
            self._number += 1
        self._watcher.before(module, args, kwargs)

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        return self._watcher.after(module, args, kwargs, output)

    def bypassed(self, block: nn.Module) -> bool:
        return self._watcher.bypassed(block)

    def attending(self, module: nn.Module | None, query: Tensor, key: Tensor, value: Tensor) -> None:
        if not self._blocks:
            self._number += 1
        self._is_shown = self._number in self._shown
        if self._is_shown:
            self._watcher.attending(module, query, key, value)

    def attended(self, output: Tensor, weights: Tensor) -> Tensor | None:
        return self._watcher.attended(output, weights) if self._is_shown else None
