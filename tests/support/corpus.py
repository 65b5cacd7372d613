"""Batches of texts run through a model by `Model.encode` and `Model.neighbors`, and measures that are shown them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr

import attnxr
from attnxr.corpus.measure import Batch, Facts, Measure, Near, State
from attnxr.corpus.measures import MEASURES

SEED = 3


@dataclass(frozen=True)
class Shown:
    """One batch, with what measures are shown of it."""

    batch: Batch
    encodings: list[xr.Dataset]
    near: Near


def batches(model: attnxr.Model, texts: Sequence[Sequence[int]], most: int = 3, **options: Any) -> list[Shown]:
    """Texts of one length together, `most` of them at once, in the order of the first of each batch."""
    starts = np.cumsum([0, *map(len, texts)])
    groups: list[list[int]] = []
    for number, ids in enumerate(texts):
        open_ = [each for each in groups if len(texts[each[0]]) == len(ids) and len(each) < most]
        if open_:
            open_[0].append(number)
        else:
            groups.append([number])
    return [_shown(model, texts, starts, group, options) for group in groups]


def _shown(model: attnxr.Model, texts: Any, starts: Any, group: list[int], options: Any) -> Shown:
    encodings = [model.encode(token_ids=texts[number], **options) for number in group]
    found = [model.neighbors(enc, k=4) for enc in encodings]
    near = {
        name: np.stack([each[name].values for each in found], axis=2)
        for name in ("neighbor_id", "distance", "in_sequence", "own_rank", "own_distance")
    }
    batch = Batch(
        text=np.array(group),
        position=np.stack([starts[number] + np.arange(len(texts[number])) for number in group]),
        token_id=np.stack([enc.token_id.values for enc in encodings]),
        is_special=np.stack([enc.is_special.values for enc in encodings]),
    )
    return Shown(batch, encodings, Near(**near))


def facts(model: attnxr.Model, texts: Sequence[Sequence[int]], causal: bool) -> Facts:
    n_tokens = sum(map(len, texts))
    return Facts(tuple(range(model.n_layers)), model.n_heads, model.vocab_size, 4, len(texts), n_tokens, SEED, causal)


def state_of(measure: Measure, about: Facts, shown: Sequence[Shown], model: Any = None) -> State:
    """What a measure makes of some batches, one after the other."""
    state = measure.begin(about)
    for each in shown:
        if "attention" in measure.needs:
            for layer in range(len(about.layers)):
                stacked = np.stack([enc.attention.values[layer] for enc in each.encodings])
                measure.see_attention(state, each.batch, layer, torch.tensor(stacked))
        if "neighbors" in measure.needs:
            measure.see_neighbors(state, each.batch, each.near)
        if "sample" in measure.needs:
            for number, enc in zip(each.batch.text.tolist(), each.encodings, strict=True):
                measure.see_text(state, number, model, enc)
    return state


def tree(model: attnxr.Model, texts: Sequence[Sequence[int]], names: Sequence[str], sample: int = 3) -> xr.DataTree:
    """A corpus as `attnxr.open_corpus` gives it: ``tokens`` and ``atlas``, of the measures that are named."""
    about = facts(model, texts, bool(model.encode(token_ids=texts[0]).attrs["causal"]))
    shown = batches(model, texts)
    parts = []
    for name in names:
        measure = MEASURES[name]()
        of_measure = shown[:sample] if "sample" in measure.needs else shown
        parts.append(measure.finish(state_of(measure, about, of_measure, model), about))
    atlas = xr.merge(parts, join="exact", compat="no_conflicts", combine_attrs="drop_conflicts")
    atlas = atlas.assign_coords(layer=list(about.layers), head=list(range(about.n_heads)))
    atlas.attrs = {"model": model.name, "fingerprint": model.fingerprint, "causal": int(about.causal), "seed": SEED}
    atlas.attrs |= {"n_texts": about.n_texts, "n_tokens": about.n_tokens}
    ids = np.concatenate([np.array(text, np.int64) for text in texts])
    entries = model.vocabulary
    tokens = xr.Dataset(
        {
            "token_id": ("position", ids.astype(np.int32)),
            "is_special": ("position", entries.special[ids]),
            "row_size": ("text", np.array(list(map(len, texts)))),
            "vocab_token": ("vocab", entries.token),
            "vocab_text": ("vocab", entries.text),
        }
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(), "tokens": tokens, "atlas": atlas})


def weights(shown: Sequence[Shown]) -> list[tuple[int, Any, Any, Any]]:
    """Of each text its number, attention in float64, token ids and which are special, in the order of the corpus."""
    texts = [
        (number, enc.attention.values.astype(np.float64), enc.token_id.values, enc.is_special.values)
        for each in shown
        for number, enc in zip(each.batch.text.tolist(), each.encodings, strict=True)
    ]
    return sorted(texts, key=lambda text: text[0])
