"""A request about an encodings Dataset, checked at the door: the vectors, and what of the vocabulary they go with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import checking, schema, texts
from attnxr.errors import InputError
from attnxr.options import (
    HEAD_SPACES,
    HEAD_VECTORS,
    METRICS,
    NAMED_LAYERS,
    OF,
    SPACES,
    STREAM_SPACES,
    STREAM_VECTORS,
    VARIABLE,
    Metric,
    Of,
    Space,
    VocabLayer,
)
from attnxr.probe.heads import contributions
from attnxr.query.answer import Frame
from attnxr.query.snapshot import Snapshot


@dataclass(frozen=True, eq=False)
class Options:
    """What is asked of the vectors: see `Model.neighbors` for each; the metric matters only where distances do."""

    of: Of
    space: Space
    vocab_layer: VocabLayer
    positional: bool
    metric: Metric = "cosine"

    def check(self) -> None:
        """Fail on an option that does not exist, or a combination that has no meaning."""
        checking.choice("metric", self.metric, METRICS)
        checking.choice("of", self.of, OF)
        checking.choice("space", self.space, SPACES)
        checking.boolean("positional", self.positional)
        is_number = isinstance(self.vocab_layer, int | np.integer) and not isinstance(self.vocab_layer, bool)
        is_name = isinstance(self.vocab_layer, str) and self.vocab_layer in NAMED_LAYERS
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
class Written:
    """What heads wrote in texts of one length, t texts of n tokens, at m places of each.

    Attributes
    ----------
    vectors : float32 array (L, H, t, m, d)
        Their head encodings there.
    token_ids : int64 array (t, n)
    types : int64 array (t, n), optional
        Token types, where the model is given any.
    places : slice
        Which of the n places they are.
    """

    vectors: NDArray[np.float32]
    token_ids: NDArray[np.int64]
    types: NDArray[np.int64] | None
    places: slice


@dataclass(frozen=True, eq=False)
class Request:
    """Vectors of a Dataset, and what of the vocabulary each of them is to be compared with.

    Attributes
    ----------
    options : Options
    vectors : float32 array (L, H, n, d)
        With H = 1 for vectors without heads; a copy.
    layers : int array (L,)
        For each layer, that whose vocabulary it is compared with, as a number in the model's layout.
    heads : int array (H,)
        Which of the space's heads each head looks into: several query heads share a key/value head.
    own : int64 array (n,)
        Vocabulary id of the own token of each position.
    text_of, at : int64 array (n,)
        Which of the texts each position belongs to, and its place there.
    texts, types : list of list of int
        Token ids of the texts, whole, and their types, none where the model is given none.
    frame : Frame
        For the Dataset of the answer.
    """

    options: Options
    vectors: NDArray[np.float32]
    layers: NDArray[np.intp]
    heads: NDArray[np.intp]
    own: NDArray[np.int64]
    text_of: NDArray[np.int64]
    at: NDArray[np.int64]
    texts: list[list[int]]
    types: list[list[int]]
    frame: Frame

    @classmethod
    def of(cls, seen: Snapshot, name: str, encodings: xr.Dataset, options: Options) -> "Request":
        """Check what is asked, and take from the Dataset all that an answer is made from.

        Parameters
        ----------
        seen : Snapshot
            Of the model; encodings of another one are refused.
        name : str
            What the model is called.
        encodings : xr.Dataset
        options : Options

        Raises
        ------
        InputError
            If an option is unknown, the combination has no meaning, or the Dataset is not this model's.
        """
        options.check()
        variable = VARIABLE[options.of]
        _check_dataset(encodings, options, name, seen)
        whole, dropped = checking.with_all_dims(encodings, variable)
        head = _head_dim(seen, options)
        vectors, layers = _vectors(seen, whole, options)
        expected = _size(seen, options)
        if expected is not None and vectors.shape[-1] != expected:
            raise InputError(
                f"of={options.of!r} has vectors of {vectors.shape[-1]} numbers in {seen.window.family}, and "
                f"space={options.space!r} vectors of {expected}: they cannot be compared. Expected a space of the same "
                "size."
            )
        text_of, at = texts.places(whole)
        coords: dict[str, Any] = {
            each: whole.coords[each] for each in ("layer", *schema.TEXT_COORDS) if each in whole.coords
        }
        heads: NDArray[np.intp] = np.zeros(vectors.shape[1], np.intp)
        dims: tuple[str, ...] = ("layer", "position")
        if head is not None:
            there = str(whole[variable].dims[1])
            labels = coords[head] = whole[there].values
            heads, dims = _heads(seen, options.space, there, labels), ("layer", head, "position")
            dropped = [head if dim == there else dim for dim in dropped]
        asked = options.vocab_layer
        attrs = {
            **whole.attrs,
            "of": options.of,
            "space": options.space,
            "vocab_layer": asked if isinstance(asked, str) else int(asked),
            "positional": int(options.positional),
            "vocab_size": seen.vocabulary.size,
        }
        return cls(
            options,
            vectors,
            layers=vocabulary_layers(seen, layers, asked),
            heads=heads,
            own=whole["token_id"].values.copy(),
            text_of=text_of.copy(),
            at=at.copy(),
            texts=texts.token_ids(whole),
            types=texts.token_types(whole),
            frame=Frame(dims, coords, attrs, dropped),
        )

    @classmethod
    def of_batches(
        cls, seen: Snapshot, options: Options, written: Sequence[Written], layers: Sequence[int], heads: Sequence[int]
    ) -> "Request":
        """The same of head encodings as they come from forward passes of this model: the batches end to end.

        Parameters
        ----------
        seen : Snapshot
        options : Options
            With ``of="encoding"`` and a space of the heads.
        written : sequence of Written
        layers, heads : sequence of int
            Which they are of; layers by their numbers in the layout.
        """
        at = [np.tile(np.arange(each.token_ids.shape[1])[each.places], len(each.token_ids)) for each in written]
        asked = np.repeat([each.vectors.shape[3] for each in written], [len(each.token_ids) for each in written])
        vectors = [each.vectors.reshape(*each.vectors.shape[:2], -1, each.vectors.shape[-1]) for each in written]
        return cls(
            options,
            np.concatenate(vectors, axis=2),
            layers=vocabulary_layers(seen, list(layers), options.vocab_layer),
            heads=_heads(seen, options.space, "head", np.asarray(heads)),
            own=np.concatenate([each.token_ids[:, each.places].ravel() for each in written]),
            text_of=np.repeat(np.arange(len(asked)), asked),
            at=np.concatenate(at),
            texts=[ids for each in written for ids in each.token_ids.tolist()],
            types=[
                types
                for each in written
                for types in ([[]] * len(each.token_ids) if each.types is None else each.types.tolist())
            ],
            frame=Frame(("layer", "head", "position"), {}, {}),
        )


def _check_dataset(encodings: xr.Dataset, options: Options, name: str, seen: Snapshot) -> None:
    """Fail where the Dataset is not this model's, or has not all that is asked about."""
    schema.validate(encodings, {})
    variable = VARIABLE[options.of]
    if variable != "head_encoding" and variable not in encodings:
        raise InputError(
            f"of={options.of!r} was asked, but the Dataset has only {sorted(map(str, encodings.data_vars))}. Ask for "
            f"it in the first place: model.encode(text, include=[{variable!r}])."
        )
    heads = [dim for dim in schema.ENCODINGS[variable].dims if dim in ("head", "kv_head")]
    schema.validate(encodings, {}, required=(variable, "layer", *heads, *schema.TOKEN_COORDS))
    if encodings.attrs.get("fingerprint") != seen.fingerprint:
        of_stack = f", stack {encodings.attrs['stack']!r}" if "stack" in encodings.attrs else ""
        raise InputError(
            f"The encodings are those of the model {encodings.attrs.get('model')!r}{of_stack} (fingerprint "
            f"{encodings.attrs.get('fingerprint')}); this is {name!r} ({seen.fingerprint}). Encode the text with this "
            "model, or load the other one."
        )
    checking.tokens(encodings, "The Dataset", seen.vocabulary.size)


def _head_dim(seen: Snapshot, options: Options) -> str | None:
    """What the answer's dimension of heads is called; None for vectors without heads."""
    layout = seen.window.layout
    if options.of in ("residual", "hidden"):
        return None
    if options.of not in ("key", "value") or layout.n_kv_heads == layout.n_heads:
        return "head"
    if options.space == "query":
        raise InputError(
            f"of={options.of!r} has {layout.n_kv_heads} key/value heads, each shared by several of the "
            f"{layout.n_heads} query heads, so space='query' is not defined for it. Expected space='value' or 'key'."
        )
    return "kv_head"


def _vectors(seen: Snapshot, encodings: xr.Dataset, options: Options) -> tuple[NDArray[np.float32], list[int]]:
    """The vectors (L, H, n, d) that are asked about, and of which of the model's layers with attention they are."""
    variable, layout = VARIABLE[options.of], seen.window.layout
    found = encodings[variable]
    # Copies: what becomes of the Dataset later must not reach an answer that is computed later.
    vectors = np.array(found.transpose("layer", ..., "position", found.dims[-1]).values, order="C")
    if not vectors.size:
        raise InputError(
            f"{variable!r} has sizes {dict(found.sizes)}; expected at least one layer, head and position. Select "
            "less narrowly."
        )
    if not np.isfinite(vectors).all():
        raise InputError(
            f"{variable!r} has numbers that are infinite or NaN, to which no distance can be given; expected what "
            "Model.encode returns. Did the model's own numbers overflow, or were positions filled in?"
        )
    labels = encodings["layer"].values
    layers = [layout.layers.index(label) for label in labels if label in layout.layers]
    if len(layers) < len(labels):
        raise InputError(
            f"The Dataset has layers {labels.tolist()}; {seen.window.family} has attention in the layers "
            f"{', '.join(map(str, layout.layers))}. Expected what Model.encode returns."
        )
    if options.of == "contribution":
        gate = _gate(encodings) if layout.gated else None
        vectors = contributions(seen.window, vectors, layers, encodings["head"].values, gate)
    return vectors if vectors.ndim == 4 else vectors[:, None], layers


def _gate(encodings: xr.Dataset) -> NDArray[np.float32]:
    """What the head encodings (L, H, n, d) are multiplied by before W_O reads them."""
    if "gate" not in encodings:
        raise InputError(
            "of='contribution' was asked of a model that multiplies its head encodings by a gate or a norm before W_O "
            "reads them, and the Dataset has no 'gate'. Expected what Model.encode returns, with its 'gate'."
        )
    gate = encodings["gate"].transpose("layer", "head", "position", "feature").values
    unknown = ~np.isfinite(gate) & (encodings["head_encoding"].transpose(*schema.ENCODINGS["gate"].dims).values != 0)
    if unknown.any():
        raise InputError(
            "'gate' has numbers that are infinite or NaN where the head encoding is not 0, so that what W_O reads is "
            "not known. Expected what Model.encode returns."
        )
    return gate


def _size(seen: Snapshot, options: Options) -> int | None:
    """How long the vocabulary's vectors are; None in the space of the embeddings, which the stream always fits."""
    layout = seen.window.layout
    if options.space == "embedding":
        return None
    if options.space == "unembedding":
        return seen.vocabulary.output_width()
    return layout.head_size if options.space == "value" else layout.key_size


def _heads(seen: Snapshot, space: Space, dim: str, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Which of the space's heads each of a Dataset's heads looks into."""
    if space not in HEAD_SPACES:
        return np.zeros(len(labels), np.intp)
    layout = seen.window.layout
    heads = layout.n_kv_heads if dim == "kv_head" else layout.n_heads
    return labels // (heads // (layout.n_heads if space == "query" else layout.n_kv_heads))


def vocabulary_layers(seen: Snapshot, layers: list[int], asked: VocabLayer) -> NDArray[np.intp]:
    """For each of the vectors' layers, that whose vocabulary it is compared with; all as numbers in the layout."""
    window, layout = seen.window, seen.window.layout
    if asked == "input":
        return np.zeros(len(layers), np.intp)
    if not layout.blocks:
        raise InputError(
            f"vocab_layer={asked!r} was asked of {window.family}, whose layers are not one block each on one stream, "
            "so that the embeddings cannot be handed to one of them. Expected vocab_layer='input'."
        )
    if asked == "same":
        return np.array(layers)
    if asked not in layout.layers:
        raise InputError(
            f"vocab_layer={asked} was given; {window.family} has attention in the layers "
            f"{', '.join(map(str, layout.layers))}."
        )
    return np.full(len(layers), layout.layers.index(asked))
