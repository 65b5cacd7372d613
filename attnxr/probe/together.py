"""Texts of one length in one forward pass, seen layer by layer: attention is never held of more than one layer."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attnxr.probe.capture import check_finite, check_mask, explained
from attnxr.probe.interface import Stop, Watcher
from attnxr.probe.window import Window

See = Callable[[int, Tensor], None]


class _Layers(Watcher):
    """Shows the attention of chosen layers and heads as they run, and keeps what these heads wrote."""

    def __init__(
        self,
        window: Window,
        causal: bool | None,
        layers: Sequence[int],
        heads: Sequence[int],
        see: See | None,
        out: NDArray[np.float32] | None,
    ):
        self.forced_causal = causal
        self.ahead: list[bool] = []
        self._window, self._layers, self._see, self._out = window, list(layers), see, out
        every = list(range(window.layout.n_heads))
        self._heads = slice(None) if list(heads) == every else torch.tensor(list(heads), device=window.model.device)
        self._seen = 0
        self._value = torch.empty(0)

    def attending(self, module: nn.Module | None, query: Tensor, key: Tensor, value: Tensor) -> None:
        self._value = value

    def attended(self, output: Tensor, weights: Tensor) -> None:
        check_finite(output, self._seen)
        layer, self._seen = self._seen, self._seen + 1
        # A learned sink takes its share of the weights as one more column.
        weights = weights[..., : output.shape[1]]
        if self.forced_causal is not None:
            self.ahead.append(bool(weights.triu(1).any()))
        if layer in self._layers:
            written = output.transpose(1, 2)
            weights = explained(self._window, layer, weights, written, self._value)
            index = self._layers.index(layer)
            if self._out is not None:
                self._out[index] = written[:, self._heads].transpose(0, 1).to("cpu", torch.float32).numpy()
            if self._see is not None:
                self._see(index, weights[:, self._heads].float())
        if layer == max(self._layers) and self.forced_causal is None:
            raise Stop


def run(
    window: Window,
    token_ids: NDArray[np.int64],
    inputs: dict[str, Tensor],
    *,
    causal: bool | None,
    layers: Sequence[int],
    heads: Sequence[int],
    see: See | None,
    vectors: bool,
) -> NDArray[np.float32] | None:
    """Run texts of one length through the model.

    Parameters
    ----------
    window : Window
    token_ids : int64 array (t, n)
    inputs : dict of int64 tensors (t, n)
        What else the model is given.
    causal : bool or None
        As for `attnxr.probe.capture.encode`.
    layers, heads : sequence of int
        Which to look at, ascending; layers by their numbers in the layout.
    see : callable, optional
        ``see(i, attention)`` is called for each of `layers` in order, with the attention that its heads paid: float32
        (t, heads, n, n), on the model's device, which is let go of when it returns.
    vectors : bool
        Whether to return what the heads wrote.

    Returns
    -------
    float32 array (layers, heads, t, n, d), or None
        For each text what `attnxr.probe.capture.encode` gives, but for rounding: sums over features are taken in
        another order when there are more texts.

    Raises
    ------
    UnsupportedModelError
        As `attnxr.probe.capture.encode`.
    """
    texts, n = token_ids.shape
    out = None
    if vectors:
        out = np.empty((len(layers), len(heads), texts, n, window.layout.head_size), np.float32)
    watcher = _Layers(window, causal, layers, heads, see, out)
    window.run(torch.from_numpy(token_ids), watcher, inputs=inputs)
    if causal is not None:
        check_mask(window, watcher.ahead, n, causal)
    return out
