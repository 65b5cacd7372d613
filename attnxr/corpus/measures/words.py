"""The words that a head writes: how often each vocabulary entry is the nearest one to what it wrote."""

from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.corpus.declared import ATLAS
from attnxr.corpus.measure import Batch, Facts, Measure, Near, State
from attnxr.corpus.measures.lists import LENGTH, lift, most
from attnxr.schema import describe


class Words(Measure):
    """Counts of the nearest entries, over all tokens that are not special; the most frequent, and the most of its own.

    A count is kept for each pair of a head and an entry that occurs, 16 bytes each: no more than 16 · L · H · tokens of
    a unit, and in the whole corpus 16 bytes times the different words of each head, 0.8 GB for 1,024 heads that write
    50,000 each.
    """

    name = "words"
    needs = frozenset({"neighbors"})

    def begin(self, facts: Facts) -> State:
        """Nothing counted yet."""
        return {
            "pair": np.zeros(0, np.int64),  # head · V + entry, ascending; heads of all layers are numbered through
            "count": np.zeros(0, np.int64),
            "n": np.zeros((), np.int64),
            "vocab_size": np.array(facts.vocab_size),
        }

    def see_neighbors(self, state: State, batch: Batch, near: Near) -> None:
        """Count the nearest entries."""
        counted = ~batch.is_special
        nearest = near.neighbor_id[..., 0][..., counted]
        heads = np.arange(nearest.shape[0] * nearest.shape[1]).reshape(*nearest.shape[:2], 1)
        pair, count = np.unique(nearest + heads * int(state["vocab_size"]), return_counts=True)
        state["pair"], state["count"] = _together(state["pair"], state["count"], pair, count)
        state["n"] += counted.sum()

    def merge(self, first: State, second: State) -> State:
        """Counts of both."""
        pair, count = _together(first["pair"], first["count"], second["pair"], second["count"])
        return {
            "pair": pair,
            "count": count,
            "n": np.array(first["n"] + second["n"]),
            "vocab_size": first["vocab_size"],
        }

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        """``written_…`` and ``distinctive_…`` (layer, head, order): id, count, share and lift of each entry."""
        head, entry = np.divmod(state["pair"], facts.vocab_size)
        count, n = state["count"], int(state["n"])
        of_all = np.bincount(entry, weights=count, minlength=facts.vocab_size)
        n_heads = len(facts.layers) * facts.n_heads
        starts = np.searchsorted(head, np.arange(n_heads + 1))
        shape = len(facts.layers), facts.n_heads, LENGTH
        found: dict[str, list[NDArray]] = {}
        for start, end in pairwise(starts):
            ids, own = entry[start:end], count[start:end]
            lifts = lift(own, n, of_all[ids], n * n_heads)
            for kind, score in (("written", own), ("distinctive", lifts)):
                columns = most(ids, score, own, own / (n or np.nan), lifts)
                for name, column in zip(("id", "count", "share", "lift"), columns, strict=True):
                    found.setdefault(f"{kind}_{name}", []).append(column)
        dims = "layer", "head", "order"
        return describe(xr.Dataset({name: (dims, np.reshape(each, shape)) for name, each in found.items()}), ATLAS)


def _together(
    a: NDArray[np.int64], of_a: NDArray[np.int64], b: NDArray[np.int64], of_b: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending pairs of both, and their counts added."""
    both = np.concatenate([a, b])
    order = np.argsort(both, kind="stable")  # which merges what is in order
    both, count = both[order], np.concatenate([of_a, of_b])[order]
    first = np.flatnonzero(np.diff(both, prepend=-1))
    return both[first], np.add.reduceat(count, first) if len(first) else count
