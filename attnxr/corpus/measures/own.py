"""Whether heads write the own token, another one of the text, or neither, and how near the own token is."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.corpus.declared import ATLAS
from attnxr.corpus.measure import Batch, Facts, Measure, Near, State
from attnxr.schema import describe


class Own(Measure):
    """Shares of origins, as of `attnxr.origins`, and a histogram of own ranks, over all tokens that are not special."""

    name = "own"
    needs = frozenset({"neighbors"})

    def begin(self, facts: Facts) -> State:
        """Nothing counted yet."""
        heads = len(facts.layers), facts.n_heads
        return {
            "own": np.zeros(heads, np.int64),
            "other": np.zeros(heads, np.int64),
            "rank": np.zeros((*heads, len(_last_ranks(facts.vocab_size))), np.int64),
            "n": np.zeros((), np.int64),
            "causal": np.array(facts.causal),
        }

    def see_neighbors(self, state: State, batch: Batch, near: Near) -> None:
        """Count the origins of the nearest entries, and the own ranks."""
        counted = ~batch.is_special
        nearest = near.neighbor_id[..., 0]
        own = nearest == batch.token_id
        other = ~own & (_stands_before(batch, nearest) if state["causal"] else near.in_sequence[..., 0])
        state["own"] += own[..., counted].sum(axis=-1)
        state["other"] += other[..., counted].sum(axis=-1)
        # The bit length of rank − 1: 0 of 1, 1 of 2, 2 of 3 and 4, 3 of 5 to 8.
        bins = np.frexp(near.own_rank[..., counted] - 1)[1].reshape(state["own"].size, -1)
        n_bins = state["rank"].shape[-1]
        at = bins + n_bins * np.arange(len(bins))[:, None]
        state["rank"] += np.bincount(at.ravel(), minlength=state["rank"].size).reshape(state["rank"].shape)
        state["n"] += counted.sum()

    def merge(self, first: State, second: State) -> State:
        """Counts of both."""
        added = {name: np.array(first[name] + second[name]) for name in ("own", "other", "rank", "n")}
        return added | {"causal": first["causal"]}

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        """``own_share``, ``other_share``, ``neither_share``, and ``own_rank_count`` (rank_bin)."""
        n = state["n"] or np.nan
        own, other = state["own"] / n, state["other"] / n
        result = xr.Dataset(
            {
                "own_share": (("layer", "head"), own),
                "other_share": (("layer", "head"), other),
                "neither_share": (("layer", "head"), (state["n"] - state["own"] - state["other"]) / n),
                "own_rank_count": (("layer", "head", "rank_bin"), state["rank"]),
                "n_written": ((), state["n"]),
            }
        )
        last = _last_ranks(facts.vocab_size)
        result = result.assign_coords(
            rank_low=("rank_bin", np.array([1, *(last[:-1] + 1)])), rank_high=("rank_bin", last)
        )
        return describe(result, ATLAS)


def _last_ranks(vocab_size: int) -> NDArray[np.int64]:
    """The last rank of each bin: 1, 2, 4, 8, … and V."""
    return np.minimum(2 ** np.arange(int(vocab_size - 1).bit_length() + 1), vocab_size)


def _stands_before(batch: Batch, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Whether tokens (layer, head, t, n) stand in their text before the position."""
    found = np.zeros(ids.shape, bool)
    for text, token_ids in enumerate(batch.token_id):
        there, first = np.unique(token_ids, return_index=True)
        asked = ids[:, :, text]
        at = np.minimum(np.searchsorted(there, asked), len(there) - 1)
        found[:, :, text] = (there[at] == asked) & (first[at] < np.arange(len(token_ids)))
    return found
