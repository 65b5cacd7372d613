"""From a visitor's request to its answer: the one place where the dashboard asks the library for one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import xarray as xr

from attnxr.analysis.sequence import sequence_neighbors
from attnxr.dashboard.session.answer import Answer, Report, Request
from attnxr.dashboard.session.asking import READ_WORDS
from attnxr.dashboard.session.opened import Opened, model_for
from attnxr.errors import InputError
from attnxr.inputs.continuation import Continuation
from attnxr.inputs.reading import arguments
from attnxr.model import Model
from attnxr.options import INCLUDE, VARIABLE, Metric, ReadAs, Stack
from attnxr.search.nearest import Progress, told_to
from attnxr.texts import OF_TEXTS, same_attr
from attnxr.tokens import VocabularyTokens

N_NEIGHBORS = 15
"""So many of the nearest vocabulary tokens are found on a new page."""
N_SEQUENCE = 10
"""So many of the nearest other positions of the text."""
_BYTES = 1 << 24  # what distances between positions that are at hand at once may take


def answer_request(
    request: Request, load: Callable[[str], Model], report: Report, previous: Answer | None = None
) -> Answer:
    """Compute what a request asks for.

    Parameters
    ----------
    request : Request
        What is asked.
    load : callable
        Gives the model of a name.
    report : callable
        See `Report`.
    previous : Answer, optional
        An earlier answer; its encodings serve again where texts, mask, model and stack are the same.

    Returns
    -------
    Answer
        The results with their request.
    """
    if request.opened is not None:
        return _from_file(request, request.opened, load, report)
    report(f"Loading {request.model}", None)
    model = request.of_stack(load(request.model))
    if previous is not None and _same_encodings(previous, request, model):
        encodings = previous.encodings
    else:
        report("Running the model", None)
        encodings = _encode(model, request, report)
    neighbors = _neighbors(model, encodings, request, report)
    sequence = _sequence(encodings, request, report)
    report(f"Checking {request.model}", None)
    return Answer(request, encodings, neighbors, sequence, model.vocab_size, *_ABOUT(model))


def nearest_positions(encodings: xr.Dataset, metric: Metric, progress: Progress | None = None) -> xr.Dataset:
    """Other positions of the text at which a head wrote something most like what it wrote at one.

    Worked out once for all clicks, and a few layers at a time: the distances between all positions in all layers and
    heads would fill hundreds of megabytes.

    Parameters
    ----------
    encodings : xarray.Dataset
        What ``model.encode`` returns.
    metric : {"cosine", "euclidean", "dot", "centered_cosine"}
        How distance is measured.
    progress : callable, optional
        Told what fraction is done.

    Returns
    -------
    xarray.Dataset
        ``neighbor_position`` and ``distance`` (layer, head, position, rank) of `attnxr.sequence_neighbors`, as many as
        there are up to `N_SEQUENCE`; without ranks where the text is one token.
    """
    n_layers, k = encodings.sizes["layer"], min(N_SEQUENCE, encodings.sizes["position"] - 1)
    if k == 0:
        dims = {dim: encodings.sizes[dim] for dim in ("layer", "head", "position")} | {"rank": 0}
        nothing = {"neighbor_position": np.int64, "distance": np.float32}
        return xr.Dataset({name: (tuple(dims), np.empty(tuple(dims.values()), kind)) for name, kind in nothing.items()})
    # Some layers at a time: what a call costs besides its sums is most of a short text's time.
    at_once = max(1, _BYTES // (8 * encodings.sizes["head"] * encodings.sizes["position"] ** 2))
    told, parts = told_to(progress), []
    for start in range(0, n_layers, at_once):
        near = sequence_neighbors(encodings.isel(layer=slice(start, start + at_once)), k=k, metric=metric)
        parts.append(near[["neighbor_position", "distance"]].reset_coords(drop=True))
        told(min(start + at_once, n_layers) / n_layers)
    return xr.concat(parts, "layer", data_vars="all", coords="minimal", compat="override", join="override")


def _from_file(request: Request, opened: Opened, load: Callable[[str], Model], report: Report) -> Answer:
    """What a file holds of a request, and of the model it came from what it does not hold."""
    same_mask = request.causal == bool(opened.saved.attrs["causal"])
    encodings = opened.saved.encodings if same_mask else None
    near, model = opened.saved.neighbors if same_mask else None, None
    if near is not None and any(opened.inputs[name] != getattr(request, name) for name in (*request.question, "k")):
        near = None
    if near is None and encodings is not None and VARIABLE[request.of] not in encodings:
        encodings = None
    if encodings is None:
        report(f"Loading {request.model}", None)
        model = model_for(opened, request.model, load, "To encode the text")
        report("Running the model", None)
        encodings = _encode_again(model, request, opened.saved.either, report)
        if not all(same_attr(encodings, opened.saved.either, name) for name in OF_TEXTS):
            raise InputError(
                f"{opened.name} has other tokens than {opened.model!r} reads in its text, as where it was made of "
                "token_ids. Save the encodings with the neighbours."
            )
    if near is None:
        report(f"Loading {request.model}", None)
        model = model or model_for(opened, request.model, load, "To search its vocabulary")
        near = _neighbors(model, encodings, request, report)
    sequence = _sequence(encodings, request, report)
    about: About = (xr.Dataset(), None, (), False, ()) if model is None else _ABOUT(model)
    return Answer(request, encodings, near, sequence, int(near.attrs["vocab_size"]), *about)


def _encode(model: Model, request: Request, report: Report) -> xr.Dataset:
    options = _options(request)
    given = arguments(request.text, request.read_as)
    if request.continued:
        message = f"Generating {request.continued} tokens"
        report(message, 0.0)
        continued = model.generate(
            **given,
            n=request.continued,
            seed=request.seed,
            truncate=True,
            progress=lambda fraction: report(message, fraction),
        )
        return model.encode(continued, **options)
    if request.stack is not None:
        options |= {"stack": request.stack, "target": _target(request)}
    return model.encode(**given, truncate=True, **options)


def _target(request: Request) -> str:
    """What the decoder is to read; raises InputError where there is nothing, or it would be read in another way."""
    if not request.target.strip():
        raise InputError(
            "Type a target, in the box below the text: the decoder reads it while it reads what the encoder makes of "
            "the text."
        )
    if request.read_as != "text":
        raise InputError(
            f"A target was to be read as “{READ_WORDS[request.read_as]}”. Expected “{READ_WORDS['text']}”: a target is "
            "read as the model's labels are, with the special tokens that the tokenizer puts around a text."
        )
    return request.target


def _encode_again(model: Model, request: Request, saved: xr.Dataset, report: Report) -> xr.Dataset:
    """The encodings of a file's text; what a model wrote behind it stands in the file, and is not written again."""
    if "generated" in saved.attrs:
        return model.encode(Continuation.of(saved), **_options(request))
    return _encode(model, request, report)


def _options(request: Request) -> dict[str, Any]:
    variable = VARIABLE[request.of]
    return {"include": [variable] if variable in INCLUDE else [], "causal": request.causal}


def _neighbors(model: Model, encodings: xr.Dataset, request: Request, report: Report) -> xr.Dataset:
    report("Searching the vocabulary", 0.0)
    return model.neighbors(
        encodings,
        k=min(request.k, model.vocab_size),
        **request.question,
        progress=lambda fraction: report("Searching the vocabulary", fraction),
    )


def _sequence(encodings: xr.Dataset, request: Request, report: Report) -> xr.Dataset:
    report("Comparing the text's tokens", 0.0)
    return nearest_positions(
        encodings, request.metric, lambda fraction: report("Comparing the text's tokens", fraction)
    )


About = tuple[xr.Dataset, xr.Dataset | None, tuple[ReadAs, ...], bool, tuple[Stack, ...]]
"""What a model's check of itself found, which questions it answers, how it reads, whether it continues a text, and its
stacks."""


class _About:
    """What each model's check of itself found and what it can be asked, of each of its stacks.

    As long as it is there and has the same weights: with others it has another vocabulary object.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: WeakKeyDictionary[VocabularyTokens, About] = WeakKeyDictionary()

    def __call__(self, model: Model) -> About:
        with self._lock:
            names = model.vocabulary
            found = self._found.get(names)
            if found is None:
                about = model.verify(), model.questions(), tuple(model.readings), model.can_generate, model.stacks
                found = self._found[names] = about
            return found


_ABOUT = _About()


def _same_encodings(previous: Answer, request: Request, model: Model) -> bool:
    earlier = previous.request
    if earlier.opened is not None or VARIABLE[request.of] not in previous.encodings:
        return False
    return request.run == earlier.run and model.fingerprint == previous.encodings.attrs["fingerprint"]
