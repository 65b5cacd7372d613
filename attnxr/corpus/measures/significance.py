"""How much of what a head writes is nearer to a word than chance would have it, on a sample of texts."""

from typing import Any

import numpy as np
import xarray as xr

from attnxr.analysis import nulls
from attnxr.corpus.declared import ATLAS
from attnxr.corpus.measure import Facts, Measure, State
from attnxr.schema import describe

_DRAWS = 19  # none of which is as near where p ≤ 1 / 20
_LEVEL = 0.05
_OPTIONS = {"metric": "cosine", "of": "encoding", "space": "value", "vocab_layer": "input", "positional": True}


class Significance(Measure):
    """Shares of vectors with p ≤ 0.05, by the rotation null of `attnxr.significance`, of tokens that are not special.

    Chance alone gives a share of 0.05.
    """

    name = "significance"
    needs = frozenset({"sample"})

    def begin(self, facts: Facts) -> State:
        """Nothing tested yet."""
        heads = len(facts.layers), facts.n_heads
        return {
            "nearer": np.zeros(heads, np.int64),
            "own": np.zeros(heads, np.int64),
            "n": np.zeros((), np.int64),
            "seed": np.array(facts.seed),
        }

    def see_text(self, state: State, text: int, model: Any, encodings: xr.Dataset) -> None:
        """Test one text."""
        written = encodings.isel(position=~encodings["is_special"].values)
        if not written.sizes["position"]:
            return
        near = model.neighbors(written, k=1, **_OPTIONS)
        asked = nulls.Asked(model, written[["head_encoding"]], "head_encoding", 1, _OPTIONS)
        nearest = near["distance"].values[..., 0].astype(np.float64)
        passed = nulls.nearer_than_all(asked, nearest, _DRAWS, int(state["seed"]) + text)
        state["nearer"] += passed.sum(axis=-1)
        state["own"] += (near["own_rank"].values / model.vocab_size <= _LEVEL).sum(axis=-1)
        state["n"] += written.sizes["position"]

    def merge(self, first: State, second: State) -> State:
        """Counts of both."""
        return {name: np.array(first[name] + second[name]) for name in ("nearer", "own", "n")} | {"seed": first["seed"]}

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        """``nearer_share``, ``own_nearer_share`` and ``n_tested``."""
        n = state["n"] or np.nan
        result = xr.Dataset(
            {
                "nearer_share": (("layer", "head"), state["nearer"] / n),
                "own_nearer_share": (("layer", "head"), state["own"] / n),
                "n_tested": ((), state["n"]),
            }
        )
        return describe(result, ATLAS)
