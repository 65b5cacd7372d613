"""The last hidden state of a text, taken apart into what was added to the residual stream on the way.

A block adds what its attention writes to its input, then what its feed-forward writes. Families differ in where their
norms stand, and some scale what they add::

    out = x + c·A + c'·F                     norms before (GPT-2, Llama), or both at once (GPT-NeoX, Phi)
    out = N'(N(x + c·A) + c'·F)              norms after each addition (BERT, RoBERTa)

with A what W_O puts out, or a norm of that (Gemma 2, OLMo 2), and F what a module of the block puts out. No family is
known by name: which of these a block is, with which modules, is found by looking at the text that it just read, and
holds there to rounding; a block that is none of them is refused. With the scale of every norm held where the text has
it, each part goes its own way to the last hidden state, and there they add up. So does what a gate or a norm before W_O
multiplies the head encodings by: it is held where the text has it. A block whose attention is not looked into (linear
attention, a layer of another shape) adds one part, if it adds to the stream as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnxr.errors import UnsupportedModelError
from attnxr.probe.heads import output_map
from attnxr.probe.interface import Watcher, stream, tensors
from attnxr.probe.norms import FrozenNorm, frozen, tolerance
from attnxr.probe.window import Window, typed


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a module that made a vector for each position: what it was handed, if that is one too, and made."""

    module: nn.Module
    given: Tensor | None
    made: Tensor


@dataclass(eq=False)
class _Run:
    """One run of a block."""

    block: nn.Module
    entered: Tensor
    first: int  # layers with attention that ran before it
    encoding: Tensor | None = None
    read: Tensor | None = None
    written: Tensor | None = None
    left: Tensor | None = None
    calls: list[_Call] = field(default_factory=list)


class _Pass(Watcher):
    """Keeps what every block was handed, added and put out, and what ran after the last."""

    def __init__(self, window: Window, causal: bool | None):
        self.forced_causal = causal
        self.runs: list[_Run] = []
        self.after_blocks: list[_Call] = []
        self._layout = window.layout
        self._running: _Run | None = None
        self._layers = 0

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if module in self._layout.blocks and self._running is None:
            self._running = _Run(module, stream(args, kwargs), self._layers)
            self.runs.append(self._running)
            self.after_blocks = []
        run = self._running
        if run is not None and run.encoding is not None and run.read is None and module is self._projection:
            run.read = stream(args, kwargs)

    @property
    def _projection(self) -> nn.Module:
        """The output projection of the layer whose attention was seen last."""
        return self._layout.projections[self._layers - 1]

    def attended(self, output: Tensor, weights: Tensor) -> None:
        self._layers += 1
        if self._running is not None:
            self._running.encoding = output[0]

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        run = self._running
        made = output[0] if isinstance(output, (tuple, list)) and output else output
        if run is not None and module is run.block:
            run.left, self._running = made, None
            return
        if not self.runs or not isinstance(made, Tensor) or not made.is_floating_point():
            return
        entered = self.runs[-1].entered
        attended = run is not None and run.written is None and self._layers > run.first
        if run is not None and attended and module is self._projection:
            run.written = made
        if made.numel() == entered.numel() and made.shape[-1] == entered.shape[-1]:
            given = next((each for each in tensors(args, kwargs) if each.shape == made.shape), None)
            (self.after_blocks if run is None else run.calls).append(_Call(module, given, made))


@dataclass(frozen=True, eq=False)
class _Layer:
    """What one block did to the stream.

    Attributes
    ----------
    encoding, read : float64 array (n, H, d)
        z, and what of it W_O reads.
    share : float
        c, what the attention's writing is multiplied by.
    branch, middle, last : FrozenNorm or None
        The norm of what the attention wrote, those after it was added and after the feed-forward was.
    feed_forward : float64 array (n, D)
        c'·F.
    """

    encoding: NDArray[np.float64]
    read: NDArray[np.float64]
    share: float
    branch: FrozenNorm | None
    middle: FrozenNorm | None
    feed_forward: NDArray[np.float64]
    last: FrozenNorm | None


@dataclass(frozen=True, eq=False)
class Parts:
    """What some positions' last hidden states are the sum of.

    Attributes
    ----------
    embedding : float64 array (n, D)
        What entered the first block.
    heads : float64 array (L, H, n, D)
    feed_forward : float64 array (L, n, D)
    bias : float64 array (n, D)
        Those of W_O and of the norms.
    others : float64 array (n, D)
        Blocks whose attention is not looked into.
    """

    embedding: NDArray[np.float64]
    heads: NDArray[np.float64]
    feed_forward: NDArray[np.float64]
    bias: NDArray[np.float64]
    others: NDArray[np.float64]

    def through(self, norm: FrozenNorm | None, here: NDArray[np.intp]) -> "Parts":
        """The same behind a norm."""
        if norm is None:
            return self
        parts = (self.embedding, self.heads, self.feed_forward, self.bias, self.others)
        embedding, heads, feed_forward, bias, others = (norm.of(part, here) for part in parts)
        return Parts(embedding, heads, feed_forward, bias + norm.bias, others)


class Additions:
    """What was added to the stream of a text, and the norms that it goes through up to the last hidden state.

    Parameters
    ----------
    window : Window
    token_ids : list of int, length n
    types : list of int
        Token types, where the model is given any.
    causal : bool or None
        Whether tokens look only backwards; None is the model's own way.

    Attributes
    ----------
    hidden : tensor (n, D)
        The last hidden state, as the model made it.

    Raises
    ------
    UnsupportedModelError
        If a block is none of those that this file knows.
    """

    def __init__(self, window: Window, token_ids: Sequence[int], types: Sequence[int], causal: bool | None):
        self._window = window
        if not window.layout.blocks:
            raise UnsupportedModelError(
                f"{window.family} has layers that are not one block each, on one stream, so that its logits are no sum "
                "of what they add to it. Expected a model such as GPT-2, Llama or RoBERTa."
            )
        seen = _Pass(window, causal)
        output = window.run(torch.tensor([list(token_ids)]), seen, inputs=typed(types))
        self.hidden: Tensor = output[0][0]
        self._allowed = tolerance(window.model.dtype)
        self._entered = _plain(seen.runs[0].entered)
        self._added = [self._taken_apart(run) for run in seen.runs]
        self._layers = [each for each in self._added if isinstance(each, _Layer)]
        self._maps = [output_map(window, layer) for layer in range(len(self._layers))]
        self.last_norm = self._last_norm(seen)

    @property
    def encodings(self) -> NDArray[np.float64]:
        """Head encodings of the text: float64 (L, H, n, d)."""
        return np.stack([layer.encoding.transpose(1, 0, 2) for layer in self._layers])

    def norms_after(self, layer: int) -> list[FrozenNorm]:
        """The norms that what the heads of a layer write goes through, in order."""
        first, *others = self._layers[layer:]
        found = [first.branch, first.middle, first.last]
        found += [norm for each in others for norm in (each.middle, each.last)]
        return [norm for norm in (*found, self.last_norm) if norm is not None]

    def parts(self, here: NDArray[np.intp]) -> Parts:
        """Take the last hidden states of some positions apart."""
        embedding = self._entered[here]
        n, width = embedding.shape
        heads = np.zeros((len(self._layers), self._window.layout.n_heads, n, width))
        feed_forward, bias, others = np.zeros((len(self._layers), n, width)), np.zeros((n, width)), np.zeros((n, width))
        i = -1
        for layer in self._added:
            if not isinstance(layer, _Layer):
                others = others + layer[here]
                continue
            i += 1
            matrix, offset = self._maps[i]
            read = layer.read[here]
            of_heads = matrix.reshape(width, *read.shape[1:])
            heads[i] = np.einsum("dhf,nhf->hnd", of_heads, read, optimize=True)
            nothing = np.zeros_like(embedding)
            of_layer = Parts(nothing, heads[i : i + 1], feed_forward[:0], np.tile(offset, (n, 1)), nothing)
            of_layer = of_layer.through(layer.branch, here)
            heads[i] = layer.share * of_layer.heads[0]
            bias = bias + layer.share * of_layer.bias
            so_far = Parts(embedding, heads[: i + 1], feed_forward[:i], bias, others).through(layer.middle, here)
            heads[: i + 1], feed_forward[:i] = so_far.heads, so_far.feed_forward
            feed_forward[i] = layer.feed_forward[here]
            so_far = Parts(so_far.embedding, so_far.heads, feed_forward[: i + 1], so_far.bias, so_far.others)
            so_far = so_far.through(layer.last, here)
            embedding, bias, others = so_far.embedding, so_far.bias, so_far.others
            heads[: i + 1], feed_forward[: i + 1] = so_far.heads, so_far.feed_forward
        return Parts(embedding, heads, feed_forward, bias, others).through(self.last_norm, here)

    def _taken_apart(self, run: _Run) -> _Layer | NDArray[np.float64]:
        """What a block did to the stream; of one whose attention is not looked into, what it added (n, D)."""
        window = self._window
        number = run.first
        assert run.left is not None
        x, left = _plain(run.entered), _plain(run.left)
        if run.encoding is None:
            return self._added_by(run, x, left)
        if run.written is None or run.read is None:
            raise UnsupportedModelError(
                f"{window.family} has a block whose attention writes outside of it, so that its logits are no sum of "
                "parts that are known. Expected attention that writes in each block."
            )
        norms = _Norms()
        calls = run.calls
        written = _plain(run.written)
        encoding = run.encoding.to("cpu", torch.float64).numpy()
        z = encoding, run.read.reshape(encoding.shape).to("cpu", torch.float64).numpy()
        if written.shape == x.shape:
            branches: list[tuple[FrozenNorm | None, NDArray[np.float64]]] = [(None, written)]
            branches += [(norm, _plain(made)) for given, made, norm in norms.of(calls) if _same(given, run.written)]
            for branch, attention in reversed(branches):
                if fit := self._fit(left - x, [attention], calls, [x, left]):
                    (share,), feed_forward = fit
                    return _Layer(*z, share, branch, None, feed_forward, None)
            for branch, attention in branches:
                for given, made, middle in norms.of(calls):
                    between = _plain(made)
                    if (alone := self._fit(_plain(given) - x, [attention], [], [x])) is None:
                        continue
                    for other, most, last in norms.of(calls):
                        if last is middle or not _same(most, run.left):
                            continue
                        if fit := self._fit(_plain(other) - between, [], calls, [between]):
                            return _Layer(*z, alone[0][0], branch, middle, fit[1], last)
        raise UnsupportedModelError(
            f"Block {window.layout.layers[number]} of {window.family} is no sum of its input, what its attention and "
            "what its feed-forward write, with norms before or after each addition: it does something else with its "
            "stream, so that the parts of its logits are not known. No number would be right."
        )

    def _added_by(self, run: _Run, x: NDArray[np.float64], left: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a block added to the stream (n, D), all in one, where that is a sum of what two of its modules made."""
        # What enters and what leaves differ by what was added, which a norm of the whole stream would hide.
        calls = [call for call in run.calls if not _same(call.made, run.entered) and not _same(call.made, run.left)]
        if any(self._fit(left - x, [_plain(call.made)], calls, [x, left]) for call in reversed(calls)):
            return left - x
        raise UnsupportedModelError(
            f"{self._window.family} has a block whose attention is not looked into, such as linear attention or a "
            "layer of another shape, and that does more than to add what two of its modules make to its stream, so "
            "that its logits are no sum of parts that are known. No number would be right."
        )

    def _fit(
        self,
        target: NDArray[np.float64],
        given: list[NDArray[np.float64]],
        calls: list[_Call],
        beside: list[NDArray[np.float64]],
    ) -> tuple[list[float], NDArray[np.float64]] | None:
        """Coefficients of given vectors, and a multiple of what one of the calls made, that add up to the target.

        To rounding, at each position, as sums of vectors as long as those `beside`. None where none does.
        """
        sizes = np.maximum(sum(np.linalg.norm(each, axis=1) for each in beside), 1e-300)[:, None]
        best: tuple[float, list[float], NDArray[np.float64]] | None = None
        for other in (None, *(_plain(call.made) for call in calls)):
            columns = given if other is None else [*given, other]
            if columns:
                matrix = np.stack([(each / sizes).ravel() for each in columns])
                # No BLAS: its threads would take longer to begin than such a product takes.
                squares = np.einsum("in,jn->ij", matrix, matrix)
                found = np.linalg.lstsq(squares, np.einsum("in,n->i", matrix, (target / sizes).ravel()))[0]
                found = np.where(np.abs(found - 1) <= self._allowed, 1.0, found)
            else:
                found = np.zeros(0)
            made = sum((c * each for c, each in zip(found, columns, strict=True)), np.zeros_like(target))
            error = float((np.linalg.norm(target - made, axis=1) / sizes[:, 0]).max())
            if error <= self._allowed and (best is None or error < best[0]):
                shares = found[: len(given)].tolist()
                best = error, shares, np.zeros_like(target) if other is None else found[-1] * other
                if other is None:
                    break
        return None if best is None else best[1:]

    def _last_norm(self, seen: _Pass) -> FrozenNorm | None:
        left = seen.runs[-1].left
        if _same(left, self.hidden):
            return None
        for given, made, norm in _Norms().of(seen.after_blocks):
            if _same(given, left) and _same(made, self.hidden):
                return norm
        raise UnsupportedModelError(
            f"{self._window.family} does more than a norm between its last block and its last hidden state, so that "
            "the parts of its logits are not known. No number would be right."
        )


class _Norms:
    """Which of some calls were of norms; each is looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, FrozenNorm | None] = {}

    def of(self, calls: list[_Call]) -> Iterator[tuple[Tensor, Tensor, FrozenNorm]]:
        """What each norm among them was handed and made, and the norm."""
        for call in calls:
            if call.given is None:
                continue
            if id(call) not in self._known:
                self._known[id(call)] = frozen(call.module, call.given, call.made)
            norm = self._known[id(call)]
            if norm is not None:
                yield call.given, call.made, norm


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.numel() != other.numel():
        return False
    return torch.equal(one.reshape(-1), other.reshape(-1))


def _plain(rows: Tensor) -> NDArray[np.float64]:
    return rows.detach().reshape(-1, rows.shape[-1]).to("cpu", torch.float64).numpy()
