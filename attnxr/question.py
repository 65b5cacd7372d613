"""One question about an encodings Dataset: checked at the door, made ready for the search, and answered as arrays."""

import json
import threading
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema, search
from attnxr.capture import Window
from attnxr.errors import InputError
from attnxr.search import METRICS, Metric, Nearest, Progress
from attnxr.vocabulary import SPACES, Block, Space, Vocabulary, positional_terms

Of = Literal["encoding", "query", "key", "value"]
HEAD_VECTORS: tuple[Of, ...] = ("encoding", "query", "key", "value")

_T = TypeVar("_T", bound=str)


def choice(option: str, value: _T, allowed: Sequence[str]) -> _T:
    """Check one option's value; raises InputError with the values that are allowed."""
    if value not in allowed:
        raise InputError(f"{option}={value!r} was given; expected one of {', '.join(map(repr, allowed))}.")
    return value


class Question:
    """How near are these vectors of a text to the vocabulary, in this space and by this metric?

    Parameters
    ----------
    window : Window
    vocabulary : Vocabulary
    name, fingerprint : str
        Of the model; encodings of another one are refused.
    encodings, metric, of, space, positional
        As in `Model.neighbors`.

    Attributes
    ----------
    queries : float32 array (L, H, n, d)
    head_dim : str
        ``head``, or ``kv_head`` for vectors that several heads share.
    coords, attrs : dict
        What the answer's Dataset inherits.
    dropped : list of str
        Dimensions that a selection had dropped (``sel(layer=3)``); here they are back, with size 1.

    Raises
    ------
    InputError
        If an option is unknown, the combination has no meaning, or the Dataset is not this model's.
    """

    def __init__(
        self,
        window: Window,
        vocabulary: Vocabulary,
        name: str,
        fingerprint: str,
        encodings: xr.Dataset,
        metric: Metric,
        of: Of,
        space: Space,
        positional: bool,
    ):
        self._metric: Metric = choice("metric", metric, METRICS)
        choice("of", of, HEAD_VECTORS)
        choice("space", space, SPACES)
        if not isinstance(positional, bool | np.bool_):
            raise InputError(f"positional={positional!r} was given; expected True or False.")
        _check(encodings, of, name, fingerprint)
        encodings, dropped = _whole(encodings, of)
        grouped = of in ("key", "value") and window.layout.n_kv_heads != window.layout.n_heads
        if grouped and space == "query":
            raise InputError(
                f"of={of!r} has {window.layout.n_kv_heads} key/value heads, each shared by several of the "
                f"{window.layout.n_heads} query heads, so space='query' is not defined for it. Expected space='value' "
                "or 'key'."
            )
        vectors = encodings[of]
        self.head_dim = "kv_head" if grouped else "head"
        self.dropped = [self.head_dim if dim == vectors.dims[1] else dim for dim in dropped]
        # Copies: what becomes of the Dataset later must not reach an answer that is computed later.
        self.queries = np.array(vectors.transpose("layer", ..., "position", "feature").values, order="C")
        self._own = encodings["token_id"].values.copy()
        if not self.queries.size:
            raise InputError(
                f"{of!r} has sizes {dict(vectors.sizes)}; expected at least one layer, head and position. Select less "
                "narrowly."
            )
        if not np.isfinite(self.queries).all():
            raise InputError(
                f"{of!r} has numbers that are infinite or NaN, to which no distance can be given; expected what "
                "Model.encode returns. Did the model's own numbers overflow, or were positions filled in?"
            )
        self._texts: list[list[int]] = json.loads(encodings.attrs["token_ids"])
        several = "text_id" in encodings.coords
        self._text_id = encodings["text_id"].values.copy() if several else np.zeros(len(self._own), np.int64)
        self._at = encodings["text_position" if several else "position"].values.copy()
        self._window, self._vocabulary, self._space, self._positional = window, vocabulary, space, positional
        self._lock = threading.Lock()
        self._load = lru_cache(maxsize=1)(lambda i: self._blocks[1][i][1]())
        self.coords: dict[str, Any] = {
            name: encodings.coords[name]
            for name in ("layer", *schema.TOKEN_COORDS, *schema.SEVERAL_TEXTS)
            if name in encodings.coords
        }
        labels = encodings[vectors.dims[1]].values
        self.coords[self.head_dim] = labels
        # Which of the space's heads each vector's head looks into: several query heads share a key/value head.
        layout = window.layout
        heads = layout.n_kv_heads if vectors.dims[1] == "kv_head" else layout.n_heads
        self._heads = labels // (heads // (layout.n_heads if space == "query" else layout.n_kv_heads))
        self.attrs = {
            **encodings.attrs,
            "metric": metric,
            "of": of,
            "space": space,
            "positional": int(positional),
            "vocab_size": vocabulary.size,
        }

    @cached_property
    def _blocks(self) -> tuple[NDArray[np.intp], list[tuple[NDArray[np.intp], Callable[[], Block]]]]:
        """Which of the distinct positional terms each position has, and the vocabulary encodings for those terms.

        Positions of one term share one table, so that many texts cost no more than the longest of them.
        """
        terms = [positional_terms(self._window, ids) for ids in self._texts]
        used = torch.stack([terms[text][place] for text, place in zip(self._text_id, self._at, strict=True)])
        if not self._positional:
            used = torch.zeros_like(used)
        distinct, place = torch.unique(used, dim=0, return_inverse=True)
        return place.numpy(), self._vocabulary.blocks(self._space, distinct)

    def nearest(self, k: int, progress: Progress) -> Nearest:
        """Neighbours, own ranks and own distances of all the vectors; see `attnxr.search.search`."""
        shape = self.queries.shape[:3]
        found = Nearest(
            ids=np.empty((*shape, k), np.int32),
            distance=np.empty((*shape, k), np.float32),
            own_rank=np.empty(shape, np.int32),
            own_distance=np.empty(shape, np.float32),
        )
        place, blocks = self._blocks
        for i, (rows, load) in enumerate(blocks):
            here = np.flatnonzero(np.isin(place, rows))
            part = search.search(
                load(),
                self.queries[:, :, here],
                self._heads,
                np.searchsorted(rows, place[here]),
                self._own[here],
                k,
                self._metric,
                lambda fraction, i=i: progress((i + fraction) / len(blocks)),  # type: ignore[misc]
            )
            for name in ("ids", "distance", "own_rank", "own_distance"):
                getattr(found, name)[:, :, here] = getattr(part, name)
        return found

    def distances(
        self, layers: NDArray[np.intp], head: int, position: int, entries: NDArray[np.intp]
    ) -> NDArray[np.float32]:
        """Distances of one head and position, for some layers and vocabulary entries: float32 (layers, entries)."""
        with self._lock:
            places, blocks = self._blocks
            i = next(i for i, (rows, _) in enumerate(blocks) if places[position] in rows)
            block: Block = self._load(i)
        row = int(np.searchsorted(blocks[i][0], places[position]))
        return search.distances(
            block, self._metric, int(self._heads[head]), self.queries[layers, head, position], row, entries
        )

    def in_sequence(self, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether vocabulary ids (L, H, n, k) occur in the text of their position."""
        found = np.empty(ids.shape, bool)
        for text, tokens in enumerate(self._texts):
            here = self._text_id == text
            found[:, :, here] = np.isin(ids[:, :, here], tokens)
        return found


def _whole(encodings: xr.Dataset, of: Of) -> tuple[xr.Dataset, list[str]]:
    """Give the vectors and their coordinates the dimensions back that selecting by one number has dropped."""
    dims = schema.ENCODINGS[of].dims
    of_coords = {"layer": ("layer",), dims[1]: (dims[1],)}
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


def _check(encodings: xr.Dataset, of: Of, name: str, fingerprint: str) -> None:
    schema.validate(encodings, {})
    if of != "encoding" and of not in encodings:
        raise InputError(
            f"of={of!r} was asked, but the Dataset has only {sorted(map(str, encodings.data_vars))}. Ask for it in "
            f"the first place: model.encode(text, include=[{of!r}])."
        )
    head_dim = "kv_head" if of in ("key", "value") else "head"
    schema.validate(encodings, {}, required=(of, "layer", head_dim, *schema.TOKEN_COORDS))
    if encodings.attrs.get("fingerprint") != fingerprint:
        raise InputError(
            f"The encodings are those of the model {encodings.attrs.get('model')!r} (fingerprint "
            f"{encodings.attrs.get('fingerprint')}); this is {name!r} ({fingerprint}). Encode the text with this "
            "model, or load the other one."
        )
