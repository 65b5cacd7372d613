"""What of an answer is computed only on demand: each kind by its name, from the answer and its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from attnxr import texts
from attnxr.analysis.attribute import promoted
from attnxr.analysis.decompose import decompose
from attnxr.analysis.effects import effects
from attnxr.analysis.hubness import hubness
from attnxr.analysis.maps import encoding_map
from attnxr.analysis.origins import origins
from attnxr.analysis.power import significance_power
from attnxr.analysis.roles import roles
from attnxr.analysis.significance import significance
from attnxr.analysis.trajectories import trajectories
from attnxr.dashboard.session.answer import Answer, Aspect, Report, framed
from attnxr.errors import InputError
from attnxr.inputs.tokenized import given_again
from attnxr.model import Model
from attnxr.options import VARIABLE

__all__ = ["KINDS", "UNASKED", "Aspect", "Kind", "compute"]

N_HUBS = 5
N_MAPPED = 5
N_WORDS = 5
N_PROMOTED = 5
N_TRIED = 14
"""At so many positions the power is measured: each head and position is a trial, and what it costs grows with them."""
Kind = Callable[[Answer, Model, Aspect, Report], xr.Dataset]
"""Computes an aspect of an answer. What `Report` raises ends the work, so it is told often."""


def compute(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """Compute an aspect of an answer.

    Parameters
    ----------
    answer : Answer
        Of which.
    model : Model
        The model that the answer is of, its stack the one that is meant: see `Request.of_stack`.
    aspect : Aspect
        What is wanted.
    report : callable
        Told what is being done, and what fraction of it is done where that is known. It may raise, which
        ends the work.

    Returns
    -------
    xarray.Dataset
        What the aspect's kind says.
    """
    return KINDS[aspect.kind](answer, model, aspect, report)


def _significance(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.significance` says of one layer, over all heads and positions."""
    message = f"Drawing by chance what layer {answer.layers[aspect.layer or 0]} is held against"
    report(message, 0.0)
    found = significance(
        model,
        answer.encodings.isel(layer=[aspect.layer]),
        k=min(answer.request.k, model.vocab_size),
        **answer.request.question,
        progress=lambda fraction: report(message, fraction),
    )
    return framed(found)


def _signal(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """The same of one vector alone: its p-values are those, its q-values are not."""
    report("Holding the chosen head against chance", None)
    _, *heads, _, _ = answer.encodings[VARIABLE[answer.request.of]].dims
    column = {dim: [answer.column(aspect.head or 0)] for dim in heads}
    here = answer.encodings.isel({"layer": [aspect.layer], "position": [aspect.position], **column})
    return framed(significance(model, here, k=1, **answer.request.question))


def _power(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.significance_power` says of one layer, at positions all over the text."""
    request = answer.request
    if (request.of, request.space) != ("encoding", "value"):
        raise InputError("Power is measured of head encodings against values; this is another question.")
    message = f"Trying how near to a word is found in layer {answer.layers[aspect.layer or 0]}"
    report(message, 0.0)
    spread = np.linspace(0, answer.n_positions - 1, min(N_TRIED, answer.n_positions)).round().astype(int)
    return significance_power(
        model,
        answer.encodings.isel(layer=[aspect.layer], position=spread),
        metric=request.metric,
        vocab_layer=request.vocab_layer,
        positional=request.positional,
        progress=lambda fraction: report(message, fraction),
    )


def _origins(answer: Answer, _model: Model, aspect: Aspect, _report: Report) -> xr.Dataset:
    """What `attnxr.origins` says of one layer."""
    return origins(answer.near.isel(layer=[aspect.layer]))


def _overlap(answer: Answer, _model: Model, aspect: Aspect, _report: Report) -> xr.Dataset:
    """What `attnxr.overlap` says of one layer and the one before it."""
    assert aspect.layer
    assert answer.overlap is not None
    return answer.overlap.isel(layer=[aspect.layer - 1])  # it begins with the second layer


def _hubness(answer: Answer, _model: Model, aspect: Aspect, _report: Report) -> xr.Dataset:
    """What `attnxr.hubness` says of one layer, over all heads and positions."""
    here = answer.near.isel(layer=[aspect.layer])
    return hubness(here, hubs=min(N_HUBS, int(here.attrs["vocab_size"])), over=("head", "position"))


def _stream(answer: Answer, model: Model, _aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.trajectories` says of the neighbours and of the residual stream after each attention."""
    request, message = answer.request, "Following the residual stream"
    report(message, None)
    ((token_ids,), (types,)) = texts.token_ids(answer.encodings), texts.token_types(answer.encodings)
    options: Any = {"include": ["residual"], "causal": request.causal}
    if request.stack is None:
        encodings = model.encode(given_again(token_ids, types), **options)
    else:
        (read,) = texts.encoder_ids(answer.encodings)
        encodings = model.encode(token_ids=read, target=token_ids, stack=request.stack, **options)
    encodings = encodings.sel(layer=answer.layers)
    stream = model.neighbors(
        encodings,
        k=1,
        metric=request.metric,
        of="residual",
        space="unembedding" if request.space == "unembedding" else "embedding",
        positional=request.positional,
        progress=lambda fraction: report(message, fraction),
    )
    return trajectories(answer.near, stream)


def _map(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.encoding_map` makes of a head, of one token over layers or one layer over tokens."""
    report("Laying out the map", None)
    over_layers = aspect.layer is None
    at = {"position": aspect.position} if over_layers else {"layer": aspect.layer}
    ranks = slice(N_MAPPED if over_layers or answer.n_positions <= 60 else 1)  # as many points as can be looked at
    here = {answer.columns: answer.column(aspect.head or 0)} if answer.columns else {}
    metric = answer.request.metric
    return encoding_map(
        model,
        answer.encodings,
        answer.neighbors.isel({**here, "rank": ranks, **at}),
        method=aspect.method or "pca",  # type: ignore[arg-type]
        metric="euclidean" if metric == "dot" else metric,
    )


def _decomposition(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.decompose` says of one layer, in words of its own, the only ones that its heads could write."""
    message = f"Finding words that add up to what layer {answer.layers[aspect.layer or 0]} wrote"
    report(message, 0.0)
    return decompose(
        model,
        answer.encodings.isel(layer=[aspect.layer]),
        n=min(N_WORDS, model.head_size, model.vocab_size),
        include=["approximation"],
        vocab_layer="same",
        progress=lambda fraction: report(message, fraction),
    )


def _effects(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.effects` says of one layer's head at one token, the words of `_decomposition` put there too.

    Of one token, as each replacement is a pass over the whole text: all tokens of a long one would take minutes.
    """
    of_words = Aspect("decomposition", aspect.layer)
    words = answer.aspects.get(of_words)
    if words is None:
        words = _decomposition(answer, model, of_words, report)
    message = f"Replacing what layer {answer.layers[aspect.layer or 0]} wrote"
    of_layer = answer.encodings.isel(layer=[aspect.layer])
    here = {"head": [aspect.head], "position": [aspect.position]}
    together = words["approximation"].isel({**here, "step": [-1]}).assign_coords(step=["words"])
    return effects(
        model,
        of_layer.isel(here),
        by=["zero", "mean", "neighbor", "own", together],
        mean=of_layer["head_encoding"].isel(head=[aspect.head]).mean("position"),
        progress=lambda fraction: report(message, fraction),
    )


def _effect(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.effects` says of one head at one token, with its nearest word of the own layer in its place."""
    message = "Putting the nearest word in the chosen head's place"
    report(message, None)
    of_head = answer.encodings.isel(layer=[aspect.layer], head=[aspect.head])
    return effects(
        model,
        of_head.isel(position=[aspect.position]),
        by="neighbor",
        mean=of_head["head_encoding"].mean("position"),
        progress=lambda fraction: report(message, fraction),
    )


def _recovered(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.effects` says of every head at one token, with its nearest word of the own layer in its place."""
    message = f"Replacing what all heads wrote at position {aspect.position}"
    return effects(
        model,
        answer.encodings.isel(position=[aspect.position]),
        by="neighbor",
        mean=answer.encodings["head_encoding"].mean("position"),
        progress=lambda fraction: report(message, fraction),
    )


def _roles(answer: Answer, _model: Model, _aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.roles` says of the text."""
    report("Looking where heads look", None)
    return roles(answer.encodings)


def _promoted(answer: Answer, model: Model, aspect: Aspect, report: Report) -> xr.Dataset:
    """What `attnxr.promoted` says of one layer."""
    message = f"Following what layer {answer.layers[aspect.layer or 0]} wrote to the logits"
    report(message, 0.0)
    return promoted(
        model,
        answer.encodings.isel(layer=[aspect.layer]),
        k=min(N_PROMOTED, model.vocab_size),
        progress=lambda fraction: report(message, fraction),
    )


KINDS: dict[str, Kind] = {
    "significance": _significance,
    "signal": _signal,
    "power": _power,
    "origins": _origins,
    "overlap": _overlap,
    "hubness": _hubness,
    "map": _map,
    "stream": _stream,
    "decomposition": _decomposition,
    "effects": _effects,
    "effect": _effect,
    "recovered": _recovered,
    "roles": _roles,
    "promoted": _promoted,
}
UNASKED = frozenset({"signal", "effect"})
"""Kinds that are computed of every choice that rests, though nobody asked for them."""
