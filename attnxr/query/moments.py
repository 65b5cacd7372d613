"""Moments of the vocabulary's encodings at each head and position: mean, covariance, mean direction.

Encodings are ``u_v = t_v (a_v + s) + c`` (see `attnxr.search.blocks`), where only t and s depend on the position. With
``m = Σ t_v (a_v + s) / V`` their mean is ``m + c``, and their covariance, in which c has no part::

    (Σ t_v² a_v a_vᵀ + b sᵀ + s bᵀ + (Σ t_v²) s sᵀ) / V − m mᵀ      b = Σ t_v² a_v

All in float64, and in batches: nothing as large as the vocabulary's encodings of a position is made.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema
from attnxr.options import Moment
from attnxr.query.question import Question
from attnxr.search.blocks import Block, serving
from attnxr.search.compiled import compiled
from attnxr.texts import OF_TEXTS

_BATCH = 2048  # vocabulary entries of one head and position that are at hand at once, in the cache
_TOGETHER = 4  # entries that are added at once, so that sums are read and written less often
_PLACES = 128  # positions whose scales are


def answer(question: Question, which: Iterable[Moment]) -> xr.Dataset:
    """Some moments for all of a question's layers, heads and positions; see `Model.moments`.

    They are kept, within a bound, as one text is asked about again and again.
    """
    frame, options = question.frame, question.options
    where = ["head", "kv_head", "position", "text_id", "text_position"]
    if options.vocab_layer == "same":
        where.append("layer")
    # All on which they depend.
    places = [np.asarray(frame.coords[name]).tobytes() for name in where if name in frame.coords]
    texts = [np.asarray(frame.attrs.get(name, ())).tobytes() for name in OF_TEXTS]
    asked = (options.of, options.space, options.vocab_layer, options.positional, *texts, *places)
    found: dict[str, NDArray[np.float64]] = {}
    for each in which:
        kept = question.of_texts.get(("moments", each, *asked), lambda each=each: moment(question, each))  # type: ignore[misc]
        found[each] = np.broadcast_to(kept, (*question.shape, *kept.shape[3:]))
    return frame.dataset(found, schema.MOMENTS)


def moment(question: Question, which: Moment) -> NDArray[np.float64]:
    """One moment of all vocabulary entries, where the question's vectors are compared with them.

    Parameters
    ----------
    question : Question
    which : {"vocabulary_mean", "covariance", "direction"}
        The mean of u; its covariance (divided by V); the mean of u / |u|, where a vector of length 0 counts as 0.

    Returns
    -------
    float64 array (layers, H, n, d), or (layers, H, n, d, d) for the covariance
        With one layer where all the question's layers are compared with the same.
    """
    spaces = list(question.spaces())
    _, heads, positions = question.shape
    layers = 1 if len(spaces) == 1 else question.shape[0]
    out: NDArray[np.float64] | None = None
    for space in spaces:
        for here, place, load in serving(space.blocks, space.place):
            places, at = np.unique(place, return_inverse=True)
            blocks_heads, head = np.unique(space.heads, return_inverse=True)
            found = _of_block(which, load(), blocks_heads, places)[np.ix_(head, at)]
            if space.turns is not None:
                found = np.einsum("nfg,hng...->hnf...", space.turns[here], found)
                if which == "covariance":
                    found = np.einsum("nfg,hneg->hnef", space.turns[here], found)
            if out is None:
                out = np.empty((layers, heads, positions, *found.shape[2:]))
            out[np.ix_(np.arange(layers) if layers == 1 else space.chosen, np.arange(heads), here)] = found
    assert out is not None  # a question has vectors
    return out


def _of_block(which: Moment, block: Block, heads: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[np.float64]:
    """Of some heads and positions of a block: (heads, places, …)."""
    if which == "vocabulary_mean":
        return block.mean(heads, places)
    mean = block.row_mean
    groups = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(places), _PLACES):
            group = places[start : start + _PLACES]
            scale = block.scale(group)
            jobs = [pool.submit(_OF_HEAD[which], block, head, group, scale, mean[head]) for head in heads]
            groups.append(np.stack([job.result() for job in jobs]))
    return np.concatenate(groups, axis=1)


def _covariance(
    block: Block, head: int, places: NDArray[np.intp], scale: NDArray[np.float64], centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(p, d, d)"""
    # Around the mean of the rows, so that what all have in common is not in the squares to cancel.
    rows = block.rows[head]
    s = block.shift[head, places] + centre
    total, b = np.zeros_like(s), np.zeros_like(s)
    features = s.shape[1]
    upper = np.zeros((len(s), features * (features + 1) // 2))
    _add_up(np.ascontiguousarray(scale.T), rows, centre, total, b, upper)
    one, other = np.triu_indices(features)
    squares = np.empty((*s.shape, features))
    squares[:, one, other] = squares[:, other, one] = upper
    m = (total + scale.sum(axis=1)[:, None] * s) / len(rows)
    cross = b[:, :, None] * s[:, None]
    weight = np.square(scale).sum(axis=1)[:, None, None]
    squares += cross + cross.transpose(0, 2, 1) + weight * s[:, :, None] * s[:, None]
    return squares / len(rows) - m[:, :, None] * m[:, None]


@compiled()
def _add_up(scale, rows, centre, total, b, upper):
    """Add up t a, t² a and t² a aᵀ of all entries, of a symmetric matrix the upper half, for all positions at once.

    What differs from position to position is only the weights, so the products of two features are made once. No BLAS:
    its own threads and those of the caller would wait for each other.
    """
    count, d = rows.shape
    places = scale.shape[1]
    a = np.empty((_TOGETHER, d))
    products = np.empty((_TOGETHER, upper.shape[1]))
    for start in range(0, count, _TOGETHER):
        here = min(_TOGETHER, count - start)
        for v in range(_TOGETHER):
            i = 0
            for f in range(d):
                a[v, f] = rows[start + v, f] - centre[f] if v < here else 0.0
            for f in range(d):
                for g in range(f, d):
                    products[v, i] = a[v, f] * a[v, g]
                    i += 1
        for p in range(places):
            t0, t1 = scale[start, p], scale[min(start + 1, count - 1), p]
            t2, t3 = scale[min(start + 2, count - 1), p], scale[min(start + 3, count - 1), p]
            w0, w1, w2, w3 = t0 * t0, t1 * t1, t2 * t2, t3 * t3
            for f in range(d):
                total[p, f] += t0 * a[0, f] + t1 * a[1, f] + (t2 * a[2, f] + t3 * a[3, f])
                b[p, f] += w0 * a[0, f] + w1 * a[1, f] + (w2 * a[2, f] + w3 * a[3, f])
            for i in range(upper.shape[1]):
                upper[p, i] += w0 * products[0, i] + w1 * products[1, i] + (w2 * products[2, i] + w3 * products[3, i])


def _direction(
    block: Block, head: int, places: NDArray[np.intp], scale: NDArray[np.float64], _centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(p, d)"""
    rows, shift, offset = block.rows[head], block.shift[head, places], block.offset[head]
    total = np.zeros_like(shift)
    for entries, a in _batches(rows):
        for p, t in enumerate(scale[:, entries]):
            u = (a + shift[p]) * t[:, None] + offset
            norm = np.sqrt(np.einsum("vf,vf->v", u, u))
            weight = np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0)
            total[p] += np.einsum("v,vf->f", weight, u)
    return total / len(rows)


_OF_HEAD: dict[Moment, Callable[..., NDArray[np.float64]]] = {
    "covariance": _covariance,
    "direction": _direction,
}


def _batches(rows: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Copies of a few of the rows (V, d) at a time, in float64, and which of them they are."""
    for start in range(0, len(rows), _BATCH):
        entries = slice(start, start + _BATCH)
        yield entries, rows[entries].astype(np.float64)
