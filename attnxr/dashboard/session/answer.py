"""What a visitor asks, and what he is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import xarray as xr

from attnxr.analysis.overlap import overlap
from attnxr.dashboard.session.opened import Opened
from attnxr.options import Metric

Report = Callable[[str, float | None], None]
"""Told what is being done, and what fraction of it is done where that is known. It may raise, which ends the work."""


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
        A file that holds the answer, or some of it; the model then only gives what is not in it.
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
        Which of `attnxr.dashboard.compute.aspects.KINDS`.
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
        What `attnxr.dashboard.compute.answering.nearest_positions` returned.
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
        """The number of each layer in the model, which may have attention in some of its layers only."""
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

    @cached_property
    def overlap(self) -> xr.Dataset | None:
        """What `attnxr.overlap` says of each layer and the one before it, worked out once; None where there is one."""
        return overlap(self.neighbors) if self.n_layers > 1 else None
