"""Texts in which a head attends most strongly, and texts from every decile of how strongly it does."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from attnxr.corpus.declared import ATLAS
from attnxr.corpus.measure import Batch, Facts, Measure, State
from attnxr.corpus.measures import fixed
from attnxr.corpus.measures.shown import hashes, on_cpu
from attnxr.schema import describe
from attnxr.search.compiled import compiled

TOP = 10
"""Texts with the largest activation that are kept of each head."""
SAMPLE = 200
"""Texts drawn at random from the corpus, the same for all heads, whose activations make the deciles."""
DECILES = 10
PER_DECILE = 3
"""Texts of each decile that are kept as examples."""
INTERVALS = np.repeat([DECILES + 1, *range(DECILES, 0, -1)], [TOP] + [PER_DECILE] * DECILES)
"""Of each example the decile, 1 … 10, or 11 where it is one of the largest of the corpus."""
KEYS = 8
"""Places that are kept of those the strongest query attends to."""
_BINS = 50
_OF_TEXT: dict[str, tuple[tuple[int, ...], np.dtype, int]] = {  # shape, dtype, and what stands where there is no text
    "value": ((), np.dtype(np.float32), -1),
    "query": ((), np.dtype(np.int32), -1),
    "key": ((), np.dtype(np.int32), -1),
    "place": ((KEYS,), np.dtype(np.int32), -1),
    "weight": ((KEYS,), np.dtype(np.float32), 0),
}


class Examples(Measure):
    """Examples by activation.

    The *activation* of a head in a text is the largest weight between two tokens that are neither special nor the first
    of the text; a text without such tokens has none and is left out. Of several pairs as strong, the earliest key
    counts, and of its queries the earliest.

    ``top`` examples are the texts with the largest activation of the whole corpus, of equal ones those that come
    first. *Deciles* are those of a random sample of 200 texts, drawn by the smallest hash of their numbers, or of all
    where the corpus has no more: ordered by activation, equal ones as in the corpus, the i-th of m texts (0-based) is
    in decile 1 + ⌊10 i / m⌋. Of each decile those three are kept whose hash is smallest, less any among the top.
    """

    name = "examples"
    needs = frozenset({"attention"})

    def begin(self, facts: Facts) -> State:
        """No text yet."""
        heads = len(facts.layers), facts.n_heads
        state: State = {
            "top_text": np.full((*heads, TOP), -1, np.int64),
            "text": np.zeros(0, np.int64),
            "hash": np.zeros(0, np.uint64),
            "histogram": np.zeros((*heads, _BINS), np.int64),
            "sum": fixed.zeros(*heads),
            "n": np.zeros((), np.int64),
            "causal": np.array(facts.causal),
            "seed": np.array(facts.seed),
        }
        for name, (shape, dtype, filler) in _OF_TEXT.items():
            state[f"top_{name}"] = np.full((*heads, TOP, *shape), filler, dtype)
            state[name] = np.full((*heads, 0, *shape), filler, dtype)
        return state

    def see_attention(self, state: State, batch: Batch, layer: int, attention: Tensor) -> None:
        """Find the activations of one layer, and keep the texts that come first."""
        between = batch.content
        active = np.flatnonzero(between.any(axis=1))
        if not len(active):
            return
        text, between, weights = batch.text[active], between[active], on_cpu(attention)[active]
        if layer == 0:
            _draw(state, text)
        heads = weights.shape[1]
        found = {
            "value": np.zeros((heads, len(active)), np.float32),
            "query": np.zeros((heads, len(active)), np.int32),
            "key": np.zeros((heads, len(active)), np.int32),
        }
        _strongest(weights, between, bool(state["causal"]), found["value"], found["query"], found["key"])
        bins = np.minimum((found["value"] * _BINS).astype(np.int64), _BINS - 1) + _BINS * np.arange(heads)[:, None]
        state["histogram"][layer] += np.bincount(bins.ravel(), minlength=heads * _BINS).reshape(heads, _BINS)
        fixed.add(state["sum"][layer], found["value"].astype(np.float64).sum(axis=1))
        if layer == 0:
            state["n"] += len(active)
        of_layer = {name: state[f"top_{name}"][layer] for name in ("text", *_OF_TEXT)}
        every = np.broadcast_to(text, found["value"].shape)
        order = _first(
            np.concatenate([of_layer["value"], found["value"]], axis=1),
            np.concatenate([of_layer["text"], every], axis=1),
        )
        new = np.nonzero(order >= TOP)
        which = order[new] - TOP
        for each in of_layer.values():  # in place: what stays moves to where it is now
            each[:] = np.take_along_axis(
                each, np.minimum(order, TOP - 1).reshape(*order.shape, *[1] * (each.ndim - 2)), 1
            )
        of_layer["text"][new] = text[which]
        _put(of_layer, new, found, weights, new[0], which)
        drawn, slot = np.nonzero(text[:, None] == state["text"])
        head = np.repeat(np.arange(heads), len(drawn))
        at = head, np.tile(slot, heads)
        _put({name: state[name][layer] for name in _OF_TEXT}, at, found, weights, head, np.tile(drawn, heads))

    def merge(self, first: State, second: State) -> State:
        """The texts of both that come first."""
        merged = {
            "histogram": first["histogram"] + second["histogram"],
            "sum": fixed.plus(first["sum"], second["sum"]),
            "n": np.array(first["n"] + second["n"]),
            "causal": first["causal"],
            "seed": first["seed"],
        }
        both = {
            name: np.concatenate([first[name], second[name]], axis=2)
            for name in (f"top_{each}" for each in ("text", *_OF_TEXT))
        }
        order = _first(both["top_value"], both["top_text"])
        for name, each in both.items():
            merged[name] = _taken(each, order)
        text, of_hash = (np.concatenate([first[name], second[name]]) for name in ("text", "hash"))
        drawn = np.lexsort((text, of_hash))[:SAMPLE]
        merged |= {"text": text[drawn], "hash": of_hash[drawn]}
        for name in _OF_TEXT:
            merged[name] = np.concatenate([first[name], second[name]], axis=2)[:, :, drawn]
        return merged

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        """``example_…`` (example, attended), ``activation_…`` and how many texts there are."""
        heads, m = state["top_text"].shape[:2], len(state["text"])
        every = np.broadcast_to(state["text"], (*heads, m))
        rank = np.lexsort((every, state["value"])).argsort(axis=-1)
        decile = 1 + rank * DECILES // max(m, 1)
        chosen = np.full((*heads, DECILES, PER_DECILE), -1)
        largest = np.full((*heads, DECILES), np.nan, np.float32)
        is_top = (every[..., None] == state["top_text"][..., None, :]).any(axis=-1)
        # From the last decile to the first. Texts of the sample lie in the order of their hashes.
        for i in range(DECILES if m else 0):
            there = decile == DECILES - i
            fits = there & ~is_top
            place = np.where(fits, fits.cumsum(axis=-1) - 1, PER_DECILE)
            for j in range(PER_DECILE):
                hit = place == j
                chosen[..., i, j] = np.where(hit.any(axis=-1), hit.argmax(axis=-1), -1)
            most = np.where(there, state["value"], -1).max(axis=-1, initial=-1)
            largest[..., DECILES - 1 - i] = np.where(most < 0, np.nan, most)
        chosen = chosen.reshape(*heads, -1)
        found = {}
        for name, (shape, _, filler) in {"text": ((), np.dtype(np.int64), -1), **_OF_TEXT}.items():
            of_sample = every if name == "text" else state[name]
            if m:
                taken = _taken(of_sample, np.maximum(chosen, 0))
                taken[chosen < 0] = filler
            else:
                taken = np.full((*chosen.shape, *shape), filler, of_sample.dtype)
            found[name] = np.concatenate([state[f"top_{name}"], taken], axis=2)
        value = np.where(found["text"] < 0, np.float32(np.nan), found["value"])
        dims = ("layer", "head", "example")
        result = xr.Dataset(
            {
                "example_text_id": (dims, found["text"]),
                "example_activation": (dims, value),
                "example_query": (dims, found["query"]),
                "example_key": (dims, found["key"]),
                "example_attended": ((*dims, "attended"), found["place"]),
                "example_weight": ((*dims, "attended"), found["weight"]),
                "activation_mean": (dims[:2], fixed.value(state["sum"]) / (state["n"] or np.nan)),
                "activation_count": ((*dims[:2], "activation_bin"), state["histogram"]),
                "activation_decile": ((*dims[:2], "decile"), largest),
                "n_active": ((), state["n"]),
                "n_drawn": ((), np.array(m)),
            }
        )
        edges = np.arange(_BINS + 1) / _BINS
        result = result.assign_coords(
            example_interval=("example", INTERVALS),
            decile=np.arange(1, DECILES + 1),
            activation_low=("activation_bin", edges[:-1]),
            activation_high=("activation_bin", edges[1:]),
        )
        return describe(result, ATLAS)


def _first(value: NDArray[np.float32], text: NDArray[np.int64]) -> NDArray[np.intp]:
    """Index of the `TOP` largest values along the last axis, of equal ones the text that comes first."""
    return np.lexsort((text, -value))[..., :TOP]


def _taken(array: NDArray, index: NDArray[np.intp]) -> NDArray:
    """Elements (heads…, m, …) of an array by index (heads…, m) along m."""
    return np.take_along_axis(array, index.reshape(*index.shape, *[1] * (array.ndim - index.ndim)), index.ndim - 1)


def _draw(state: State, text: NDArray[np.int64]) -> None:
    """Let texts into the sample whose hash is among the smallest; what they push out goes."""
    every = np.concatenate([state["text"], text])
    of_hash = np.concatenate([state["hash"], hashes(text, int(state["seed"]))])
    drawn = np.lexsort((every, of_hash))[:SAMPLE]
    known = len(state["text"])
    state["text"], state["hash"] = every[drawn], of_hash[drawn]
    for name, (shape, dtype, filler) in _OF_TEXT.items():
        old = state[name]
        state[name] = np.full((*old.shape[:2], len(drawn), *shape), filler, dtype)
        state[name][:, :, drawn < known] = old[:, :, drawn[drawn < known]]


def _put(
    target: State,
    at: tuple[NDArray[np.intp], ...],
    found: State,
    weights: NDArray[np.float32],
    head: NDArray[np.intp],
    text: NDArray[np.intp],
) -> None:
    """Write what was found of heads and texts (m,) of a batch to places of the arrays of `target`."""
    for name in ("value", "query", "key"):
        target[name][at] = found[name][head, text]
    rows = weights[text, head, found["query"][head, text]]
    order = np.argsort(-rows, axis=-1, kind="stable")[:, :KEYS]
    missing = [(0, 0), (0, KEYS - order.shape[1])]
    target["place"][at] = np.pad(order, missing, constant_values=-1)
    target["weight"][at] = np.pad(np.take_along_axis(rows, order, axis=-1), missing)


@compiled()
def _strongest(weights, content, causal, value, query, key):
    """The largest weight (t, head, n, n) between tokens of content, and where it is: (head, t) each."""
    texts, heads, n, _ = weights.shape
    column = np.empty(n, np.float32)
    for t in range(texts):
        for h in range(heads):
            column[:] = 0
            for q in range(n):
                if content[t, q]:
                    row, end = weights[t, h, q], q + 1 if causal else n
                    for k in range(end):
                        column[k] = row[k] if row[k] > column[k] else column[k]
            at = -1
            for k in range(n):
                if content[t, k] and (at < 0 or column[k] > column[at]):
                    at = k
            value[h, t], key[h, t] = column[at], at
            for q in range(n):
                if content[t, q] and weights[t, h, q, at] == column[at]:
                    query[h, t] = q
                    break
