"""The other ways run the whole task: every position of a text, all layers and heads."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import xarray as xr
from transformers import RobertaModel

from benchmarks.parts.answers import Found
from benchmarks.parts.measure import PeakMemory
from benchmarks.parts.rivals import RIVAL_METRICS, Search, build, with_faiss, with_sklearn, with_torch
from benchmarks.parts.shapes import K

WAYS: dict[str, Search] = {
    "faiss IndexFlat": with_faiss,
    "scikit-learn, brute": with_sklearn,
    "torch.cdist + topk": with_torch,
}
ONE_CLICK = "one click at a time"
CLICKS = 4
"""Whoever clicks asks about one position and one layer: so many of these are measured, and the rest extrapolated."""


@dataclass
class Cost:
    """What a way costs for a whole text: seconds of building, and of searching by each metric; and its answers."""

    build: float = 0.0
    search: dict[str, float] = field(default_factory=lambda: dict.fromkeys(RIVAL_METRICS, 0.0))
    found: dict[str, list[Found]] = field(default_factory=lambda: {metric: [] for metric in RIVAL_METRICS})

    def shorter(self, other: "Cost") -> "Cost":
        """The shorter times of two runs, and the answers of this one."""
        search = {metric: min(took, other.search[metric]) for metric, took in self.search.items()}
        return Cost(min(self.build, other.build), search, self.found)


def race(hf_model: RobertaModel, encodings: xr.Dataset) -> dict[str, Cost]:
    """Run every way once, by turns: at each position its encodings are built, and all search there."""
    costs = {name: Cost() for name in (*WAYS, ONE_CLICK)}
    layers, positions = encodings.sizes["layer"], encodings.sizes["position"]
    for position in range(positions):
        _visit(hf_model, encodings, position, range(layers), WAYS, costs)
    for i in range(CLICKS):
        position, layer = i * positions // CLICKS, i * layers // CLICKS
        _visit(hf_model, encodings, position, [layer], {ONE_CLICK: with_torch}, costs)
    clicked, all_clicks = costs[ONE_CLICK], layers * positions
    clicked.build *= all_clicks / CLICKS
    clicked.search = {metric: took * all_clicks / CLICKS for metric, took in clicked.search.items()}
    return costs


def warm_up(hf_model: RobertaModel, encodings: xr.Dataset) -> dict[str, int]:
    """Run every way at the first position; returns the bytes that each takes at most, beyond what was there."""
    layers = range(encodings.sizes["layer"])
    memory = {}
    for name, search, chosen in [*((*way, layers) for way in WAYS.items()), (ONE_CLICK, with_torch, [0])]:
        with PeakMemory() as peak:
            _visit(hf_model, encodings, 0, chosen, {name: search}, {name: Cost()})
        memory[name] = peak.beyond
    return memory


def _visit(
    hf_model: RobertaModel,
    encodings: xr.Dataset,
    position: int,
    layers: Sequence[int],
    ways: Mapping[str, Search],
    costs: Mapping[str, Cost],
) -> None:
    """Build the vocabulary's encodings at one position, and let each way search there."""
    chosen = encodings["head_encoding"].values[list(layers), :, position]
    queries = torch.from_numpy(np.ascontiguousarray(chosen.swapaxes(0, 1)))  # (H, layers, d)
    own = int(encodings.token_id[position])
    start = time.perf_counter()
    rows = build(hf_model, position)
    built = time.perf_counter() - start
    for name, search in ways.items():
        costs[name].build += built
        for metric in RIVAL_METRICS:
            start = time.perf_counter()
            found = search(rows, queries, own, K, metric)
            costs[name].search[metric] += time.perf_counter() - start
            costs[name].found[metric].append(Found(position, list(layers), *found))
