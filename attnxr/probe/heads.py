"""What each head writes into the residual stream: its encoding through its own part of W_O."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr.probe.linear import matrix
from attnxr.probe.window import Window


def contributions(
    window: Window,
    encodings: NDArray[np.float32],
    layers: Sequence[int],
    heads: NDArray[np.integer],
    gate: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Head contributions ``W_O[h] (gate * z)[l, h, p]``, the bias left out: it belongs to no head.

    Parameters
    ----------
    window : Window
    encodings : float32 array (L, H, n, d)
    layers : sequence of int, length L
        Which of the layers with attention they are of.
    heads : int array (H,)
        Which heads they are of.
    gate : float32 array (L, H, n, d), optional
        What each number of them is multiplied by before W_O reads it, where it is; NaN where they are 0.

    Returns
    -------
    float32 array (L, H, n, D)
        Over all heads they sum to what the attention writes, less its bias.
    """
    size = window.layout.head_size
    written = []
    for layer, z in zip(layers, read_by_output(encodings, gate), strict=True):
        weight = output_map(window, layer)[0].astype(np.float32)  # (D, all heads · d)
        parts = weight.reshape(len(weight), -1, size)[:, heads]
        written.append(np.einsum("dhf,hnf->hnd", parts, z, optimize=True))
    return np.stack(written)


def read_by_output(encodings: NDArray, gate: NDArray | None) -> NDArray:
    """What W_O reads of head encodings: these, or each number of them times what it is multiplied by."""
    return encodings if gate is None else np.where(encodings == 0, 0, encodings * gate).astype(encodings.dtype)


def output_map(window: Window, layer: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """W_O of a layer, float64 (D, H · d), and its bias (D,); see `attnxr.probe.linear.matrix`."""
    like = torch.empty(0, device=window.model.device, dtype=window.model.dtype)
    what = f"W_O of layer {window.layout.layers[layer]} of {window.family}"
    width = window.layout.n_heads * window.layout.head_size
    weight, bias = matrix(window.layout.projections[layer], width, like, what, torch.float64)
    return weight.double().numpy(), bias.double().numpy()
