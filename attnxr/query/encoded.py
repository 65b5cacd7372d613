"""Texts run through a model, and the Dataset of encodings that this gives."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from attnxr import checking, schema
from attnxr.errors import InputError
from attnxr.inputs.tokenized import types_for
from attnxr.options import Include
from attnxr.probe import capture
from attnxr.query.snapshot import Snapshot
from attnxr.texts import attrs_of
from attnxr.tokens import Tokens


def encoded(
    seen: Snapshot,
    name: str,
    texts: Sequence[str],
    tokens: Sequence[Tokens],
    include: tuple[Include, ...],
    causal: bool | None,
) -> xr.Dataset:
    """Run texts through the model, one after the other, and lay them end to end along ``position``.

    Parameters
    ----------
    seen : Snapshot
        Of the model.
    name : str
        What the model is called.
    texts : sequence of str
        What the user gave; empty strings for ids.
    tokens : sequence of Tokens
        Of each text.
    include : tuple of str
        See `Model.encode`.
    causal : bool or None
        Whether tokens may look only backwards; None is the model's own way.

    Returns
    -------
    xr.Dataset
        See `Model.encode`.

    Raises
    ------
    InputError
        If ids or types are out of range, or the weights change meanwhile.
    UnsupportedModelError
        As `attnxr.probe.capture.encode`.
    """
    for one in tokens:
        checking.vocabulary_ids(one.ids, seen.vocabulary.size, name)
    types = [types_for(seen.window, one.types, seen.vocabulary.size) for one in tokens]
    several = len(tokens) > 1
    parts = []
    for one, of_one in zip(tokens, types, strict=True):
        part = capture.encode(seen.window, one.ids, include, causal, of_one)
        if several:
            del part["attention"]
        parts.append(part)
    if not seen.is_current():
        raise InputError(
            "The model's weights were changed or moved while the text ran through it; expected weights that "
            "stay as they are during a call. Encode the text again."
        )
    data = {
        each: (
            _dims(each, seen),
            np.concatenate([part[each].numpy() for part in parts], axis=-2) if several else parts[0][each].numpy(),
        )
        for each in parts[0]
    }
    coords = _coords(tokens, seen)
    read_as = [text.replace("\0", "␀") for text in texts]  # NetCDF strings end at a NUL
    if several:
        coords["source"] = ("source_id", np.array(read_as, object))
    if {"key_vector", "value_vector"} & set(include):
        coords["kv_head"] = np.arange(seen.window.layout.n_kv_heads)
    dataset = xr.Dataset(data, coords=coords)
    dataset.attrs = {
        "model": name,
        "fingerprint": seen.fingerprint,
        **({} if several else {"text": read_as[0]}),
        **attrs_of([one.ids for one in tokens], types),
        "causal": int(seen.window.layout.causal if causal is None else causal),
        "truncated": sum(one.cut for one in tokens),
        **{f"{package}_version": version(package) for package in ("attnxr", "torch", "transformers")},
    }
    return schema.describe(dataset, schema.ENCODINGS)


def _coords(tokens: Sequence[Tokens], seen: Snapshot) -> dict[str, Any]:
    ids = np.array([i for one in tokens for i in one.ids])
    coords: dict[str, Any] = {
        "layer": np.array(seen.window.layout.layers),
        "head": np.arange(seen.window.layout.n_heads),
        "position": np.arange(len(ids)),
        "token": ("position", seen.tokens.token[ids]),
        "text": ("position", seen.tokens.text[ids]),
        "token_id": ("position", ids),
        **{
            name: ("position", np.array([i for one in tokens for i in getattr(one, name)]))
            for name in ("char_start", "char_end", "word")
        },
        "is_special": ("position", seen.tokens.special[ids]),
    }
    if len(tokens) > 1:
        lengths = [len(one.ids) for one in tokens]
        coords["text_id"] = ("position", np.repeat(np.arange(len(tokens)), lengths))
        coords["text_position"] = ("position", np.concatenate([np.arange(n) for n in lengths]))
    return coords


def _dims(name: str, seen: Snapshot) -> tuple[str, ...]:
    dims, layout = schema.ENCODINGS[name].dims, seen.window.layout
    if name in ("query_vector", "key_vector") and layout.key_size != layout.head_size:
        return tuple("key_feature" if dim == "feature" else dim for dim in dims)
    return dims
