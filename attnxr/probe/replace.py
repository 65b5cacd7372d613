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
        stream = output[0] if isinstance(output, tuple) else output
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

    def can_begin_at(self, layer: int) -> bool:
        """Whether passes may begin at a layer, and replacements at its positions be packed: as whole passes show.

        All heads are replaced by random vectors of the size of what is there: packed at all positions, and, in passes
        from the first layer to the last, at one position each.
        """
        if not self.window.layout.blocks:
            return False
        z = self.encodings[layer].float()
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(layer)).to(z.device)
        vectors = (noise * z.square().mean().sqrt()).to(self.encodings[layer])[None]
        everywhere = torch.ones(vectors.shape[:3], dtype=torch.bool, device=vectors.device)
        places = torch.tensor(sorted({0, len(self.token_ids) // 2, len(self.token_ids) - 1}))
        packed = self.after_block(layer, vectors, everywhere)[0]
        begun = self.from_block(layer, self.unpacked(layer, packed[places], places))
        one = torch.zeros(len(places), *vectors.shape[1:3], dtype=torch.bool, device=vectors.device)
        one[torch.arange(len(places)), places] = True
        whole = self.whole({layer: (vectors.expand(len(places), -1, -1, -1), one)}, len(places))
        own, whole, begun = (each.to("cpu", torch.float64) for each in (self.hidden, whole, begun))
        change, off = ((each - whole).flatten(1).norm(dim=1) for each in (own, begun))
        least = _ULPS * torch.finfo(self.hidden.dtype).eps * float(own.norm())
        return bool((off <= _TOLERANCE * change + least).all())

    def after_block(self, layer: int, vectors: Tensor, where: Tensor) -> Tensor:
        """The stream (rows, n, D) that leaves the block of a layer with some encodings replaced; see `Changes`."""
        before, rows = self.block_of(layer), len(vectors)
        entering = self._left[before - 1].expand(rows, -1, -1) if before else None
        seen = _Pass(self.window, self.causal, before, entering, {layer: (vectors, where)}, before + 1)
        self._run(rows, seen)
        return seen.left[before]

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
