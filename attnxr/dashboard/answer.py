"""From a visitor's request to its answer: the one place where the dashboard asks the library anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
import xarray as xr

from attnxr.analysis.sequence import sequence_distances
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
    """

    text: str
    model: str
    metric: Metric
    positional: bool
    causal: bool | None = None


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
        What ``model.verify`` returned.
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
    report(f"Loading {request.model}", None)
    model = load(request.model)
    if previous is not None and _same_encodings(previous, request, model):
        encodings = previous.encodings
    else:
        report("Running the model", None)
        encodings = model.encode(request.text, truncate=True, causal=request.causal)
    report("Searching the vocabulary", 0.0)
    neighbors = model.neighbors(
        encodings,
        k=min(N_NEIGHBORS, model.vocab_size),
        metric=request.metric,
        positional=request.positional,
        progress=lambda fraction: report("Searching the vocabulary", fraction),
    )
    report("Comparing the text's tokens", 0.0)
    sequence = nearest_positions(
        encodings, request.metric, lambda fraction: report("Comparing the text's tokens", fraction)
    )
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
    return asked == (earlier.text, earlier.model, earlier.causal, previous.encodings.attrs["fingerprint"])
