"""What a visitor asks, and what he is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import xarray as xr

from attnxr.analysis.overlap import overlap
from attnxr.dashboard.session.asking import Offered
from attnxr.dashboard.session.opened import Opened
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.options import Metric, Of, ReadAs, Space, Stack, VocabLayer

COLUMN_NAMES = {"head": "head", "kv_head": "key/value head", "": ""}
"""What a vector's place in its layer is called, by the dimension it stands for."""
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
    of, space, vocab_layer : str or int
        Which vectors are compared with what of the vocabulary, of which layer, as ``Model.neighbors`` takes them.
    k : int
        How many neighbours; of a smaller vocabulary all.
    read_as : {"text", "bos", "bare", "chat", "prompt"}
        How the text is read: see `attnxr.inputs.reading.arguments`.
    continued : int
        How many tokens the model writes behind the text.
    seed : int, optional
        By which they are drawn; by default they are the likeliest.
    stack : {"decoder"}, optional
        Which stack of an encoder-decoder; None is its encoder, and all there is of another model.
    target : str
        What the decoder reads while it reads the text that the encoder is given; empty where no decoder is asked about.
    """

    text: str
    model: str
    metric: Metric
    positional: bool
    causal: bool | None = None
    opened: Opened | None = None
    of: Of = "encoding"
    space: Space = "value"
    vocab_layer: VocabLayer = "input"
    k: int = 15
    read_as: ReadAs = "text"
    continued: int = 0
    seed: int | None = None
    stack: Stack | None = None
    target: str = ""

    @property
    def own_text(self) -> str:
        """The text whose tokens are looked at: the target of a decoder."""
        return self.text if self.stack is None else self.target

    def of_stack(self, model: Model) -> Model:
        """The model of the name in the request, with the stack that is asked about as the one that is meant.

        Raises
        ------
        InputError
            If it has no such stack.
        UnsupportedModelError
            If that cannot be looked into.
        """
        if self.stack is None:
            return model
        if not model.stacks:
            raise InputError(
                f"{self.model} is no encoder-decoder: it has no decoder that reads a target. Choose the encoder as the "
                "stack, or another model."
            )
        return model.of_stack(self.stack)

    @property
    def run(self) -> tuple[object, ...]:
        """What encodings depend on, but for the weights of the model: those of equal runs are equal."""
        of_stack = self.stack, self.target
        return self.text, self.model, self.causal, self.read_as, self.continued, self.seed, of_stack

    @property
    def question(self) -> dict[str, Any]:
        """What ``Model.neighbors`` is asked, but for how many."""
        return {name: getattr(self, name) for name in ("of", "space", "vocab_layer", "metric", "positional")}


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
    questions : xarray.Dataset or None
        What ``model.questions`` returned; None where the answer came out of a file without the model.
    readings : tuple of str
        What ``model.readings`` says; empty where the answer came out of a file without the model.
    can_generate : bool
        What ``model.can_generate`` says.
    stacks : tuple of str
        What ``model.stacks`` says.
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
    questions: xr.Dataset | None = None
    readings: tuple[ReadAs, ...] = ()
    can_generate: bool = False
    stacks: tuple[Stack, ...] = ()
    aspects: dict[Aspect, xr.Dataset] = field(default_factory=dict, repr=False)
    refusals: dict[Aspect, str] = field(default_factory=dict, repr=False)

    @property
    def question(self) -> dict[str, Any]:
        """What is asked, and of which stack, as `attnxr.asked.sentence` takes it."""
        return {**self.request.question, "stack": self.encodings.attrs.get("stack")}

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
        return int(self.encodings.sizes["head"])

    @cached_property
    def near(self) -> xr.Dataset:
        """The neighbours with a dimension ``head`` whatever vectors they are of.

        As long as the model has heads; key/value heads, where several heads share them; or 1 where vectors have none.
        """
        return framed(self.neighbors)

    @property
    def columns(self) -> str:
        """What `near` has along ``head``: "head", "kv_head", or "" for vectors without heads."""
        return next((dim for dim in ("head", "kv_head") if dim in self.neighbors.dims), "")

    @property
    def n_columns(self) -> int:
        """How many vectors each layer and token has."""
        return int(self.near.sizes.get("head", self.n_heads))

    def column(self, head: int) -> int:
        """Index along ``head`` of `near` of what a head has, or shares with others."""
        return head * self.n_columns // self.n_heads

    def head_of(self, column: int, head: int) -> int:
        """The head to choose where a column is: the chosen one if it shares the column, else the first that does."""
        shared = self.n_heads // self.n_columns
        return head if head // shared == column else column * shared

    def named(self, head: int) -> str:
        """What a vector's place in its layer is called; empty for vectors without heads."""
        words = COLUMN_NAMES[self.columns]
        return f"{words} {self.column(head)}" if words else ""

    def where(self, layer: int, head: int) -> str:
        """The layer and, of vectors that have them, the head, in words."""
        return ", ".join(filter(None, [f"layer {self.layers[layer]}", self.named(head)]))

    @cached_property
    def offered(self) -> Offered:
        """What can be asked of the model."""
        # A target is read as labels are, in one way alone.
        readings = self.readings if self.request.stack is None else ()
        return Offered(self.questions, tuple(self.layers), readings, self.can_generate, self.stacks)

    @property
    def n_positions(self) -> int:
        """Number of tokens."""
        return int(self.neighbors.sizes["position"])

    @cached_property
    def overlap(self) -> xr.Dataset | None:
        """What `attnxr.overlap` says of each layer and the one before it, worked out once; None where there is one."""
        return overlap(self.near) if self.n_layers > 1 else None


def framed(dataset: xr.Dataset) -> xr.Dataset:
    """A Dataset of a text's vectors with a dimension ``head``: of length 1 where they have none."""
    if "head" in dataset.dims:
        return dataset
    if "kv_head" in dataset.dims:
        return dataset.rename(kv_head="head")
    wide = {
        name: (("layer", "head", *each.dims[1:]), each.values[:, None], each.attrs)
        for name, each in dataset.data_vars.items()
        if each.dims[:1] == ("layer",)
    }
    return dataset.drop_vars("head", errors="ignore").assign(wide).assign_coords(head=[0])
