"""Vocabulary encodings: what a layer's attention makes of every vocabulary token, by a way that was proven right.

`attnxr.paths` has the ways. Each layer and space is served by the first of them that agrees with the vectors of a
real forward pass; where none does, there is an error and no number.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from attnxr import paths
from attnxr.arrival import ARRIVING, Arriving, Text, read
from attnxr.blocks import Block
from attnxr.errors import UnsupportedModelError
from attnxr.paths import Name, Path
from attnxr.tables import Tables
from attnxr.window import Window

_TOLERANCE = 1e-5
_ULPS = 4  # a model in half precision agrees with itself no better than to so many units of its last place


@dataclass(frozen=True)
class Verification:
    """How well the vocabulary encodings in use agree with the model itself.

    Attributes
    ----------
    paths : mapping of str to {"factored", "shared", "reference"}
        Which way serves each space: the parts of the embedding put together anew for each position; one pass over the
        vocabulary for all positions; the model itself, one pass for each position.
    errors : mapping of str to float
        Largest ``|u − u_model| / |u_model|`` of each space over heads and the pairs tried (``u_model``: the vector that
        the layer's attention was handed in a forward pass of a text). A space that has an error but no path is none
        that this model can be asked about.
    tolerance : float
        What was allowed.
    pairs : int
        How many pairs of a token and a position were tried.
    """

    paths: Mapping[Arriving, Name]
    errors: Mapping[Arriving, float]
    tolerance: float
    pairs: int

    @property
    def path(self) -> Name:
        """Which way serves the values."""
        return self.paths["value"]

    @property
    def error(self) -> float:
        """Largest error of all spaces in use."""
        return max(self.errors[space] for space in self.paths)

    def __str__(self) -> str:
        return (
            f"{self.path} path; largest relative error {self.error:.1e} (allowed {self.tolerance:.0e}) against the "
            f"model's own vectors, at {self.pairs} pairs of token and position"
        )


class Vocabulary:
    """Encodings of the whole vocabulary at any positions, by whichever paths were verified.

    Parameters
    ----------
    window : Window
    size : int
        Number of vocabulary entries, V: ids 0 … V−1.
    memory : int
        Bytes that tables as large as the vocabulary may take together; see `attnxr.tables.Tables`.

    Attributes
    ----------
    verification : Verification
        Of the first layer.

    Raises
    ------
    UnsupportedModelError
        If no path gets the first layer's values right.
    """

    def __init__(self, window: Window, size: int, memory: int):
        self.window = window
        self.size = size
        self.tables = Tables(memory)
        tolerance = max(_TOLERANCE, _ULPS * torch.finfo(window.model.dtype).eps)
        self._layer: Callable[[int], tuple[dict[Arriving, Path], Verification]] = lru_cache(maxsize=None)(
            lambda layer: _verified(window, layer, size, self.tables, tolerance)
        )
        self.verification = self._layer(0)[1]
        if "value" not in self.verification.paths:
            raise UnsupportedModelError(self._refusal("value", 0))

    def path(self, space: Arriving, layer: int) -> Path:
        """The path that serves a space of a layer.

        Raises
        ------
        UnsupportedModelError
            If none does.
        """
        if space == "embedding" and not self.window.layout.blocks:
            raise UnsupportedModelError(
                f"space='embedding' was asked of {self.window.family}, whose layers are not one block each, on one "
                "stream, so that nothing enters them that embeddings could be. Expected one of 'value', 'key', 'query'."
            )
        found = self._layer(layer)[0].get(space)
        if found is None:
            raise UnsupportedModelError(self._refusal(space, layer))
        return found

    def check(self, space: Arriving, layer: int, text: Text) -> None:
        """Fail where a text's own vectors are not those that its tokens have in the vocabulary.

        Raises
        ------
        UnsupportedModelError
            A text can do more to its tokens than tell them where they stand; ESM scales one that has masks.
        """
        error = self.path(space, layer).error(space, text)
        if not error <= self.verification.tolerance:
            raise UnsupportedModelError(
                f"In this text, {self.window.family} computes {space} vectors that differ from the vocabulary's by a "
                f"relative error of {error:.1e}; at most {self.verification.tolerance:.0e} was expected. They depend "
                "on the other tokens too, so no number would be right and none is given. A text without mask tokens "
                "may do."
            )

    def unembedding(self) -> Block:
        """The output embeddings of the whole vocabulary, a block of one head and position.

        Raises
        ------
        UnsupportedModelError
            If the model has none.
        """
        module = self.window.unembedding
        if module is None or module.weight.shape[0] < self.size:
            rows = "no output embeddings" if module is None else f"{module.weight.shape[0]} output embeddings"
            raise UnsupportedModelError(
                f"space='unembedding' was asked of {self.window.family}, which has {rows} for {self.size} vocabulary "
                "entries. Load the model with its language-modelling head, as attnxr.load_model does where a "
                "checkpoint has one, or ask for space='embedding'."
            )
        weight = module.weight.detach()[: self.size]
        return Block.plain(self.tables.get(("unembedding",), lambda: weight.to("cpu", torch.float32)[None].numpy()))

    def _refusal(self, space: Arriving, layer: int) -> str:
        verification = self._layer(layer)[1]
        return (
            f"The {space} vectors that layer {self.window.layout.layers[layer]} of {self.window.family} computes for a "
            "token alone differ from those of a forward pass of a text by a relative error of "
            f"{verification.errors[space]:.1e}; at most {verification.tolerance:.0e} was expected. They depend on "
            "other tokens too, or on the position in a way that does not show, so no number would be right."
        )


def random_text(window: Window, size: int, length: int, seed: int) -> Tensor:
    """Random token ids, int64 (length,), none of which is a mask: ESM scales a text by how many of these it has."""
    token_ids = torch.randint(size, (length,), generator=torch.Generator().manual_seed(seed))
    mask = getattr(window.config, "mask_token_id", None)
    return token_ids if mask is None else torch.where(token_ids == mask, (token_ids + 1) % size, token_ids)


def _verified(
    window: Window, layer: int, size: int, tables: Tables, tolerance: float
) -> tuple[dict[Arriving, Path], Verification]:
    """For each space of a layer, the first path that agrees with a forward pass of a text, and how well it does.

    A random text (seeded), as long as the model takes but at most 128 tokens, runs through the model as any text
    does. At each of its positions, the vector that the layer's attention was handed is the truth.
    """
    length = min(window.layout.max_tokens or 128, 128)
    text = read(window, layer, random_text(window, size, length, seed=0))
    few = torch.arange(0, length, max(1, length // 16))  # each position is a pass of its own by reference
    serving: dict[Arriving, Path] = {}
    errors: dict[Arriving, float] = {}
    for path in paths.candidates(window, layer, size, tables):
        some = few if isinstance(path, paths.Reference) else torch.arange(length)
        for space in ARRIVING:
            if space in text.vectors and space not in serving:
                error = path.error(space, text, some)
                errors[space] = min(error, errors.get(space, math.inf))
                if error <= tolerance:
                    serving[space] = path
    names = {space: path.name for space, path in serving.items()}
    return serving, Verification(MappingProxyType(names), MappingProxyType(errors), tolerance, length)
