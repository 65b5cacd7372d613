"""Forward passes over one text in which some head encodings are replaced by other vectors.

What lies before the first replaced layer is the same in all of them, so it is computed once: blocks are passed by, and
the last of these puts out the stream that was kept. After attention each position is worked on alone (W_O, norms,
feed-forward), until the next layer's attention. So replacements at different positions are *packed*: one row of a batch
has all positions replaced as it goes through the replaced block, and of what leaves the block, position p is the stream
of the text with only position p replaced. That both hold of a model is not assumed but tried, at each layer and on the
text itself; where they do not, the text is run whole for each replacement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnxr.probe.interface import Stop, Watcher
from attnxr.probe.window import Window, typed

_TOLERANCE = 1e-4  # of a change of the last hidden state: what is tried changes it by about its own size
_ULPS = 8  # of the last hidden state, by which half precision may round it in another way

TRIED = 3
"""Positions of a text at which it is tried, for each layer, whether replacements may be packed."""

Changes = Mapping[int, tuple[Tensor, Tensor]]
"""By layer: vectors (rows, n, H, d), and a mask (rows, n, H) of where they take the place of the heads' own."""


class _Pass(Watcher):
    """A pass that may begin after some blocks and end before others, with some head encodings replaced.

    Parameters
    ----------
    window : Window
    causal : bool or None
    passed_by : int
        How many blocks to pass by.
    entering : tensor (rows, n, D), optional
        What the last of these puts out.
    changes : mapping
    until : int, optional
        After how many blocks to end.
    """

    def __init__(
        self,
        window: Window,
        causal: bool | None,
        passed_by: int = 0,
        entering: Tensor | None = None,
        changes: Changes | None = None,
        until: int | None = None,
    ):
        self.forced_causal = causal
        self.encodings: list[Tensor] = []
        self.left: list[Tensor] = []
        self._blocks = window.layout.blocks
        self._passed_by, self._entering, self._until = passed_by, entering, until
        self._entered = 0
        self._layer = sum(order < passed_by for order in window.layout.order) if self._blocks else 0
        self._changes = changes or {}

    def bypassed(self, block: nn.Module) -> bool:
        self._entered += 1
        return self._entered <= self._passed_by

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        if module not in self._blocks:
            return None
        stream = output if isinstance(output, Tensor) else output[0]
        instead = None
        if self._entering is not None and len(self.left) == self._passed_by - 1:
            stream = self._entering
            instead = stream if self._blocks[module] is None else (stream, *output[1:])
        self.left.append(stream)
        if len(self.left) == self._until:
            raise Stop
        return instead

    def attended(self, output: Tensor, weights: Tensor) -> Tensor | None:
        layer, self._layer = self._layer, self._layer + 1
        self.encodings.append(output)
        if layer not in self._changes:
            return None
        vectors, where = self._changes[layer]
        return torch.where(where[..., None], vectors.to(output), output)


@dataclass(frozen=True, eq=False)
class ReplacedText:
    """One text, run through the model once as it is, and then with head encodings replaced.

    Attributes
    ----------
    window : Window
    token_ids : int64 tensor (n,)
    types : sequence of int
        Token types, where the model is given any.
    causal : bool or None
        Whether tokens may look only backwards; None is the model's own way.
    encodings : list of tensors (n, H, d)
        What the heads of each layer write.
    hidden : tensor (n, D)
        The last hidden state, after the last norm.
    """

    window: Window
    token_ids: Tensor
    types: Sequence[int]
    causal: bool | None
    encodings: list[Tensor]
    hidden: Tensor
    _left: list[Tensor]

    @classmethod
    def of(cls, window: Window, token_ids: Sequence[int], types: Sequence[int], causal: bool | None) -> "ReplacedText":
        """Run a text as it is."""
        seen = _Pass(window, causal)
        ids = torch.tensor(token_ids)
        output = window.run(ids[None], seen, inputs=typed(types))
        return cls(window, ids, types, causal, [each[0] for each in seen.encodings], output[0][0], seen.left)

    def block_of(self, layer: int) -> int:
        """How many blocks run before that of a layer."""
        return self.window.layout.order[layer]

    def can_begin_at(self, layers: Sequence[int]) -> list[int]:
        """At which of some layers passes may begin, and replacements at positions be packed: as whole passes show.

        A pass that begins there must have the layer's heads write what they wrote: T5 hands the biases of its scores on
        from its first block. Then all heads are replaced by random vectors of the size of what is there: packed at all
        positions, and, in passes from the first layer to the last, at one position each. The latter are one batch.
        """
        if not self.window.layout.blocks:
            return []
        n = len(self.token_ids)
        places = torch.linspace(0, n - 1, TRIED).long().unique()
        noise = {layer: self._noise(layer) for layer in layers}
        begun = {layer: out for layer in layers if (out := self._begun_at(layer, noise[layer], places)) is not None}
        if not begun:
            return []
        rows = len(begun) * len(places)
        changes: dict[int, tuple[Tensor, Tensor]] = {}
        for number, layer in enumerate(begun):
            vectors = noise[layer]
            one = torch.zeros(rows, *vectors.shape[1:3], dtype=torch.bool, device=vectors.device)
            one[number * len(places) + torch.arange(len(places)), places] = True
            changes[layer] = vectors.expand(rows, -1, -1, -1), one
        own = self.hidden.to("cpu", torch.float64)
        whole = self.whole(changes, rows).to("cpu", torch.float64).unflatten(0, (len(begun), len(places)))
        least = _ULPS * torch.finfo(self.hidden.dtype).eps * float(own.norm())
        found = []
        for each, (layer, out) in zip(whole, begun.items(), strict=True):
            change, off = (away.flatten(1).norm(dim=1) for away in (own - each, out.to("cpu", torch.float64) - each))
            if (off <= _TOLERANCE * change + least).all():
                found.append(layer)
        return found

    def _begun_at(self, layer: int, vectors: Tensor, places: Tensor) -> Tensor | None:
        """Last hidden states (places, n, D) of what is tried at a layer; None where no pass begins there."""
        everywhere = torch.ones(vectors.shape[:3], dtype=torch.bool, device=vectors.device)
        try:
            seen = self._through_block(layer, vectors, everywhere)
            if not self._writes_the_same(layer, seen.encodings[0][0]):
                return None
            return self.from_block(layer, self.unpacked(layer, seen.left[-1][0, places], places))
        except KeyError:  # a later layer reads keys and values that one that was passed by would have kept (Gemma 4)
            return None

    def _noise(self, layer: int) -> Tensor:
        """Random vectors (1, n, H, d) of the size of what the heads of a layer write."""
        z = self.encodings[layer].float()
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(layer)).to(z.device)
        return (noise * z.square().mean().sqrt()).to(self.encodings[layer])[None]

    def _writes_the_same(self, layer: int, written: Tensor) -> bool:
        """Whether the heads of a layer wrote (n, H, d) in a pass that began there what they write in a whole one."""
        own = self.encodings[layer].to("cpu", torch.float64)
        off = (written.to("cpu", torch.float64) - own).norm()
        return bool(off <= max(_TOLERANCE, _ULPS * torch.finfo(self.hidden.dtype).eps) * own.norm())

    def after_block(self, layer: int, vectors: Tensor, where: Tensor) -> Tensor:
        """The stream (rows, n, D) that leaves the block of a layer with some encodings replaced; see `Changes`."""
        return self._through_block(layer, vectors, where).left[-1]

    def _through_block(self, layer: int, vectors: Tensor, where: Tensor) -> _Pass:
        before, rows = self.block_of(layer), len(vectors)
        entering = self._left[before - 1].expand(rows, -1, -1) if before else None
        seen = _Pass(self.window, self.causal, before, entering, {layer: (vectors, where)}, before + 1)
        self._run(rows, seen)
        return seen

    def unpacked(self, layer: int, changed: Tensor, places: Tensor) -> Tensor:
        """The stream (rows, n, D) that leaves a layer's block, in each row with one position's (rows, D) changed."""
        streams = self._left[self.block_of(layer)].repeat(len(changed), 1, 1)
        streams[torch.arange(len(changed)), places] = changed
        return streams

    def from_block(self, layer: int, streams: Tensor) -> Tensor:
        """Last hidden states (rows, n, D) that come of streams that leave the block of a layer."""
        return self._run(len(streams), _Pass(self.window, self.causal, self.block_of(layer) + 1, streams))

    def whole(self, changes: Changes, rows: int, begin: int | None = None) -> Tensor:
        """Last hidden states (rows, n, D) of passes with encodings replaced, at one layer or several.

        Parameters
        ----------
        changes : mapping
        rows : int
        begin : int, optional
            A layer to begin at, before which nothing is replaced; by default all layers run.
        """
        before = self.block_of(begin) if begin is not None else 0
        entering = self._left[before - 1].expand(rows, -1, -1) if before else None
        return self._run(rows, _Pass(self.window, self.causal, before, entering, changes))

    def _run(self, rows: int, seen: _Pass) -> Any:
        inputs = {name: values.expand(rows, -1) for name, values in typed(self.types).items()}
        output = self.window.run(self.token_ids.expand(rows, -1), seen, inputs=inputs)
        return None if output is None else output[0]
