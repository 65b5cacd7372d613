"""What each head writes into the residual stream: its encoding through its own part of W_O."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr.window import Window

_UNIT = 1024.0  # keeps W's bits clear of a large bias; exact, a power of 2


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
        matrix = output_matrix(window, layer)  # (D, all heads · d)
        parts = matrix.reshape(len(matrix), -1, size)[:, heads]
        written.append(np.einsum("dhf,hnf->hnd", parts, z, optimize=True))
    return np.stack(written)


def output_matrix(window: Window, layer: int) -> NDArray[np.float32]:
    """W_O of a layer, read off what it makes of unit vectors: float32 (D, H · d)."""
    projection = window.layout.projections[layer]
    width = window.layout.n_heads * window.layout.head_size
    probes = torch.cat([torch.zeros(1, width), _UNIT * torch.eye(width)])[:, None]
    with torch.no_grad():
        out = projection(probes.to(window.model.device, window.model.dtype))[:, 0].to("cpu", torch.float64)
    return ((out[1:] - out[0]) / _UNIT).T.float().numpy()
