"""One question about an encodings Dataset: checked at the door, made ready for the search, and answered as arrays."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema, search
from attnxr.arrival import Arriving
from attnxr.blocks import Blocks
from attnxr.errors import InputError, UnsupportedModelError, choice
from attnxr.heads import contributions
from attnxr.interface import on_cpu
from attnxr.paths import TURNED
from attnxr.search import METRICS, Metric, Nearest, Progress
from attnxr.slices import Part, Slices
from attnxr.snapshot import Snapshot

Of = Literal["encoding", "query", "key", "value", "contribution", "residual", "hidden"]
Space = Literal["value", "key", "query", "embedding", "unembedding"]
VocabLayer = int | Literal["input", "same"]

HEAD_VECTORS: tuple[Of, ...] = ("encoding", "query", "key", "value")
HEAD_SPACES: tuple[Space, ...] = ("value", "key", "query")
STREAM_VECTORS: tuple[Of, ...] = ("contribution", "residual", "hidden")
STREAM_SPACES: tuple[Space, ...] = ("embedding", "unembedding")


@dataclass(frozen=True, eq=False)
class Options:
    """What is asked of the vectors: see `Model.neighbors` for each."""

    metric: Metric
    of: Of
    space: Space
    vocab_layer: VocabLayer
    positional: bool

    def check(self) -> None:
        """Fail on an option that does not exist, or a combination that has no meaning."""
        choice("metric", self.metric, METRICS)
        choice("of", self.of, (*HEAD_VECTORS, *STREAM_VECTORS))
        choice("space", self.space, (*HEAD_SPACES, *STREAM_SPACES))
        if not isinstance(self.positional, bool | np.bool_):
            raise InputError(f"positional={self.positional!r} was given; expected True or False.")
        is_number = isinstance(self.vocab_layer, int | np.integer) and not isinstance(self.vocab_layer, bool)
        is_name = isinstance(self.vocab_layer, str) and self.vocab_layer in ("input", "same")
        if not is_number and not is_name:
            raise InputError(
                f"vocab_layer={self.vocab_layer!r} was given; expected 'input' (layer 0), 'same' (each layer's own) or "
                "the number of a layer."
            )
        of_heads, in_heads = self.of in HEAD_VECTORS, self.space in HEAD_SPACES
        if of_heads != in_heads:
            kind, spaces = ("a head", HEAD_SPACES) if of_heads else ("the residual stream", STREAM_SPACES)
            others = STREAM_VECTORS if of_heads else HEAD_VECTORS
            raise InputError(
                f"of={self.of!r} with space={self.space!r} has no meaning: the one is a vector of {kind}, the other is "
                f"not. With of={self.of!r}, space is one of {', '.join(map(repr, spaces))}; space={self.space!r} goes "
                f"with of being one of {', '.join(map(repr, others))}."
            )
        if not in_heads and self.vocab_layer != "input":
            raise InputError(
                f"vocab_layer={self.vocab_layer!r} with space={self.space!r} has no meaning: the {self.space}s belong "
                f"to no layer. Expected vocab_layer='input', or a space of the heads: {', '.join(HEAD_SPACES)}."
            )


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
        Of the model; encodings of another one are refused.
    name : str
        What the model is called.
    encodings : xr.Dataset
    options : Options

    Attributes
    ----------
    shape : tuple of int
        (L, H, n), with H = 1 for vectors without heads.
    dims : tuple of str
        What the answer's arrays have: ``layer``, ``head`` (``kv_head`` for vectors that several heads share; neither
        for vectors without heads) and ``position``.
    coords, attrs : dict
        What the answer's Dataset inherits.
    dropped : list of str
        Dimensions that a selection had dropped (``sel(layer=3)``); here they are back, with size 1.

    Raises
    ------
    InputError
        If an option is unknown, the combination has no meaning, or the Dataset is not this model's.
    """

    def __init__(self, seen: Snapshot, name: str, encodings: xr.Dataset, options: Options):
        options.check()
        of, space = options.of, options.space
        vocabulary, window, layout = seen.vocabulary, seen.window, seen.window.layout
        self._seen, self._window, self._vocabulary, self._options = seen, window, vocabulary, options
        variable = "encoding" if of == "contribution" else of
        _check(encodings, variable, name, seen.fingerprint)
        encodings, dropped = with_all_dims(encodings, variable)
        has_heads = of not in ("residual", "hidden")
        shared = of in ("key", "value") and layout.n_kv_heads != layout.n_heads
        if shared and space == "query":
            raise InputError(
                f"of={of!r} has {layout.n_kv_heads} key/value heads, each shared by several of the {layout.n_heads} "
                "query heads, so space='query' is not defined for it. Expected space='value' or 'key'."
            )
        vectors = encodings[variable]
        head_dim = "kv_head" if shared else "head"
        self.dims = ("layer", head_dim, "position") if has_heads else ("layer", "position")
        self.dropped = [head_dim if has_heads and dim == vectors.dims[1] else dim for dim in dropped]
        # Copies: what becomes of the Dataset later must not reach an answer that is computed later.
        queries = np.array(vectors.transpose("layer", ..., "position", vectors.dims[-1]).values, order="C")
        self._own = encodings["token_id"].values.copy()
        if not queries.size:
            raise InputError(
                f"{variable!r} has sizes {dict(vectors.sizes)}; expected at least one layer, head and position. Select "
                "less narrowly."
            )
        if not np.isfinite(queries).all():
            raise InputError(
                f"{variable!r} has numbers that are infinite or NaN, to which no distance can be given; expected what "
                "Model.encode returns. Did the model's own numbers overflow, or were positions filled in?"
            )
        layers = [layout.layers.index(label) for label in encodings["layer"].values if label in layout.layers]
        if len(layers) < encodings.sizes["layer"]:
            raise InputError(
                f"The Dataset has layers {encodings['layer'].values.tolist()}; {window.family} has attention in the "
                f"layers {', '.join(map(str, layout.layers))}. Expected what Model.encode returns."
            )
        if of == "contribution":
            queries = contributions(window, queries, layers, encodings["head"].values)
        self._queries = queries if has_heads else queries[:, None]
        self.shape = self._queries.shape[:3]
        self._check_size()
        self._layers = self._vocabulary_layers(layers)
        self._texts: list[list[int]] = json.loads(encodings.attrs.get("token_ids", "[]"))
        self._types = schema.token_types(encodings)
        several = "text_id" in encodings.coords
        self._text_id = encodings["text_id"].values.copy() if several else np.zeros(len(self._own), np.int64)
        self._at = encodings["text_position" if several else "position"].values.copy()
        self._check_tokens(encodings.attrs)
        self._lock = threading.Lock()
        self._parts: dict[int, Part] = {}
        self.coords: dict[str, Any] = {
            name: encodings.coords[name]
            for name in ("layer", *schema.TOKEN_COORDS, *schema.SEVERAL_TEXTS)
            if name in encodings.coords
        }
        # Which of the space's heads each vector's head looks into: several query heads share a key/value head.
        self._heads = np.zeros(self.shape[1], np.intp)
        if has_heads:
            labels = encodings[vectors.dims[1]].values
            self.coords[head_dim] = labels
            if space in HEAD_SPACES:
                heads = layout.n_kv_heads if vectors.dims[1] == "kv_head" else layout.n_heads
                self._heads = labels // (heads // (layout.n_heads if space == "query" else layout.n_kv_heads))
        self.attrs = {
            **encodings.attrs,
            "metric": options.metric,
            "of": of,
            "space": space,
            "vocab_layer": options.vocab_layer if isinstance(options.vocab_layer, str) else int(options.vocab_layer),
            "positional": int(options.positional),
            "vocab_size": vocabulary.size,
        }

    def _check_size(self) -> None:
        """Fail where the vectors are longer or shorter than the vocabulary's."""
        layout, space = self._window.layout, self._options.space
        if space == "unembedding":
            expected = self._vocabulary.output_weight().shape[1]
        elif space == "embedding":
            return
        else:
            expected = layout.head_size if space == "value" else layout.key_size
        found = self._queries.shape[-1]
        if found != expected:
            raise InputError(
                f"of={self._options.of!r} has vectors of {found} numbers in {self._window.family}, and "
                f"space={space!r} vectors of {expected}: they cannot be compared. Expected a space of the same size."
            )

    def _vocabulary_layers(self, layers: list[int]) -> NDArray[np.intp]:
        """For each of the queries' layers, that whose vocabulary it is compared with; all as numbers in the layout."""
        layout, asked = self._window.layout, self._options.vocab_layer
        if asked == "input":
            return np.zeros(len(layers), np.intp)
        if not layout.blocks:
            raise InputError(
                f"vocab_layer={asked!r} was asked of {self._window.family}, whose layers are not one block each "
                "on one stream, so that the embeddings cannot be handed to one of them. Expected vocab_layer='input'."
            )
        if asked == "same":
            return np.array(layers)
        if asked not in layout.layers:
            raise InputError(
                f"vocab_layer={asked} was given; {self._window.family} has attention in the layers "
                f"{', '.join(map(str, layout.layers))}."
            )
        return np.full(len(layers), layout.layers.index(asked))

    def _check_tokens(self, attrs: dict[str, Any]) -> None:
        """Fail where the texts of the attrs are not those of the coordinates, as after joining two Datasets."""
        for i, place, token in zip(self._text_id, self._at, self._own, strict=True):
            text = self._texts[i] if 0 <= i < len(self._texts) else []
            if not (0 <= place < len(text) and text[place] == token < self._vocabulary.size):
                raise InputError(
                    f"The Dataset has token {token} at place {place} of text {i}; its attrs['token_ids'] are "
                    f"{attrs.get('token_ids', 'not there')!s:.80}, and the vocabulary has {self._vocabulary.size} "
                    "entries. Expected what Model.encode returns, or a selection from it: to have several texts in one "
                    "Dataset, encode them together, model.encode([text, text])."
                )

    @property
    def slices(self) -> Slices:
        """What slices of the distances to the whole vocabulary are computed from, and how."""
        return Slices(self._options.metric, self._layers, self._heads, self._part)

    @on_cpu()
    def _part(self, layer: int) -> Part:
        with self._lock:
            if layer not in self._parts:
                self._parts[layer] = self._make_part(layer)
            return self._parts[layer]

    def _make_part(self, layer: int) -> Part:
        chosen = np.flatnonzero(self._layers == layer)
        queries = self._queries if len(chosen) == len(self._queries) else self._queries[chosen]
        one_place = np.zeros(self.shape[2], np.intp)
        if self._options.space == "unembedding":
            return Part(chosen, queries, one_place, [(np.array([0]), self._vocabulary.unembedding)])
        space: Arriving = self._options.space
        path = self._vocabulary.path(space, layer)
        if not self._options.positional and not self._vocabulary.can_leave_positions_out(layer):
            raise UnsupportedModelError(
                f"positional=False was asked of {self._window.family}, which adds positions to its embeddings in a way "
                "that does not show as a module of its own, so that they cannot be left out. Expected positional=True."
            )
        given = zip(self._texts, self._types, strict=True)
        texts = [self._vocabulary.read(space, layer, tuple(ids), tuple(types)) for ids, types in given]
        if path.name == "shared":
            if self._options.positional and space in TURNED:
                queries = queries.astype(np.float64)
                for i, ids in enumerate(self._texts):
                    here = self._text_id == i
                    queries[:, :, here] = path.turned_back(space, queries[:, :, here], self._at[here], len(ids))
            return Part(chosen, queries, one_place, _on_cpu(path.blocks(space, torch.zeros(1, 1))))
        terms = torch.stack([texts[i].terms[place] for i, place in self._places()])
        if not self._options.positional:
            of_types = [text.of_types for text in texts]
            none = torch.zeros_like(terms[0])
            terms = torch.stack([none if (of := of_types[i]) is None else of[place] for i, place in self._places()])
        # Positions of one term share one table, so that many texts cost no more than the longest of them.
        distinct, place = torch.unique(terms, dim=0, return_inverse=True)
        return Part(chosen, queries, place.numpy(), _on_cpu(path.blocks(space, distinct)))

    def _places(self) -> Iterator[tuple[int, int]]:
        """Of each position, its text and its place there."""
        return zip(self._text_id.tolist(), self._at.tolist(), strict=True)

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
        """Neighbours, own ranks and own distances of all the vectors, (L, H, n, …); see `attnxr.search.search`."""
        found = Nearest.empty(self.shape, k)
        layers = np.unique(self._layers)
        for done, layer in enumerate(layers):
            part = self._part(int(layer))
            for i, (rows, load) in enumerate(part.blocks):
                here = np.flatnonzero(np.isin(part.place, rows))
                start, step = (done + i / len(part.blocks)) / len(layers), 1 / len(part.blocks) / len(layers)
                answer = search.search(
                    load(),
                    part.queries if len(here) == len(part.place) else part.queries[:, :, here],
                    self._heads,
                    np.searchsorted(rows, part.place[here]),
                    self._own[here],
                    k,
                    self._options.metric,
                    lambda fraction, start=start, step=step: progress(start + step * fraction),  # type: ignore[misc]
                )
                for whole, of_part in zip(found.arrays, answer.arrays, strict=True):
                    whole[np.ix_(part.chosen, np.arange(self.shape[1]), here)] = of_part
        return found

    def vectors(self) -> NDArray[np.float64]:
        """What is compared with the vocabulary, (L, H, n, d)."""
        return self._queries.astype(np.float64)

    def spaces(self) -> Iterator[Compared]:
        """Give the vocabulary of every layer that the vectors are compared with, one after the other."""
        space = self._options.space
        for layer in np.unique(self._layers).tolist():
            part, turns = self._part(layer), None
            if self._options.positional and space in TURNED:
                path = self._vocabulary.path(space, layer)
                if path.name == "shared":
                    features = self._queries.shape[-1]
                    units = np.broadcast_to(np.eye(features)[:, None], (features, self.shape[2], features))
                    turned = np.empty(units.shape)
                    for i, ids in enumerate(self._texts):
                        here = self._text_id == i
                        turned[:, here] = path.turned_back(space, units[:, here], self._at[here], len(ids))
                    turns = turned.transpose(1, 0, 2)  # unit vectors, turned back, are the rows of the turn
            yield Compared(part.chosen, self._heads, part.place, turns, part.blocks)

    def in_sequence(self, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether vocabulary ids (L, H, n, k) occur in the text of their position."""
        found = np.empty(ids.shape, bool)
        for text, tokens in enumerate(self._texts):
            here = self._text_id == text
            found[:, :, here] = np.isin(ids[:, :, here], tokens)
        return found


def _on_cpu(blocks: Blocks) -> Blocks:
    """Blocks that are made on the CPU, whenever that is."""
    return [(rows, on_cpu()(load)) for rows, load in blocks]


def with_all_dims(encodings: xr.Dataset, of: str) -> tuple[xr.Dataset, list[str]]:
    """Give the vectors and their coordinates the dimensions back that selecting by one number has dropped."""
    dims = schema.ENCODINGS[of].dims
    if "key_feature" in encodings[of].dims:
        dims = (*dims[:-1], "key_feature")
    of_coords = {dim: (dim,) for dim in dims if dim in ("layer", "head", "kv_head")}
    of_coords |= dict.fromkeys((*schema.TOKEN_COORDS, *schema.SEVERAL_TEXTS), ("position",))

    def whole(name: str, dims: tuple[str, ...]) -> xr.Variable:
        variable = encodings.variables[name]
        if not set(variable.dims) <= set(dims) or set(dims) - set(variable.dims) - set(encodings.coords):
            return variable  # for the schema to refuse
        return variable.set_dims({dim: variable.sizes.get(dim, 1) for dim in dims})

    coords = {name: whole(name, dims) for name, dims in of_coords.items() if name in encodings.variables}
    dropped = [dim for dim in dims if dim in coords and dim not in encodings[of].dims]
    restored = xr.Dataset({of: whole(of, dims)}, coords, encodings.attrs)
    return schema.validate(restored, schema.ENCODINGS), dropped


def _check(encodings: xr.Dataset, of: str, name: str, fingerprint: str) -> None:
    schema.validate(encodings, {})
    if of != "encoding" and of not in encodings:
        raise InputError(
            f"of={of!r} was asked, but the Dataset has only {sorted(map(str, encodings.data_vars))}. Ask for it in "
            f"the first place: model.encode(text, include=[{of!r}])."
        )
    heads = [dim for dim in schema.ENCODINGS[of].dims if dim in ("head", "kv_head")]
    schema.validate(encodings, {}, required=(of, "layer", *heads, *schema.TOKEN_COORDS))
    schema.check_tokens(encodings, "The Dataset")
    if encodings.attrs.get("fingerprint") != fingerprint:
        raise InputError(
            f"The encodings are those of the model {encodings.attrs.get('model')!r} (fingerprint "
            f"{encodings.attrs.get('fingerprint')}); this is {name!r} ({fingerprint}). Encode the text with this "
            "model, or load the other one."
        )
