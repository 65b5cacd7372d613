"""A corpus opened: what it holds, lazily; what there is to say of it; whether its files are what was written."""

import hashlib
from typing import Any

import numpy as np
import xarray as xr
import zarr

from attnxr.corpus.finish import failed, finished_files, is_finished
from attnxr.corpus.plan import PLAN, Plan
from attnxr.corpus.storage import Storage, at
from attnxr.corpus.unit import marker_of
from attnxr.errors import InputError


def open_corpus(store: Any) -> xr.DataTree:
    """Open what `attnxr.build_corpus` made, or has made of it so far; nothing is read before it is asked for.

    Parameters
    ----------
    store : str or Path
        A folder, or a URL that fsspec knows.

    Returns
    -------
    xr.DataTree
        Of dask arrays:

        - ``tokens``: ``token_id``, ``is_special``, ``text_id`` and ``text_position`` (position), ``row_size``, ``cut``
          and ``error`` (text), ``vocab_token`` and ``vocab_text`` (vocab). Texts lie end to end along ``position``, a
          contiguous ragged array; a text that could not be read has no positions.
        - ``atlas``: what was measured of each layer and head, once the corpus is finished.
        - ``results``: what was kept token by token, where anything was. Where there is nothing yet, or the text failed,
          ``neighbor_id`` is −1, ``own_rank`` 0 and a distance NaN.

        attrs: ``finished`` (1 or 0), ``units`` and ``units_done``.

    Raises
    ------
    InputError
        If there is no corpus, or not all of its texts have been read.

    Notes
    -----
    The tokens and the atlas that ``to_zarr`` has written of an opened corpus are opened too, without ``results``.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> texts = ["Time flies like an arrow.", "Fruit flies like a banana."]
    >>> built = attnxr.build_corpus(texts, "out.zarr", model, measures=["roles"])
    >>> corpus = attnxr.open_corpus("out.zarr")
    >>> one = corpus["atlas"].sel(layer=3, head=7)
    """
    storage = at(store)
    try:
        plan = Plan.read(storage)
    except InputError:
        if storage.exists(PLAN) or (saved := _saved(storage)) is None:
            raise
        return saved
    finished = is_finished(storage, plan)
    nodes = ["tokens"]
    if plan.options.keep:
        nodes.append("results")
    if finished and plan.measures:
        nodes.append("atlas")
    size = plan.options.unit_tokens
    opened = {name: _node(storage, name, size) for name in nodes}
    done = len(plan.units) if finished else sum(marker_of(storage, plan, number) is not None for number in plan.units)
    root = zarr.open_group(storage.zarr(), mode="r", use_consolidated=False)
    attrs = {**root.attrs.asdict(), "finished": int(finished), "units": len(plan.units), "units_done": done}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **opened})


def _saved(storage: Storage) -> xr.DataTree | None:
    """The tokens and the atlas that ``to_zarr`` has written of an opened corpus; None where there are none.

    A store whose texts are still being read has no plan either, and no atlas.
    """
    try:
        opened = {name: _node(storage, name, 0) for name in ("tokens", "atlas")}
    except OSError:
        return None
    root = zarr.open_group(storage.zarr(), mode="r", use_consolidated=False)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=root.attrs.asdict()), **opened})


def _node(storage: Storage, name: str, unit_tokens: int) -> xr.Dataset:
    opened = xr.open_zarr(storage.zarr(), group=name, consolidated=False, chunks={}, decode_times=False)
    opened = opened[sorted(map(str, opened.data_vars))]  # found in any order
    if "position" in opened.dims and name == "results":
        opened = opened.chunk(position=unit_tokens)
    return opened


def info(store: Any) -> dict[str, Any]:
    """Say what a corpus holds, finished or not.

    Parameters
    ----------
    store : str or Path

    Returns
    -------
    dict
        ``store``, ``finished``, ``units``, ``units_done``, ``texts``, ``tokens``, ``texts_cut``, ``failed`` (why there
        is nothing of a text, by its number), ``not_shown`` (why a measure could not take in a text of the sample),
        ``sample`` (numbers of its texts), and ``settings``: the model, options, source of the texts and versions.

    Raises
    ------
    InputError
        If there is no corpus, or not all of its texts have been read.
    """
    storage = at(store)
    plan = Plan.read(storage)
    markers = [marker for number in plan.units if (marker := marker_of(storage, plan, number)) is not None]
    tokens: Any = zarr.open_group(storage.zarr(), mode="r", path="tokens", use_consolidated=False)
    return {
        "store": storage.url,
        "finished": is_finished(storage, plan),
        "units": len(plan.units),
        "units_done": len(markers),
        "texts": plan.n_texts,
        "tokens": plan.n_tokens,
        "texts_cut": int(np.count_nonzero(tokens["cut"][:])),
        "failed": dict(sorted(failed(plan, markers).items())),
        "not_shown": {name: why for marker in markers for name, why in marker["not_shown"].items()},
        "sample": list(plan.sample),
        "settings": plan.settings,
    }


def verify(store: Any) -> dict[str, Any]:
    """Read every file of a corpus, and compare it with the checksum that was noted when it was written.

    Parameters
    ----------
    store : str or Path

    Returns
    -------
    dict
        ``passed``, whether all are as they were written; ``finished``; ``files``, how many were read; ``missing`` and
        ``changed``, the names of those that are not there, and that are not what was written. Removing the marker of a
        unit, ``attnxr/units/….json``, and ``attnxr/finished.json`` has `attnxr.build_corpus` do that unit again.

    Raises
    ------
    InputError
        If there is no corpus, or not all of its texts have been read.
    """
    storage = at(store)
    plan = Plan.read(storage)
    expected = dict(plan.files)
    for number in plan.units:
        expected |= (marker_of(storage, plan, number) or {"files": {}})["files"]
    at_the_end = finished_files(storage, plan)
    if at_the_end is None:
        del expected["zarr.json"]  # which is written once more at the end
    else:
        expected |= at_the_end
    missing, changed = [], []
    for name, digest in sorted(expected.items()):
        try:
            data = storage.get(name)
        except FileNotFoundError:
            missing.append(name)
            continue
        if hashlib.sha256(data).hexdigest() != digest:
            changed.append(name)
    return {
        "passed": not missing and not changed,
        "finished": at_the_end is not None,
        "files": len(expected) - len(missing),
        "missing": missing,
        "changed": changed,
    }
