"""What each head writes into the residual stream: its encoding through its own part of W_O."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr.probe.linear import probes, read_linear
from attnxr.probe.window import Window


def contributions(
    window: Window, encodings: NDArray[np.float32], layers: Sequence[int], heads: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Head contributions ``W_O[h] z[l, h, p]``, the bias left out: it belongs to no head.

    Parameters
    ----------
    window : Window
    encodings : float32 array (L, H, n, d)
    layers : sequence of int, length L
        Which of the layers with attention they are of.
    heads : int array (H,)
        Which heads they are of.

    Returns
    -------
    float32 array (L, H, n, D)
        Over all heads they sum to what the attention writes, less its bias.
    """
    size = window.layout.head_size
    written = []
    for layer, z in zip(layers, encodings, strict=True):
        matrix = output_map(window, layer)[0].astype(np.float32)  # (D, all heads · d)
        parts = matrix.reshape(len(matrix), -1, size)[:, heads]
        written.append(np.einsum("dhf,hnf->hnd", parts, z, optimize=True))
    return np.stack(written)


def output_map(window: Window, layer: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """W_O of a layer, float64 (D, H · d), and its bias (D,)."""
    given = probes(window.layout.n_heads * window.layout.head_size).to(window.model.device, window.model.dtype)
    with torch.no_grad():
        matrix, offset = read_linear(window.layout.projections[layer](given)[:, 0])
    return matrix.numpy(), offset.numpy()
