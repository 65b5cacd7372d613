"""Vocabulary encodings: what a layer's attention makes of every vocabulary token, by a way that was proven right.

`attnxr.vocabulary.paths` has the ways. Each layer and space is served by the first of them that agrees with the vectors
of a real forward pass; where none does, there is an error and no number.
"""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from cachetools import LRUCache
from numpy.typing import NDArray
from torch import Tensor

from attnxr.errors import UnsupportedModelError
from attnxr.probe.finite import remedy
from attnxr.probe.linear import shape
from attnxr.probe.window import Window
from attnxr.search.blocks import Block
from attnxr.search.tables import Tables
from attnxr.vocabulary import paths
from attnxr.vocabulary.arrival import ARRIVING, Arriving, Text, read
from attnxr.vocabulary.paths import Name, Path

_TOLERANCE = 1e-5
_LONG = 128  # tokens of the text that encodings are compared with
_OF_TEXTS = 1 << 28  # bytes of what is kept of single texts' places, such as moments
_TEXTS = 32  # texts that are kept, as they arrived: a person asks several things of one
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
        Bytes that tables as large as the vocabulary may take together; see `attnxr.search.tables.Tables`.

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
        # Apart from those: what a corpus of many texts leaves behind would fill their room, and is not asked for again.
        self.of_texts = Tables(min(memory, _OF_TEXTS))
        self._tolerance = max(_TOLERANCE, _ULPS * torch.finfo(window.model.dtype).eps)
        self._length = min(window.layout.max_tokens or _LONG, _LONG)
        self._lock = threading.RLock()
        self._texts: LRUCache[tuple[Arriving, int, tuple[int, ...], tuple[int, ...]], Text] = LRUCache(_TEXTS)
        self._served: dict[tuple[Arriving, int], tuple[Path | None, float]] = {}
        self._looked_at: tuple[int, Text, list[Path]] | None = None  # the layer that was compared last
        self.verification = self._verify()
        if "value" not in self.verification.paths:
            raise UnsupportedModelError(self._refusal("value", 0))

    def _verify(self) -> Verification:
        spaces = [space for space in ARRIVING if space in self._look_at(0)[0].vectors]
        served = {space: self._serving(space, 0) for space in spaces}
        names = {space: path.name for space, (path, _) in served.items() if path is not None}
        errors = {space: error for space, (_, error) in served.items()}
        return Verification(MappingProxyType(names), MappingProxyType(errors), self._tolerance, self._length)

    def _look_at(self, layer: int) -> tuple[Text, list[Path]]:
        """A random text (seeded) at a layer's attention, which is the truth there, and the paths that may serve."""
        if self._looked_at is None or self._looked_at[0] != layer:
            try:
                text = read(self.window, layer, random_text(self.window, self.size, self._length, seed=0))
            except IndexError as error:
                raise UnsupportedModelError(
                    f"{self.window.family} does not run on a text of {self._length} tokens, which its configuration "
                    f"allows ({error}): its table of positions is of a kind that was not found."
                ) from error
            except KeyError as error:
                raise UnsupportedModelError(
                    f"Layer {self.window.layout.layers[layer]} of {self.window.family} reads keys and values that "
                    f"another layer has kept for it ({error}), so that there is nothing that it makes of embeddings "
                    "alone. Expected a layer that computes its own: choose another vocab_layer, or other layers."
                ) from error
            self._looked_at = layer, text, paths.candidates(self.window, layer, self.size, self.tables)
        return self._looked_at[1:]

    def _serving(self, space: Arriving, layer: int) -> tuple[Path | None, float]:
        with self._lock:
            if (space, layer) not in self._served:
                self._served[space, layer] = self._compare(space, layer)
            return self._served[space, layer]

    def _compare(self, space: Arriving, layer: int) -> tuple[Path | None, float]:
        """The first path that agrees with a forward pass of a text, and its error; else none, and the least error."""
        text, candidates = self._look_at(layer)
        few = torch.arange(0, self._length, max(1, self._length // 16))
        least = math.inf
        for path in candidates:
            # By reference, each position is a pass of its own.
            error = path.error(space, text, few if isinstance(path, paths.Reference) else None)
            if error <= self._tolerance:
                return path, error
            least = min(least, error)
        return None, least

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
        found, _ = self._serving(space, layer)
        if found is None:
            raise UnsupportedModelError(self._refusal(space, layer))
        return found

    def read(self, space: Arriving, layer: int, token_ids: tuple[int, ...], types: tuple[int, ...] = ()) -> Text:
        """A text where it arrives at a layer's attention, with vectors that are its tokens' in the vocabulary.

        Raises
        ------
        UnsupportedModelError
            Where they are not: a text can do more to its tokens than tell them where they stand; ESM scales one that
            has masks.
        """
        with self._lock:
            text = self._texts.get((space, layer, token_ids, types))
            if text is None:
                text = read(self.window, layer, torch.tensor(token_ids), types)
                self._check(space, layer, text)
                self._texts[space, layer, token_ids, types] = text
            return text

    def _check(self, space: Arriving, layer: int, text: Text) -> None:
        error = self.path(space, layer).error(space, text)
        if not math.isfinite(error):
            raise UnsupportedModelError(self._not_finite(space, layer))
        if error > self._tolerance:
            reason = "the other tokens too", "mask tokens"
            if text.of_types is not None:
                reason = "token types, in another way than on positions", "token types other than 0"
            raise UnsupportedModelError(
                f"In this text, {self.window.family} computes {space} vectors that differ from the vocabulary's by a "
                f"relative error of {error:.1e}; at most {self._tolerance:.0e} was expected. They depend "
                f"on {reason[0]}, so no number would be right. Try a text without {reason[1]}."
            )

    def can_leave_positions_out(self, layer: int) -> bool:
        """Whether a layer's positional terms are known, or none is added: CTRL adds some that no module makes."""
        path, _ = self._serving("value", layer)
        return self.window.layout.positions is not None or (path is not None and path.name == "shared")

    def unembedding(self) -> Block:
        """The output embeddings of the whole vocabulary, a block of one head and position, as the head applies them."""
        self.output_width()

        def made() -> NDArray[np.float32]:
            weight = self.window.output_matrix()[: self.size].float()
            self.window.refuse_rows(weight, "output embeddings")
            return weight[None].numpy()

        rows = self.tables.get(("unembedding",), made)
        return Block.plain(rows, self.tables, ("unembedding",))

    def output_width(self) -> int:
        """How many numbers an output embedding has.

        Raises
        ------
        UnsupportedModelError
            If the model has none, or fewer than the vocabulary has entries.
        """
        found = shape(self.window.unembedding)
        if found is None or found[0] < self.size:
            raise UnsupportedModelError(
                f"space='unembedding' was asked of {self.window.family}, which has {found[0] if found else 'no'} "
                f"output embeddings for {self.size} vocabulary entries. Load the model with its language-modelling "
                "head, as attnxr.load_model does where a checkpoint has one, or ask for space='embedding'."
            )
        return found[1]

    def _refusal(self, space: Arriving, layer: int) -> str:
        _, error = self._serving(space, layer)
        if not math.isfinite(error):
            return self._not_finite(space, layer)
        return (
            f"The {space} vectors that layer {self.window.layout.layers[layer]} of {self.window.family} computes for a "
            "token alone differ from those of a forward pass of a text by a relative error of "
            f"{error:.1e}; at most {self._tolerance:.0e} was expected. They depend on "
            "other tokens too, or on the position in a way that does not show, so no number would be right."
        )

    def _not_finite(self, space: Arriving, layer: int) -> str:
        return (
            f"The {space} vectors that layer {self.window.layout.layers[layer]} of {self.window.family} computes are "
            f"infinite or NaN. No distance can be given to them. {remedy(self.window.model.dtype)}"
        )


def random_text(window: Window, size: int, length: int, seed: int) -> Tensor:
    """Random token ids, int64 (length,), none of which is a mask: ESM scales a text by how many of these it has."""
    token_ids = torch.randint(size, (length,), generator=torch.Generator().manual_seed(seed))
    mask = getattr(window.config, "mask_token_id", None)
    return token_ids if mask is None else torch.where(token_ids == mask, (token_ids + 1) % size, token_ids)
