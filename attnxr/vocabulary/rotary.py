"""How far a rotary model turns its keys and queries at each position, read off the model.

A rotary embedding (Su et al., RoFormer, 2021, arXiv 2104.09864) pairs the features of a head, and turns each pair's
plane by an angle that grows with the position. Which features are paired, which are left alone and by what angles is
different from family to family, and is not asked of the family: texts that repeat one token show the same vector
turned to every position. A pair is two features whose squares sum to the same at all positions; its angle is the one
that turns the vectors of position 0 into those of position p best (orthogonal Procrustes in the plane).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnxr.probe.window import Window
from attnxr.vocabulary.arrival import BATCH, Arrival, Arriving

_VECTORS = 32  # at least so many vectors of a position are compared
_LONG = 512  # positions at which pairs are looked for: the slowest planes must have turned by then
_PAIRED = 0.5  # of a pair's squares, how much may stay unexplained: a true pair leaves 1e-6, a chance one about 1


@dataclass(frozen=True, eq=False)
class Rotation:
    """The turns of n positions: features ``first[m]`` and ``second[m]`` span a plane, turned by ``angle[p, m]``.

    Attributes
    ----------
    first, second : int array (m,)
    angle : float64 array (n, m), in radians
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    angle: NDArray[np.float64]

    def turned(self, vectors: NDArray, positions: NDArray[np.intp], back: bool = False) -> NDArray[np.float64]:
        """Turn vectors from position 0 to their own positions, or back.

        Parameters
        ----------
        vectors : array (…, n, d)
        positions : int array (n,)
        back : bool

        Returns
        -------
        float64 array (…, n, d)
        """
        out = vectors.astype(np.float64)
        cos, sin = np.cos(self.angle[positions]), np.sin(self.angle[positions])
        sin = -sin if back else sin
        x, y = out[..., self.first], out[..., self.second]
        out[..., self.first], out[..., self.second] = cos * x - sin * y, sin * x + cos * y
        return out


def read_rotation(window: Window, layer: int, space: Arriving, length: int, size: int) -> Rotation:
    """Read the turns of a layer's keys, or queries, at every position of a text off the model.

    Parameters
    ----------
    window : Window
    layer : int
        Which of the layers with attention: some families turn local and global ones differently.
    space : {"key", "query"}
    length : int
        Number of tokens of the text, n: some families turn long texts differently.
    size : int
        Number of vocabulary entries to take tokens from.

    Returns
    -------
    Rotation
        Without planes where nothing turns.
    """
    layout = window.layout
    heads = layout.n_heads if space == "query" else layout.n_kv_heads
    count = min(size, max(4, -(-_VECTORS // heads)))
    tokens = torch.linspace(0, size - 1, count).long()
    squares: NDArray[np.float64] | float = 0.0
    for start, all_of_it in _vectors(window, layer, space, tokens, max(length, min(_LONG, layout.max_tokens or _LONG))):
        change = (all_of_it**2 - start**2).reshape(-1, layout.key_size)
        squares = squares + change.T @ change
    first, second = _pairs(np.asarray(squares))
    dot, cross = np.zeros((length, len(first))), np.zeros((length, len(first)))
    for start, all_of_it in _vectors(window, layer, space, tokens, length):
        x, y, to_x, to_y = start[..., first], start[..., second], all_of_it[..., first], all_of_it[..., second]
        dot += (x * to_x + y * to_y).sum(axis=0)
        cross += (x * to_y - y * to_x).sum(axis=0)
    return Rotation(first, second, np.arctan2(cross, dot))


def _vectors(
    window: Window, layer: int, space: Arriving, tokens: Tensor, length: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Vectors of texts that repeat one token: (m, 1, d) at position 0, (m, length, d) at all, some texts at a time."""
    for some in tokens.split(max(1, BATCH // length)):
        seen = Arrival(window, layer)
        window.run(some[:, None].expand(-1, length), seen)
        found = seen.vectors[space].flatten(0, 1).to("cpu", torch.float64).numpy()
        yield found[:, :1], found


def _pairs(squares: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Features that take from each other what they gain, from the inner products of their changes in square."""
    own = np.diag(squares)
    with np.errstate(invalid="ignore", divide="ignore"):
        unexplained = 1 + 2 * squares / (own[:, None] + own)
    np.fill_diagonal(unexplained, np.inf)
    unexplained[np.isnan(unexplained)] = np.inf  # neither changes at all
    best = unexplained.argmin(axis=1)
    first = np.arange(len(best))
    mutual = (best[best] == first) & (first < best) & (unexplained[first, best] < _PAIRED)
    return first[mutual], best[mutual]
