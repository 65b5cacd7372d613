"""One question about an encodings Dataset, answered as arrays, or as slices that are computed when asked for."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr.errors import InputError, UnsupportedModelError
from attnxr.options import HEAD_SPACES, Space
from attnxr.probe.interface import on_cpu
from attnxr.query.answer import Frame, in_sequence
from attnxr.query.request import Options, Request
from attnxr.query.snapshot import Snapshot
from attnxr.search import nearest
from attnxr.search.blocks import Blocks, serving
from attnxr.search.nearest import Nearest, Progress
from attnxr.search.slices import Part, Slices
from attnxr.vocabulary.arrival import Arriving
from attnxr.vocabulary.paths import TURNED, Path


@dataclass(frozen=True, eq=False)
class Compared:
    """The vocabulary of one layer, as some of a question's vectors are compared with it.

    Attributes
    ----------
    chosen : int array
        Which of the question's layers are.
    heads : int array (H,)
        Which of the blocks' heads each head looks into.
    place : int array (n,)
        Which of the blocks' positions each position has.
    turns : float64 array (n, d, d), optional
        What turns the blocks' vectors to each position, where they are not there already.
    blocks : Blocks
    """

    chosen: NDArray[np.intp]
    heads: NDArray[np.intp]
    place: NDArray[np.intp]
    turns: NDArray[np.float64] | None
    blocks: Blocks


class Question:
    """How near are these vectors of a text to the vocabulary, in this space and by this metric?

    Parameters
    ----------
    seen : Snapshot
        Of the model.
    request : Request
        Of that model's encodings.

    Attributes
    ----------
    shape : tuple of int
        (L, H, n), with H = 1 for vectors without heads.
    options : Options
    frame : Frame
        What makes a Dataset of the answer's arrays.
    names : VocabularyTokens
        Of the V entries.
    of_texts : Tables
        Where to keep what is worth keeping about a text's places.
    """

    def __init__(self, seen: Snapshot, request: Request):
        _check_cross(seen, request.options)
        self._seen, self._window, self._vocabulary = seen, seen.window, seen.vocabulary
        self._request = request
        self.shape = request.vectors.shape[:3]
        self.options: Options = request.options
        self.frame: Frame = request.frame
        self.names, self.of_texts = seen.tokens, seen.vocabulary.of_texts
        self._lock = threading.Lock()
        self._parts: dict[int, Part] = {}

    @property
    def slices(self) -> Slices:
        """What slices of the distances to the whole vocabulary are computed from, and how."""
        return Slices(self.options.metric, self._request.layers, self._request.heads, self._part)

    @on_cpu()
    def _part(self, layer: int) -> Part:
        with self._lock:
            if layer not in self._parts:
                self._parts[layer] = self._make_part(layer)
            return self._parts[layer]

    def _make_part(self, layer: int) -> Part:
        asked, space = self._request, self.options.space
        chosen = np.flatnonzero(asked.layers == layer)
        queries: NDArray[np.floating] = asked.vectors if len(chosen) == len(asked.vectors) else asked.vectors[chosen]
        one_place = np.zeros(self.shape[2], np.intp)
        if space == "unembedding":
            return Part(chosen, queries, one_place, [(np.array([0]), self._vocabulary.unembedding)])
        path = self._vocabulary.path(space, layer)
        if not self.options.positional and not self._vocabulary.can_leave_positions_out(layer):
            raise UnsupportedModelError(
                f"positional=False was asked of {self._window.family}, which adds positions to its embeddings in a way "
                "that does not show as a module of its own, so that they cannot be left out. Expected positional=True."
            )
        given = zip(asked.texts, asked.types, strict=True)
        texts = [self._vocabulary.read(space, layer, tuple(ids), tuple(types)) for ids, types in given]
        if path.name == "shared":
            if self._turns(path, space):
                queries = self._turned_back(path, space, queries)
            return Part(chosen, queries, one_place, _on_cpu(path.blocks(space, torch.zeros(1, 1))))
        places = list(zip(asked.text_of.tolist(), asked.at.tolist(), strict=True))
        terms = torch.stack([texts[i].terms[place] for i, place in places])
        if not self.options.positional:
            of_types = [text.of_types for text in texts]
            none = torch.zeros_like(terms[0])
            terms = torch.stack([none if (of := of_types[i]) is None else of[place] for i, place in places])
        # Positions of one term share one table, so that many texts cost no more than the longest of them.
        distinct, place = torch.unique(terms, dim=0, return_inverse=True)
        return Part(chosen, queries, place.numpy(), _on_cpu(path.blocks(space, distinct)))

    def _turns(self, path: Path, space: Space) -> bool:
        """Whether the model turns these vectors by their position, and the vocabulary's stand as at position 0."""
        return self.options.positional and space in TURNED and path.name == "shared"

    def _turned_back(self, path: Path, space: Arriving, vectors: NDArray[np.floating]) -> NDArray[np.float64]:
        """Vectors (…, n, d) of all positions, turned back to position 0."""
        asked, out = self._request, vectors.astype(np.float64)
        for i, ids in enumerate(asked.texts):
            here = asked.text_of == i
            out[..., here, :] = path.turned_back(space, out[..., here, :], asked.at[here], len(ids))
        return out

    def check_space(self) -> None:
        """Fail where the model's first layer has not what of the vocabulary is asked about.

        Raises
        ------
        UnsupportedModelError
            As `Vocabulary.path`. Of other layers this is found out when they are asked, as it takes a pass each.
        """
        if self.options.space != "unembedding":  # which the request has looked for
            self._vocabulary.path(self.options.space, 0)

    def check(self) -> None:
        """Fail where the model is no longer the one that was asked.

        Raises
        ------
        InputError
            If its weights were changed or moved.
        """
        if not self._seen.is_current():
            raise InputError(
                "The model's weights were changed or moved after these distances were asked for; expected the weights "
                "that the encodings were made with. Encode the text again."
            )

    def nearest(self, k: int, progress: Progress) -> Nearest:
        """Neighbours, own ranks and own distances of all the vectors, (L, H, n, …): `attnxr.search.nearest.search`."""
        found = Nearest.empty(self.shape, k)
        layers = np.unique(self._request.layers)
        for done, layer in enumerate(layers):
            part = self._part(int(layer))
            for i, (here, place, load) in enumerate(serving(part.blocks, part.place)):
                start, step = (done + i / len(part.blocks)) / len(layers), 1 / len(part.blocks) / len(layers)
                answer = nearest.search(
                    load(),
                    part.queries if len(here) == len(part.place) else part.queries[:, :, here],
                    self._request.heads,
                    place,
                    self._request.own[here],
                    k,
                    self.options.metric,
                    nearest.within(progress, start, step),
                )
                for whole, of_part in zip(found.arrays, answer.arrays, strict=True):
                    whole[np.ix_(part.chosen, np.arange(self.shape[1]), here)] = of_part
        return found

    def vectors(self) -> NDArray[np.float64]:
        """What is compared with the vocabulary, (L, H, n, d)."""
        return self._request.vectors.astype(np.float64)

    def spaces(self) -> Iterator[Compared]:
        """Give the vocabulary of every layer that the vectors are compared with, one after the other."""
        space, (*_, positions, features) = self.options.space, self._request.vectors.shape
        for layer in np.unique(self._request.layers).tolist():
            part, turns = self._part(layer), None
            if space in TURNED:
                path = self._vocabulary.path(space, layer)
                if self._turns(path, space):
                    units = np.broadcast_to(np.eye(features)[:, None], (features, positions, features))
                    # Unit vectors, turned back, are the rows of the turn.
                    turns = self._turned_back(path, space, units).transpose(1, 0, 2)
            yield Compared(part.chosen, self._request.heads, part.place, turns, part.blocks)

    def in_sequence(self, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether vocabulary ids (L, H, n, k) occur in the text of their position."""
        return in_sequence(ids, self._request.texts, self._request.text_of)


def _check_cross(seen: Snapshot, options: Options) -> None:
    """Fail where cross-attention is asked about the vocabulary in a space of its own, which it has none of."""
    if seen.window.stack == "cross" and options.space in HEAD_SPACES:
        raise InputError(
            f"space={options.space!r} was asked of cross-attention. Its {options.space}s "
            + (
                "are made of the decoder's stream behind its attention to itself, "
                if options.space == "query"
                else "are made of the encoder's last hidden state, "
            )
            + "which a vocabulary entry has only in a text and not alone, so that there is no vocabulary to compare "
            "with. Expected attnxr.encoder_neighbors, which compares with the tokens of the encoder's own text, or "
            "of='contribution' with space='embedding' or 'unembedding'."
        )


def _on_cpu(blocks: Blocks) -> Blocks:
    """Blocks that are made on the CPU, whenever that is."""
    return [(rows, on_cpu()(load)) for rows, load in blocks]
