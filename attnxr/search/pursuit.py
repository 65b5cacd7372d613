"""Pursuit: the few vocabulary entries whose encodings add up to a vector, exactly the best one at every step.

Orthogonal matching pursuit (Pati, Rezaiifar & Krishnaprasad, 1993) with weights that are not negative (Bruckstein,
Elad & Zibulevsky, On the Uniqueness of Nonnegative Sparse Solutions, 2008), on vectors ``y = z − ū`` and entries
``a_v = u_v − ū``, ū the vocabulary's mean encoding: add the entry with the largest cosine to what is left of y, fit the
weights of all anew, and so on. It is the active-set method of non-negative least squares over the whole vocabulary,
ended early.

After a fit, what is left is at right angles to every entry that has a weight, and at no less to the others that were
added. So an entry of positive cosine is a new one, and the nearest by ``centered_cosine`` of ``ū + rest`` alone is
looked for. The search is exact and takes float64, so each step is, to the rounding of what is left.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnxr.search import nearest
from attnxr.search.blocks import Block
from attnxr.search.nearest import Progress, within
from attnxr.search.nonnegative import ROUNDING, refit

_LEFT = 1e-6  # of |z| + |ū|: what is left is no more than what float32 and the model's own sums leave


@dataclass(frozen=True, eq=False)
class Pursuit:
    """What was found for L layers, H heads and n positions, in up to m steps.

    Attributes
    ----------
    ids : int32 array (L, H, n, m)
        Entries in the order in which they were added; −1 where the pursuit had ended.
    weights : float64 array (L, H, n, m)
        Of the last fit; NaN where there is no entry.
    explained : float64 array (L, H, n, m)
        ``1 − |rest|² / |y|²`` after each step; NaN where y is 0.
    rest : float64 array (L, H, n, m, d)
        What is left of y after each step.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float64]
    explained: NDArray[np.float64]
    rest: NDArray[np.float64]


def pursue(
    block: Block,
    vectors: NDArray[np.float64],
    heads: NDArray[np.intp],
    place: NDArray[np.intp],
    steps: int,
    progress: Progress,
) -> Pursuit:
    """Find the entries of a block that add up to each vector.

    Parameters
    ----------
    block : Block
    vectors : float64 array (L, H, n, d)
    heads : int array (H,)
        Which of the block's heads each head looks into.
    place : int array (n,)
        Which of the block's positions each position is at.
    steps : int
        1 … d.
    progress : callable
        As in `attnxr.search.nearest.search`.

    Returns
    -------
    Pursuit
    """
    *shape, features = vectors.shape
    found = Pursuit(
        np.full((*shape, steps), -1, np.int32),
        np.zeros((*shape, steps)),
        np.empty((*shape, steps)),
        np.empty((*shape, steps, features)),
    )
    mean = _mean(block, heads, place)
    target = vectors - mean
    rest, entries = target.copy(), np.empty((*shape, steps, features))
    size = _length(target)
    least = _LEFT * (_length(vectors) + _length(mean))
    going = size > least
    none = np.zeros(len(place), np.int64)  # of no interest here: the own tokens
    for step in range(steps):
        told = within(progress, step / steps, 1 / steps)
        if going.any():
            # Where nothing is left to look for, all entries would be as near: the vector itself costs no more than any.
            queries = mean + np.where(going[..., None], rest, target)
            ids = nearest.search(block, queries, heads, place, none, 1, "centered_cosine", told).ids
            new = block.encodings(heads, place, ids)[..., 0, :] - mean
            along = np.einsum("...f,...f->...", new, rest)
            going &= along > ROUNDING * _length(new) * _length(rest)
            going &= ~(found.ids[..., :step] == ids).any(axis=-1)
            found.ids[..., step] = np.where(going, ids[..., 0], -1)
            entries[..., step, :] = new
            refit(
                target.reshape(-1, features),
                entries.reshape(-1, steps, features),
                step + 1,
                going.ravel(),
                found.weights.reshape(-1, steps),
                rest.reshape(-1, features),
            )
            going &= _length(rest) > least
        found.rest[..., step, :] = rest
        with np.errstate(invalid="ignore"):
            found.explained[..., step] = 1 - np.square(_length(rest) / size)
    found.weights[found.ids < 0] = np.nan
    progress(1.0)
    return found


def _mean(block: Block, heads: NDArray[np.intp], place: NDArray[np.intp]) -> NDArray[np.float64]:
    """The vocabulary's mean encoding at some heads and positions: (H, n, d)."""
    some, head = np.unique(heads, return_inverse=True)
    places, at = np.unique(place, return_inverse=True)
    return block.mean(some, places)[np.ix_(head, at)]


def _length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.einsum("...f,...f->...", vectors, vectors))
