"""From a visitor's request to its answer: the one place where the dashboard asks the library anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import xarray as xr

from attnxr.analysis.sequence import sequence_distances
from attnxr.dashboard.opened import Opened, model_for
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.search import Metric

N_NEIGHBORS = 15
N_SEQUENCE = 10

Report = Callable[[str, float | None], None]


@dataclass(frozen=True)
class Request:
    """All that an answer depends on.

    Parameters
    ----------
    text : str
        The text, as typed.
    model : str
        Name of the model.
    metric : {"cosine", "euclidean", "dot", "centered_cosine"}
        How distance is measured.
    positional : bool
        Whether the vocabulary is encoded with the positional embedding of the position it is compared at.
    causal : bool, optional
        Whether tokens see only those before them; None is the model's own way.
    opened : Opened, optional
        A file that holds the answer, or a part of it; the model then only gives what is not in it.
    """

    text: str
    model: str
    metric: Metric
    positional: bool
    causal: bool | None = None
    opened: Opened | None = None


@dataclass(frozen=True)
class Aspect:
    """What is computed of an answer only when a view that is on screen asks for it.

    Parameters
    ----------
    kind : str
        Which of `attnxr.dashboard.aspects.KINDS`.
    layer, head, position : int, optional
        Of which layer, head and token, as indices, where it depends on them.
    method : str, optional
        How it is computed, where there are several ways.
    """

    kind: str
    layer: int | None = None
    head: int | None = None
    position: int | None = None
    method: str | None = None


@dataclass(frozen=True, eq=False)
class Answer:
    """Results, together with the request they belong to.

    Parameters
    ----------
    request : Request
        What was asked.
    encodings, neighbors : xarray.Dataset
        What ``model.encode`` and ``model.neighbors`` returned.
    sequence : xarray.Dataset
        What `nearest_positions` returned.
    vocab_size : int
        Number of entries in the model's vocabulary.
    checks : xarray.Dataset
        What ``model.verify`` returned; empty where the answer came out of a file without the model.
    aspects : dict
        What has been computed of it since, by `Aspect`. All who look at this answer share it.
    refusals : dict
        Why an `Aspect` cannot be had of it.
    """

    request: Request
    encodings: xr.Dataset
    neighbors: xr.Dataset
    sequence: xr.Dataset
    vocab_size: int
    checks: xr.Dataset
    aspects: dict[Aspect, xr.Dataset] = field(default_factory=dict, repr=False)
    refusals: dict[Aspect, str] = field(default_factory=dict, repr=False)

    @property
    def sizes(self) -> dict[str, int]:
        """How many of each there are to select from: ``layer``, ``head`` and ``position``."""
        return {"layer": self.n_layers, "head": self.n_heads, "position": self.n_positions}

    @property
    def layers(self) -> list[int]:
        """The number of each layer in the model, which may have attention in a part of its layers only."""
        return [int(number) for number in self.neighbors["layer"].values]

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.neighbors.sizes["layer"])

    @property
    def n_heads(self) -> int:
        """Number of heads in each layer."""
        return int(self.neighbors.sizes["head"])

    @property
    def n_positions(self) -> int:
        """Number of tokens."""
        return int(self.neighbors.sizes["position"])


def answer(request: Request, load: Callable[[str], Model], report: Report, previous: Answer | None = None) -> Answer:
    """Compute what a request asks for.

    Parameters
    ----------
    request : Request
        What is asked.
    load : callable
        Gives the model of a name.
    report : callable
        Told what is being done, and what fraction of it is done where that is known. It may raise, which
        ends the work.
    previous : Answer, optional
        An earlier answer; its encodings serve again where text, mask and model are the same.

    Returns
    -------
    Answer
        The results with their request.
    """
    if request.opened is not None:
        return _from_file(request, request.opened, load, report)
    report(f"Loading {request.model}", None)
    model = load(request.model)
    if previous is not None and _same_encodings(previous, request, model):
        encodings = previous.encodings
    else:
        report("Running the model", None)
        encodings = model.encode(request.text, truncate=True, causal=request.causal)
    neighbors = _neighbors(model, encodings, request, report)
    sequence = _sequence(encodings, request, report)
    report(f"Checking {request.model}", None)
    return Answer(request, encodings, neighbors, sequence, model.vocab_size, _CHECKS(model))


def nearest_positions(
    encodings: xr.Dataset, metric: Metric, progress: Callable[[float], None] = lambda _fraction: None
) -> xr.Dataset:
    """Other positions of the text at which a head wrote something most like what it wrote at one.

    Worked out once for all clicks, and layer by layer: the distances between all positions in all layers and
    heads would fill hundreds of megabytes.

    Parameters
    ----------
    encodings : xarray.Dataset
        What ``model.encode`` returns.
    metric : {"cosine", "euclidean", "dot", "centered_cosine"}
        How distance is measured.
    progress : callable
        Told what fraction is done.

    Returns
    -------
    xarray.Dataset
        ``other_position`` and ``distance`` (layer, head, position, rank), nearest first, the position itself
        left out; of equally near positions the earlier comes first.
    """
    n_layers, n_positions = encodings.sizes["layer"], encodings.sizes["position"]
    itself = np.arange(n_positions)
    orders, nearest = [], []
    for layer in range(n_layers):
        distance = sequence_distances(encodings.isel(layer=[layer]), metric)["distance"].values[0]
        distance[:, itself, itself] = np.inf
        order = np.argsort(distance, axis=-1, kind="stable")[..., : min(N_SEQUENCE, n_positions - 1)]
        orders.append(order)
        nearest.append(np.take_along_axis(distance, order, axis=-1))
        progress((layer + 1) / n_layers)
    dims = ("layer", "head", "position", "rank")
    return xr.Dataset({"other_position": (dims, np.stack(orders)), "distance": (dims, np.stack(nearest))})


def _from_file(request: Request, opened: Opened, load: Callable[[str], Model], report: Report) -> Answer:
    """What a file holds of a request, and of the model it came from what it does not hold."""
    same_mask = request.causal == bool(opened.saved.attrs["causal"])
    encodings = opened.saved.encodings if same_mask else None
    near, model = opened.saved.neighbors if same_mask else None, None
    if near is not None and (near.attrs["metric"], bool(near.attrs["positional"])) != (
        request.metric,
        request.positional,
    ):
        near = None
    if encodings is None:
        report(f"Loading {request.model}", None)
        model = model_for(opened, request.model, load, "To encode the text")
        report("Running the model", None)
        encodings = model.encode(request.text, truncate=True, causal=request.causal)
        if any(encodings.attrs.get(name) != opened.saved.attrs.get(name) for name in ("token_ids", "token_type_ids")):
            raise InputError(
                f"{opened.name} has other tokens than {opened.model!r} reads in its text, as where it was made of "
                "token_ids. Save the encodings with the neighbours."
            )
    if near is None:
        report(f"Loading {request.model}", None)
        model = model or model_for(opened, request.model, load, "To search its vocabulary")
        near = _neighbors(model, encodings, request, report)
    sequence = _sequence(encodings, request, report)
    checks = xr.Dataset() if model is None else _CHECKS(model)
    return Answer(request, encodings, near, sequence, int(near.attrs["vocab_size"]), checks)


def _neighbors(model: Model, encodings: xr.Dataset, request: Request, report: Report) -> xr.Dataset:
    report("Searching the vocabulary", 0.0)
    return model.neighbors(
        encodings,
        k=min(N_NEIGHBORS, model.vocab_size),
        metric=request.metric,
        positional=request.positional,
        progress=lambda fraction: report("Searching the vocabulary", fraction),
    )


def _sequence(encodings: xr.Dataset, request: Request, report: Report) -> xr.Dataset:
    report("Comparing the text's tokens", 0.0)
    return nearest_positions(
        encodings, request.metric, lambda fraction: report("Comparing the text's tokens", fraction)
    )


class _Checks:
    """What each model's check of itself found, for as long as the model is there and has the same weights."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: WeakKeyDictionary[Model, xr.Dataset] = WeakKeyDictionary()

    def __call__(self, model: Model) -> xr.Dataset:
        with self._lock:
            found = self._found.get(model)
            if found is None or found.attrs["fingerprint"] != model.fingerprint:
                found = self._found[model] = model.verify()
            return found


_CHECKS = _Checks()


def _same_encodings(previous: Answer, request: Request, model: Model) -> bool:
    asked = (request.text, request.model, request.causal, model.fingerprint)
    earlier = previous.request
    return earlier.opened is None and asked == (
        earlier.text,
        earlier.model,
        earlier.causal,
        previous.encodings.attrs["fingerprint"],
    )
