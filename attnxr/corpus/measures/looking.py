"""Which tokens a head looks at and from, and how far, over the whole corpus."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from attnxr.corpus.declared import ATLAS
from attnxr.corpus.measure import Batch, Facts, Measure, State
from attnxr.corpus.measures import fixed
from attnxr.corpus.measures.lists import LENGTH, lift, most
from attnxr.corpus.measures.shown import on_cpu
from attnxr.schema import describe
from attnxr.search.compiled import compiled

# The least distance of each bin: two bins for each power of two, on either side, and one for the query's own place.
_STEPS = np.array([1, *(step << power for power in range(18) for step in (2, 3))])
_N_BINS = 2 * len(_STEPS) + 1
_MASS = 2.0**30  # masses are multiples of its inverse
_LANES = 16


class Looking(Measure):
    """Attention by token and by distance.

    The *mass* of a token is the attention that goes to all its places, or from them, between tokens that are neither
    special nor the first of their text: what goes to those is in the roles. Memory: 16 bytes for each head and each
    token that the corpus has, 2.1 GB for 1,024 heads and all of 128,000 tokens; in a unit, as many tokens as it has.
    """

    name = "looking"
    needs = frozenset({"attention"})

    def begin(self, facts: Facts) -> State:
        """No attention yet."""
        heads = len(facts.layers), facts.n_heads
        return {
            "distance": fixed.zeros(*heads, _N_BINS),
            "id": np.zeros(0, np.int64),
            "key": np.zeros((*heads, 0), np.int64),
            "query": np.zeros((*heads, 0), np.int64),
            "causal": np.array(facts.causal),
        }

    def see_attention(self, state: State, batch: Batch, layer: int, attention: Tensor) -> None:
        """Add the attention of one layer."""
        weights = on_cpu(attention)
        heads, n = weights.shape[1:3]
        tokens, index = batch.distinct
        if layer == 0:
            state.update(_widened(state, np.union1d(state["id"], tokens)))
        by_distance, to_key, of_query = (np.zeros((heads, size)) for size in (2 * n - 1, len(tokens), len(tokens)))
        _add(weights, batch.content, index, bool(state["causal"]), by_distance, to_key, of_query)
        bins = _bins(np.arange(-n + 1, n))
        summed = np.add.reduceat(by_distance, np.flatnonzero(np.diff(bins, prepend=-1)), axis=1)
        fixed.add(state["distance"][layer][:, bins[0] : bins[-1] + 1], summed)
        at = np.searchsorted(state["id"], tokens)
        for name, mass in (("key", to_key), ("query", of_query)):
            state[name][layer][:, at] += np.rint(mass * _MASS).astype(np.int64)

    def merge(self, first: State, second: State) -> State:
        """Attention of both."""
        ids = np.union1d(first["id"], second["id"])
        a, b = _widened(first, ids), _widened(second, ids)
        return {
            "distance": fixed.plus(first["distance"], second["distance"]),
            "id": ids,
            "key": a["key"] + b["key"],
            "query": a["query"] + b["query"],
            "causal": first["causal"],
        }

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        """``key_…`` and ``query_…`` (layer, head, order): id, mass and lift; ``distance_share`` (offset)."""
        mass = fixed.value(state["distance"])
        found = {"distance_share": (("layer", "head", "offset"), mass / _or_nan(mass.sum(axis=-1, keepdims=True)))}
        for kind in ("key", "query"):
            masses = state[kind].reshape(len(facts.layers) * facts.n_heads, -1) / _MASS
            of_all, total = masses.sum(axis=0), masses.sum()
            lists = []
            for own in masses:
                there = own > 0
                lifts = lift(own[there], own.sum(), of_all[there], total)
                lists.append(most(state["id"][there], own[there], own[there], lifts))
            for name, columns in zip(("id", "mass", "lift"), zip(*lists, strict=True), strict=True):
                shape = len(facts.layers), facts.n_heads, LENGTH
                found[f"{kind}_{name}"] = ("layer", "head", "order"), np.reshape(columns, shape)
        low, high = _ends()
        result = xr.Dataset(found).assign_coords(offset_low=("offset", low), offset_high=("offset", high))
        return describe(result, ATLAS)


def _or_nan(total: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(total > 0, total, np.nan)


def _bins(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which bin each key less query is in."""
    away = np.searchsorted(_STEPS, np.abs(offsets), side="right")
    return len(_STEPS) + np.sign(offsets) * away


def _ends() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last offset of each bin; the outermost ones have no end, which they say by the next step."""
    far = np.append(_STEPS[1:], 2 * _STEPS[-1]) - 1
    return np.concatenate([-far[::-1], [0], _STEPS]), np.concatenate([-_STEPS[::-1], [0], far])


def _widened(state: State, ids: NDArray[np.int64]) -> State:
    """The ids, and the masses with a column for each of them."""
    if len(ids) == len(state["id"]):
        return {name: state[name] for name in ("id", "key", "query")}
    at = np.searchsorted(ids, state["id"])
    out = {"id": ids}
    for name in ("key", "query"):
        out[name] = np.zeros((*state[name].shape[:2], len(ids)), np.int64)
        out[name][..., at] = state[name]
    return out


@compiled(error_model="numpy")
def _add(weights, content, index, causal, by_distance, to_key, of_query):
    """Add attention (t, head, n, n) by key − query + n − 1, and between tokens of content by the index of the token."""
    texts, heads, n, _ = weights.shape
    column, lanes = np.empty(n), np.empty(_LANES)
    for t in range(texts):
        kept = content[t].astype(np.float32)
        for h in range(heads):
            column[:] = 0
            for q in range(n):
                row, ahead, end = weights[t, h, q], by_distance[h, n - 1 - q :], q + 1 if causal else n
                for k in range(end):
                    ahead[k] += row[k]
                if not content[t, q]:
                    continue
                for k in range(end):
                    column[k] += row[k]
                lanes[:] = 0  # several sums at a time, always the same ones
                for start in range(0, end - _LANES + 1, _LANES):
                    for i in range(_LANES):
                        lanes[i] += row[start + i] * kept[start + i]
                for k in range(end - end % _LANES, end):
                    lanes[0] += row[k] * kept[k]
                of_query[h, index[t, q]] += lanes.sum()
            for k in range(n):
                if content[t, k]:
                    to_key[h, index[t, k]] += column[k]
