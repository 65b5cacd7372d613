"""A case: a model, a text, and what the float64 oracle says about them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from attnxr.options import VARIABLE
from tests.support import oracles

HEAD_VECTORS = ("query", "key", "value")
STREAM_VECTORS = ("residual", "hidden")
INCLUDED = ("query_vector", "key_vector", "value_vector")


@dataclass(frozen=True)
class Case:
    """An attnxr model, an untouched Hugging Face model with the same weights, and a text."""

    model: Any
    hf_model: Any
    text: str
    odd_oracle: oracles.Bert | None = None

    @cached_property
    def oracle(self) -> oracles.Bert:
        return self.odd_oracle or oracles.Bert(self.hf_model, self.model.vocab_size)

    @cached_property
    def enc(self) -> xr.Dataset:
        """The text's encodings, with everything that can be asked for."""
        return self.model.encode(self.text, include=(*INCLUDED, *STREAM_VECTORS))

    @cached_property
    def token_ids(self) -> np.ndarray:
        return self.enc.token_id.values

    @cached_property
    def position_ids(self) -> np.ndarray:
        return self.oracle.position_ids(self.token_ids)

    @cached_property
    def trace(self) -> oracles.Trace:
        return self.oracle.trace(self.token_ids)

    def vocabulary(self, space: str, position: int, positional: bool = True) -> np.ndarray:
        """Encodings of the whole vocabulary at a position of the text: (head, vocab, d)."""
        return self.oracle.vocabulary(space, int(self.position_ids[position]) if positional else None)

    def check(
        self,
        near: xr.Dataset,
        metric: str = "cosine",
        of: str = "encoding",
        space: str = "value",
        positional: bool = True,
        enc: xr.Dataset | None = None,
    ) -> None:
        """Fail unless neighbours and own ranks of the text (or of `enc`) are those of the brute force."""
        enc = self.enc if enc is None else enc
        position_ids = self.oracle.position_ids(enc.token_id.values)
        for position in near.position.values:
            queries = enc[VARIABLE[of]].sel(position=position).values
            vocabulary = self.oracle.vocabulary(space, int(position_ids[position]) if positional else None)
            self.check_position(near, position, metric, queries, vocabulary)

    @staticmethod
    def check_position(
        near: xr.Dataset, position: int, metric: str, queries: np.ndarray, vocabulary: np.ndarray
    ) -> None:
        """Fail unless a position's neighbours follow from its (layer, head, d) and (head, V, d) vectors."""
        near = near.sel(position=position)
        true, tolerance = true_distances(metric, queries, vocabulary)
        oracles.check_neighbors(near.neighbor_id.values, near.distance.values, true, tolerance)
        own = int(near.token_id)
        oracles.check_own(near.own_rank.values, near.own_distance.values, true, tolerance, own)


def true_distances(metric: str, queries: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances and tolerances of (layer, head, d) queries to their own head's (head, vocab, d) vectors."""
    heads = range(len(vectors))
    true = [oracles.distances(metric, queries[:, h], vectors[h]) for h in heads]
    tolerance = [oracles.tolerances(metric, queries[:, h], vectors[h]) for h in heads]
    return np.stack(true, axis=1), np.stack(tolerance, axis=1)
