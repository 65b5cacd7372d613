"""Small measures of a corpus, one of each kind of thing that a measure can be shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from attnxr.corpus.measure import Batch, Facts, Near, State

ATTRS = {"long_name": "a measure of the tests", "units": "1", "description": "a measure of the tests"}


class _Sums:
    """Sums of arrays (layer, head), which merge by adding."""

    def see_attention(self, state: State, batch: Batch, layer: int, attention: Tensor) -> None:
        raise AssertionError("not asked for")

    def see_neighbors(self, state: State, batch: Batch, near: Near) -> None:
        raise AssertionError("not asked for")

    def see_text(self, state: State, text: int, model: Any, encodings: xr.Dataset) -> None:
        raise AssertionError("not asked for")

    def begin(self, facts: Facts) -> State:
        shape = len(facts.layers), facts.n_heads
        return {"sum": np.zeros(shape), "count": np.zeros(shape, np.int64)}

    def merge(self, first: State, second: State) -> State:
        return {name: first[name] + second[name] for name in first}

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        mean = state["sum"] / np.maximum(state["count"], 1)
        return xr.Dataset({self.name: (("layer", "head"), mean, ATTRS)})  # type: ignore[attr-defined]


class AttendedDistance(_Sums):
    """Mean distance that heads attend over."""

    name = "attended_distance"
    needs = frozenset({"attention"})

    def see_attention(self, state: State, batch: Batch, layer: int, attention: Tensor) -> None:
        texts, n = batch.token_id.shape
        assert attention.shape == (texts, state["sum"].shape[1], n, n)
        place = np.arange(n)
        distance = np.abs(place[:, None] - place)
        state["sum"][layer] += (attention.cpu().double().numpy() * distance).sum(axis=(0, 2, 3))
        state["count"][layer] += texts * n


class OwnRank(_Sums):
    """Mean own rank, and how many neighbours are in their text."""

    name = "mean_own_rank"
    needs = frozenset({"neighbors"})

    def see_neighbors(self, state: State, batch: Batch, near: Near) -> None:
        layers, heads = state["sum"].shape
        assert near.neighbor_id.shape[:4] == (layers, heads, *batch.token_id.shape) == near.own_rank.shape
        state["sum"] += near.own_rank.sum(axis=(2, 3))
        state["count"] += batch.token_id.size


class Length(_Sums):
    """Mean length of what heads write, over the sample."""

    name = "written_length"
    needs = frozenset({"sample"})

    def see_text(self, state: State, text: int, model: Any, encodings: xr.Dataset) -> None:
        z = encodings.head_encoding.values.astype(np.float64)
        state["sum"] += np.sqrt((z**2).sum(axis=-1)).sum(axis=-1)
        state["count"] += z.shape[2]


ALL = {each.name: each for each in (AttendedDistance, OwnRank, Length)}
