"""Texts run through a model, and the Dataset of encodings that this gives."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from attnxr import checking, schema
from attnxr.errors import InputError
from attnxr.inputs.tokenized import types_for
from attnxr.options import Include, Stack
from attnxr.probe import capture
from attnxr.probe.stacks import DecoderWindow
from attnxr.query.snapshot import Snapshot
from attnxr.query.stack import Source, attrs_of_sources
from attnxr.texts import PLACES, attrs_of
from attnxr.tokens import Tokens


def encoded(
    seen: Snapshot,
    name: str,
    texts: Sequence[str],
    tokens: Sequence[Tokens],
    include: tuple[Include, ...],
    causal: bool | None,
    stack: Stack | None = None,
    sources: Sequence[Source] = (),
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
    stack : str or None
        What of an encoder-decoder that is; None for other models.
    sources : sequence of Source
        What the encoder was given for each text of a decoder; none for other models.

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
    windows = [seen.window] * len(tokens)
    if isinstance(seen.window, DecoderWindow):
        windows = [seen.window.reading(source.states) for source in sources]
    parts = []
    for window, one, of_one in zip(windows, tokens, types, strict=True):
        part = capture.encode(window, one.ids, include, causal, of_one)
        if several:
            del part["attention"]
        parts.append(part)
    if not seen.is_current():
        raise InputError(
            "The model's weights were changed or moved while the text ran through it; expected weights that "
            "stay as they are during a call. Encode the text again."
        )
    data = {
        _variable(each, seen): (
            _dims(each, seen),
            np.concatenate([part[each].numpy() for part in parts], axis=-2) if several else parts[0][each].numpy(),
        )
        for each in parts[0]
    }
    coords, layout = _coords(tokens, seen), seen.window.layout
    read_as = [text.replace("\0", "␀") for text in texts]  # NetCDF strings end at a NUL
    if several:
        coords["source"] = ("source_id", np.array(read_as, object))
        if sources:
            coords["encoder_source"] = ("source_id", np.array([source.text for source in sources], object))
    if seen.window.stack == "cross":
        coords |= _key_coords(sources[0], seen)
    if {"key_vector", "value_vector"} & set(include):
        coords["kv_head"] = np.arange(layout.n_kv_heads)
    dataset = xr.Dataset(data, coords=coords)
    dataset.attrs = {
        "model": name,
        "fingerprint": seen.fingerprint,
        **({} if several else {"text": read_as[0], **_said(tokens[0])}),
        **attrs_of([one.ids for one in tokens], types),
        **({} if stack is None else {"stack": stack}),
        **attrs_of_sources(sources),
        **({"heads_per_value": layout.n_heads // layout.n_kv_heads} if stack == "cross" else {}),
        "causal": int(layout.causal if causal is None else causal),
        "truncated": sum(one.cut for one in tokens) + sum(source.cut for source in sources),
        **{f"{package}_version": version(package) for package in ("attnxr", "torch", "transformers")},
    }
    return schema.describe(dataset, schema.ENCODINGS)


def _said(tokens: Tokens) -> dict[str, Any]:
    return {name: value.replace("\0", "␀") if isinstance(value, str) else value for name, value in tokens.said.items()}


def _coords(tokens: Sequence[Tokens], seen: Snapshot) -> dict[str, Any]:
    ids = np.array([i for one in tokens for i in one.ids])
    coords: dict[str, Any] = {
        "layer": np.array(seen.window.layout.layers),
        "head": np.arange(seen.window.layout.n_heads),
        "position": np.arange(len(ids)),
        "token": ("position", seen.tokens.token[ids]),
        "text": ("position", seen.tokens.text[ids]),
        "token_id": ("position", ids),
        **{name: ("position", np.array([i for one in tokens for i in getattr(one, name)])) for name in PLACES},
        "is_special": ("position", seen.tokens.special[ids]),
    }
    if len(tokens) > 1:
        lengths = [len(one.ids) for one in tokens]
        coords["text_id"] = ("position", np.repeat(np.arange(len(tokens)), lengths))
        coords["text_position"] = ("position", np.concatenate([np.arange(n) for n in lengths]))
    return coords


def _key_coords(source: Source, seen: Snapshot) -> dict[str, Any]:
    """The tokens of the encoder's text; of what is given as numbers, only how many."""
    coords: dict[str, Any] = {"key_position": np.arange(source.states.shape[1])}
    if source.ids:
        coords["key_token_id"] = ("key_position", np.array(source.ids))
        coords["key_token"] = ("key_position", source.names.token[source.ids])
        coords["key_text"] = ("key_position", source.names.text[source.ids])
    return coords


def _variable(name: str, seen: Snapshot) -> str:
    of_encoder = seen.window.stack == "cross" and name in ("key_vector", "value_vector")
    return f"encoder_{name}" if of_encoder else name


def _dims(name: str, seen: Snapshot) -> tuple[str, ...]:
    dims, layout = schema.ENCODINGS[_variable(name, seen)].dims, seen.window.layout
    if name in ("query_vector", "key_vector") and layout.key_size != layout.head_size:
        return tuple("key_feature" if dim == "feature" else dim for dim in dims)
    return dims
