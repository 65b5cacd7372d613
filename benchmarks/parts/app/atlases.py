"""Corpora of random numbers, as large as those of real models: what a page of many heads is measured with."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from attnxr.corpus.declared import ATLAS

WORDS = 2_000
_TEXTS, _LENGTH = 400, 60
_INTERVALS = np.repeat([11, *range(10, 0, -1)], [10] + [3] * 10)
_SIZES = {
    "order": 20,
    "offset": 75,
    "rank_bin": 16,
    "example": len(_INTERVALS),
    "attended": 8,
    "decile": 10,
    "activation_bin": 50,
    "replacement": 3,
    "measure": 10,
}


def write(folder: Path, layers: int, heads: int) -> Path:
    """Write a corpus of as many heads, each with all that is measured of one; gives the folder."""
    rng = np.random.default_rng(0)
    sizes = {**_SIZES, "layer": layers, "head": heads}
    found: dict[str, Any] = {}
    for name, spec in ATLAS.items():
        if spec.dtype == "str" or name.startswith("quoted_"):
            continue  # what `attnxr.atlas` adds
        shape = tuple(sizes[dim] for dim in spec.dims)
        whole = spec.dtype.startswith("int")
        numbers = rng.integers(0, WORDS, shape) if whole else rng.random(shape)
        found[name] = spec.dims, np.asarray(numbers).astype(spec.dtype)
    per_example = tuple(sizes[dim] for dim in ("layer", "head", "example"))
    found["example_text_id"] = ("layer", "head", "example"), rng.integers(0, _TEXTS, per_example)
    for name in ("example_query", "example_key"):
        found[name] = ("layer", "head", "example"), rng.integers(1, _LENGTH - 1, per_example).astype(np.int32)
    attended = rng.integers(0, _LENGTH, (*per_example, _SIZES["attended"])).astype(np.int32)
    found["example_attended"] = ("layer", "head", "example", "attended"), attended
    found["example_interval"] = ("example",), _INTERVALS
    edges = np.concatenate([[1], 2 ** np.arange(_SIZES["rank_bin"])])
    found["rank_low"], found["rank_high"] = ("rank_bin", edges[:-1] + 1), ("rank_bin", edges[1:])
    found["offset_low"] = found["offset_high"] = ("offset",), np.arange(_SIZES["offset"]) - _SIZES["offset"] // 2
    coords = {
        "layer": np.arange(layers),
        "head": np.arange(heads),
        "replacement": np.array(["mean", "neighbor", "own"], object),
        "measure": np.array([f"measure {i}" for i in range(_SIZES["measure"])], object),
        "decile": np.arange(1, 11),
    }
    named = {name: found[name] for name in found if name not in coords}
    atlas = xr.Dataset(named, coords, {"model": "random", "fingerprint": "0", "n_texts": _TEXTS, "causal": 0})
    words = np.array([f" word{i}" for i in range(WORDS)], object)
    ids = rng.integers(0, WORDS, _TEXTS * _LENGTH)
    tokens = xr.Dataset(
        {
            "token_id": ("position", ids.astype(np.int32)),
            "is_special": ("position", np.zeros(len(ids), bool)),
            "row_size": ("text", np.full(_TEXTS, _LENGTH)),
            "vocab_token": ("vocab", words),
            "vocab_text": ("vocab", words),
        }
    )
    tree = xr.DataTree.from_dict({"/": xr.Dataset(), "tokens": tokens, "atlas": atlas})
    tree.to_zarr(folder, zarr_format=3, consolidated=False)
    return folder
