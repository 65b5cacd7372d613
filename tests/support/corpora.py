"""A corpus as it is opened, beside the same in memory: texts end to end, their neighbours, repeated to any length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import attnxr
from attnxr.texts import OF_TEXTS, attrs_of

KEPT = ("neighbor_id", "distance", "in_sequence", "own_rank", "own_distance")


def in_memory(model: attnxr.Model, texts: Sequence[Sequence[int]], times: int = 1, **options: Any) -> xr.Dataset:
    """Neighbours of texts of which each stands there so many times, as `Model.neighbors` returns them of all."""
    parts = [model.neighbors(model.encode(token_ids=list(ids)), **options) for ids in texts]
    parts = [part.drop_vars("position") for part in parts] * times
    near = xr.concat(parts, "position", combine_attrs="override")
    lengths = [part.sizes["position"] for part in parts]
    near = near.assign_coords(
        position=np.arange(sum(lengths)),
        text_id=("position", np.repeat(np.arange(len(lengths)), lengths)),
        text_position=("position", np.concatenate([np.arange(length) for length in lengths])),
        source=("source_id", np.full(len(lengths), "", object)),
    )
    attrs = {name: value for name, value in near.attrs.items() if name not in (*OF_TEXTS, "text")}
    near.attrs = attrs | attrs_of([*texts] * times, [])
    return near


def write(near: xr.Dataset, model: attnxr.Model, folder: Path, chunk: int, failed: Sequence[int] = ()) -> Path:
    """What `attnxr.build_corpus` would leave of these neighbours: the groups ``tokens`` and ``results``.

    Of texts that failed there is nothing, and an error.
    """
    row_size = np.bincount(near["text_id"].values)
    error = np.full(len(row_size), "", object)
    error[list(failed)] = "it failed"
    lost = np.isin(near["text_id"].values, list(failed))
    names = ("token_id", "is_special", "text_id", "text_position")
    of_position = {name: ("position", near[name].values) for name in names}
    of_position["token_id"] = "position", near["token_id"].values.astype(np.int32)
    tokens = xr.Dataset(
        {
            **of_position,
            "row_size": ("text", row_size),
            "error": ("text", error),
            "vocab_token": ("vocab", model.vocabulary.token),
            "vocab_text": ("vocab", model.vocabulary.text),
        }
    )
    results = near.drop_vars([name for name in near.coords if name not in ("layer", "head", "rank")])[list(KEPT)]
    nothing = {"neighbor_id": -1, "own_rank": 0, "in_sequence": False}
    for name, variable in results.data_vars.items():
        values = variable.values.copy()
        values[:, :, lost] = nothing.get(str(name), np.nan)
        results[name] = variable.dims, values, variable.attrs
    results.attrs = {name: value for name, value in near.attrs.items() if name not in OF_TEXTS}
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"finished": 1}), "tokens": tokens, "results": results})
    sizes = {"position": chunk, "text": 1000}
    encoding = {
        f"/{group}": {
            str(name): {"chunks": tuple(sizes.get(str(dim), size) for dim, size in variable.sizes.items())}
            for name, variable in dataset.variables.items()
            if variable.dims != () and variable.dtype != object
        }
        for group, dataset in (("tokens", tokens), ("results", results))
    }
    tree.to_zarr(folder, zarr_format=3, consolidated=False, encoding=encoding)
    return folder


def opened(folder: Path) -> xr.DataTree:
    """The corpus, lazily, in the chunks it was written in."""
    return xr.open_datatree(folder, engine="zarr", chunks={}, consolidated=False)
