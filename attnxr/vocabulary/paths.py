"""Ways to the vocabulary encodings of a layer, from the cheapest to the one that is always right.

- `Normed`, for models whose last step before the attention is a LayerNorm of (word + position), and linear from there
  on. With ``x_v`` and ``x_p`` the two terms, centred over the channels, ``γ`` and ``β`` the LayerNorm's weight and
  bias, ``W h + b`` the linear map behind it::

      u[v, p] = (a_v + a_p) / s_vp + c      a = W diag(γ) x      c = W β + b
      s_vp    = sqrt((|x_v|² + 2 x_v·x_p + |x_p|²) / D + ε)

  so one matrix ``a`` serves every position. Its parts are read off the running model: ``x_v`` is what the LayerNorm
  is handed, ``W`` and ``b`` what comes out when its output is replaced by 0 and by the unit vectors.
- `TwiceNormed`, where a second LayerNorm follows: the same parts, put together anew for each position.
- `Added`, where the position is only added: ``u = a_v + a_p``.
- `Shared`, for models that add no positions: one pass over the vocabulary serves them all. Where keys and queries are
  turned by position (rotary models), what is compared with them is turned back instead: that changes no distance.
- `Reference`: the model itself, one pass over the vocabulary for every position.

None is believed without proof: see `attnxr.vocabulary.encodings`.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnxr.probe.finite import lost_rows
from attnxr.probe.linear import probes, read_linear
from attnxr.probe.window import Window
from attnxr.search import exact
from attnxr.search.blocks import Block, Blocks, NormedBlock, norm_scale
from attnxr.search.tables import Tables
from attnxr.vocabulary.arrival import BATCH, Arrival, Arriving, Text, arrivals
from attnxr.vocabulary.rotary import Rotation, read_rotation

Name = Literal["factored", "shared", "reference"]

TURNED: tuple[Arriving, ...] = ("key", "query")  # by position, in rotary models
_NO_TERM = torch.zeros(1)
_ROWS = 2048  # rows of a table that are made at once
_FEW = 8  # words that tell tables of words apart


class Path:
    """A way to the vocabulary encodings of one layer.

    Parameters
    ----------
    window : Window
    layer : int
        Which of the layers with attention.
    size : int
        Number of vocabulary entries, V.
    tables : Tables
        Where to keep what is as large as the vocabulary.

    Attributes
    ----------
    name : {"factored", "shared", "reference"}
    together : int
        How many positions one block may serve.
    """

    name: Name
    together = 64  # so that a block's scales stay small, whatever the length of a text

    def __init__(self, window: Window, layer: int, size: int, tables: Tables):
        self._window, self._layer, self._size, self._tables = window, layer, size, tables

    def encodings(self, space: Arriving, terms: Tensor, token_ids: Tensor, length: int) -> NDArray[np.float64]:
        """Encodings of some tokens, each at a position of its own.

        Parameters
        ----------
        space : str
        terms : float32 tensor (m, E)
            Their rows of `attnxr.vocabulary.arrival.Text.terms`.
        token_ids : int64 tensor (m,)
        length : int
            Number of tokens of the text that has these positions.

        Returns
        -------
        float64 array (heads, m, features)
        """
        raise NotImplementedError

    def error(self, space: Arriving, text: Text, places: Tensor | None = None) -> float:
        """Largest ``|u − u_model| / |u_model|`` of a text's own tokens, at some of its places or at all."""
        length = len(text.token_ids)
        places = torch.arange(length) if places is None else places
        found = self.encodings(space, text.terms[places], text.token_ids[places], length)
        # NumPy takes a tensor of one number for that number.
        return relative_error(found, text.vectors[space][:, places.numpy()])

    def blocks(self, space: Arriving, terms: Tensor) -> Blocks:
        """Encodings of the whole vocabulary for some positional terms, in as few blocks as the path allows.

        Parameters
        ----------
        space : str
        terms : float32 tensor (P, E)

        Returns
        -------
        Blocks
            With the rows of `terms` that each serves: together they serve every row once.
        """
        parts = np.array_split(np.arange(len(terms)), -(-len(terms) // self.together))
        return [(part, partial(self._block, space, terms[part[0] : part[-1] + 1])) for part in parts]

    def _block(self, space: Arriving, terms: Tensor) -> Block:
        """The block of some positional terms, (P, E), at most `together`."""
        raise NotImplementedError

    def _arriving(self, space: Arriving, token_ids: Tensor, term: Tensor = _NO_TERM) -> NDArray[np.float32]:
        """What the model itself computes for some tokens at one positional term: float32 (heads, m, features)."""
        return arrivals(self._window, space, self._layer, term, token_ids).numpy()

    def _finite(self, table: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        """A table (…, V, features) of the whole vocabulary, once it is known that each entry has numbers."""
        self._window.refuse_rows(table, what)
        return table

    def turned_back(
        self, space: Arriving, vectors: NDArray, positions: NDArray[np.intp], length: int
    ) -> NDArray[np.float64]:
        """Take keys or queries (…, n, features) at positions of a text of some length to where the blocks are.

        Most blocks are at the position itself, and nothing is to be done.
        """
        return vectors.astype(np.float64)


class Reference(Path):
    """The model itself, one pass for every position."""

    name: Name = "reference"
    together = 1

    def encodings(self, space: Arriving, terms: Tensor, token_ids: Tensor, length: int) -> NDArray[np.float64]:
        each = [self._arriving(space, token_ids[i : i + 1], term) for i, term in enumerate(terms)]
        return np.concatenate(each, axis=1).astype(np.float64)

    def _block(self, space: Arriving, terms: Tensor) -> Block:
        return Block.plain(self._arriving(space, torch.arange(self._size), terms[0]))


class Shared(Path):
    """One pass over the vocabulary for all positions."""

    name: Name = "shared"

    def __init__(self, window: Window, layer: int, size: int, tables: Tables):
        super().__init__(window, layer, size, tables)
        self._rotation: Callable[[Arriving, int], Rotation] = lru_cache(maxsize=8)(
            lambda space, length: read_rotation(window, layer, space, length, size)
        )

    def encodings(self, space: Arriving, terms: Tensor, token_ids: Tensor, length: int) -> NDArray[np.float64]:
        rows = self._arriving(space, token_ids)
        if space not in TURNED:
            return rows.astype(np.float64)
        positions = terms[:, 0].numpy().astype(int)
        return self._rotation(space, length).turned(rows, positions)

    def _block(self, space: Arriving, terms: Tensor) -> Block:
        everything = torch.arange(self._size)
        key = space, self._layer
        return Block.plain(self._tables.get(key, lambda: self._arriving(space, everything)), self._tables, key)

    def turned_back(
        self, space: Arriving, vectors: NDArray, positions: NDArray[np.intp], length: int
    ) -> NDArray[np.float64]:
        return self._rotation(space, length).turned(vectors, positions, back=True)


class Added(Path):
    """Words and positions that are only added: ``u = a_v + a_p``."""

    name: Name = "factored"

    def encodings(self, space: Arriving, terms: Tensor, token_ids: Tensor, length: int) -> NDArray[np.float64]:
        return self._arriving(space, token_ids) + self._shift(space, terms)

    def _block(self, space: Arriving, terms: Tensor) -> Block:
        everything = torch.arange(self._size)
        key = space, self._layer
        rows = self._tables.get(key, lambda: self._arriving(space, everything))
        return Block(rows, self._shift(space, terms), np.zeros((len(rows), rows.shape[2])), self._tables, key)

    def _shift(self, space: Arriving, terms: Tensor) -> NDArray[np.float64]:
        """What a positional term adds to any token: float64 (heads, P, features)."""
        token = torch.tensor([self._size // 2])
        seen = Arrival(self._window, self._layer, positional=terms)  # a text that has each of the terms once
        self._window.run(token.expand(1, len(terms)), seen)
        return seen.vectors[space][0].to("cpu", torch.float64).numpy() - self._arriving(space, token)


class Normed(Path):
    """A LayerNorm of (word + position), and linear from there on."""

    name: Name = "factored"

    def __init__(self, window: Window, layer: int, size: int, tables: Tables):
        super().__init__(window, layer, size, tables)
        self._norm = _Norm(window, layer, 0)
        # Most layers are handed the same words; a hook between them can make others of them.
        self._key = self._words_of(torch.arange(min(_FEW, size))).tobytes()

    def encodings(self, space: Arriving, terms: Tensor, token_ids: Tensor, length: int) -> NDArray[np.float64]:
        words, places = self._words_of(token_ids), _centred(terms).numpy()
        products = np.einsum("md,md->m", words, places)
        scale = norm_scale(exact.squares(words), products, exact.squares(places), places.shape[1], self._norm.epsilon)
        rows = self._norm.project(space, words) + self._norm.shift(space, places)
        return rows * scale[:, None] + self._norm.offset[space][:, None]

    def _block(self, space: Arriving, terms: Tensor) -> Block:
        words, squares = self._words()
        places, key = _centred(terms).numpy(), (space, self._layer)
        return NormedBlock(
            rows=self._tables.get(key, lambda: self._finite(self._norm.project(space, words), f"{space} vectors")),
            shift=self._norm.shift(space, places),
            offset=self._norm.offset[space],
            tables=self._tables,
            key=key,
            words=words,
            words_square=squares,
            places=places,
            epsilon=self._norm.epsilon,
            words_key=self._key,
        )

    def _words(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """``x_v`` and ``|x_v|²`` of the whole vocabulary."""
        everything, what = torch.arange(self._size), "embeddings, less their mean,"
        words = self._tables.get(("words", self._key), lambda: self._finite(self._words_of(everything), what))
        return words, self._tables.get(("squares", self._key), lambda: exact.squares(words))

    def _words_of(self, token_ids: Tensor) -> NDArray[np.float32]:
        """``x_v`` of some tokens: float32 (m, D), centred over the channels."""
        words = np.empty((len(token_ids), self._norm.width), np.float32)
        for batch, out in _batches(token_ids, words):
            exact.centred(self._first_words(batch[:, None]), out)
        lost = torch.from_numpy(lost_rows(words))
        if len(lost):
            # ESM divides by the share of a text that is no mask: a mask needs another token beside it.
            beside = torch.full_like(lost, self._window.n_embeddings // 2)
            again = np.empty((len(lost), self._norm.width), np.float32)
            exact.centred(self._first_words(torch.stack([token_ids[lost], beside], dim=1)), again)
            words[lost.numpy()] = again
        return words

    def _first_words(self, texts: Tensor) -> NDArray[np.floating]:
        """What the LayerNorm is handed of the first token of each text, without its position: (m, D)."""
        seen = Arrival(self._window, self._layer, positional=torch.zeros(1), norm=0)
        self._window.run(texts, seen)
        rows = seen.norm_inputs[0].reshape(*texts.shape, -1)[:, 0].cpu()
        return (rows.float() if rows.dtype.itemsize < 4 else rows).numpy()


class TwiceNormed(Normed):
    """A LayerNorm of (word + position), one of its output, and linear from there on.

    The second is handed ``(w_v + w_p) / s + q`` (centred), linear parts of the first one's terms and of its bias::

        u[v, p] = ((b_v + b_p) / s + b_q) / s' + c      b = W' diag(γ') w
        s'      = sqrt(|(w_v + w_p) / s + q|² / D + ε')
    """

    together = 1

    def __init__(self, window: Window, layer: int, size: int, tables: Tables):
        super().__init__(window, layer, size, tables)
        self._second = _Norm(window, layer, 1)
        between = self._norm.linear["norm"][0].numpy()
        self._between = between - between.mean(axis=0)
        self._bias = _centred(torch.from_numpy(self._norm.offset["norm"]))[0].numpy()

    def encodings(self, space: Arriving, terms: Tensor, token_ids: Tensor, length: int) -> NDArray[np.float64]:
        words = self._words_of(token_ids)
        between = self._handed_on(words)
        rows = self._second.project(space, between)
        each = [self._at(space, term[None], words[[i]], between[[i]], rows[:, [i]]) for i, term in enumerate(terms)]
        return np.concatenate(each, axis=1)

    def _block(self, space: Arriving, terms: Tensor) -> Block:
        words, _ = self._words()
        between = self._tables.get(("between", self._layer), lambda: self._handed_on(words))
        rows = self._tables.get(
            (space, self._layer), lambda: self._finite(self._second.project(space, between), f"{space} vectors")
        )
        parts = []
        for start in range(0, self._size, BATCH):
            batch = slice(start, start + BATCH)
            here = self._at(space, terms, words[batch], between[batch], rows[:, batch])
            parts.append(here.astype(np.float32))
        return Block.plain(self._finite(np.concatenate(parts, axis=1), f"{space} vectors"))

    def _handed_on(self, words: NDArray[np.float32]) -> NDArray[np.float32]:
        """``w_v`` of some words: float32 (m, D)."""
        handed_on = np.empty((len(words), len(self._between)), np.float32)
        for batch, out in _batches(words, handed_on):
            out[:] = batch.astype(np.float64) @ self._between.T
        return handed_on

    def _at(
        self,
        space: Arriving,
        term: Tensor,
        words: NDArray[np.float32],
        between: NDArray[np.float32],
        rows: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Encodings of some words at one position: float64 (heads, m, features)."""
        x, w, p, q = words.astype(np.float64), between.astype(np.float64), _centred(term)[0].numpy(), self._bias
        w_p = self._between @ p
        s = np.sqrt((exact.squares(x) + 2 * x @ p + p @ p) / len(p) + self._norm.epsilon)
        square = (exact.squares(w) + 2 * w @ w_p + w_p @ w_p) / s**2 + 2 * (w @ q + w_p @ q) / s + q @ q
        second = np.sqrt(square / len(q) + self._second.epsilon)
        linear = self._second.linear[space].numpy()
        sums = (rows + (linear @ w_p)[:, None]) / s[:, None] + (linear @ q)[:, None]
        return sums / second[:, None] + self._second.offset[space][:, None]


class _Norm:
    """A LayerNorm and the linear map behind it, read off the model.

    Attributes
    ----------
    width : int
        D.
    linear : dict of float64 tensors (heads, features, D)
        ``W diag(γ)`` of each space, and of what the next LayerNorm is handed (``norm``), if there is one.
    offset : dict of float64 arrays (heads, features)
        ``W β + b`` of each space.
    """

    def __init__(self, window: Window, layer: int, number: int):
        seen = Arrival(window, layer)
        window.run(torch.zeros(1, 1, dtype=torch.int64), seen)
        norm = seen.norms[number]
        width = self.width = norm.normalized_shape[0]
        self.epsilon = norm.eps
        seen = Arrival(window, layer, norm=number, normed=probes(width))
        window.run(torch.zeros(1 + width, 1, dtype=torch.int64), seen)
        gamma = torch.ones(width) if norm.weight is None else norm.weight.detach().cpu()
        beta = torch.zeros(width) if norm.bias is None else norm.bias.detach().cpu()
        self.linear: dict[Arriving | Literal["norm"], Tensor] = {}
        self.offset: dict[Arriving | Literal["norm"], NDArray[np.float64]] = {}
        handed: dict[Arriving | Literal["norm"], Tensor] = dict(seen.vectors.items())
        if len(seen.norm_inputs) > number + 1:
            handed["norm"] = seen.norm_inputs[number + 1][:, None]
        for space, vectors in handed.items():
            matrix, offset = read_linear(vectors[:, :, 0])  # (heads, features, D), (heads, features)
            self.linear[space] = matrix * gamma.double()
            self.offset[space] = (matrix @ beta.double() + offset).numpy()

    def project(self, space: Arriving, words: NDArray[np.float32]) -> NDArray[np.float32]:
        """``W diag(γ) x`` of the rows x of (m, D): float32 (heads, m, features)."""
        heads, features, _ = self.linear[space].shape
        rows = np.empty((heads, len(words), features), np.float32)
        turned = self.linear[space].reshape(-1, self.width).T
        # All heads in one product, which is faster; a batch at a time, so that it is laid out anew in the cache. In
        # float64: the sum over the channels would else be most of what an encoding is off by.
        for batch, out in _batches(words, rows.swapaxes(0, 1)):
            out[:] = torch.mm(torch.from_numpy(batch).double(), turned).reshape(-1, heads, features).numpy()
        return rows

    def shift(self, space: Arriving, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of positional terms (P, D): float64 (heads, P, features)."""
        return np.matmul(places, self.linear[space].numpy().swapaxes(1, 2))


def candidates(window: Window, layer: int, size: int, tables: Tables) -> list[Path]:
    """Paths that may serve a layer, the cheapest first; whether one is right is for a comparison to say."""
    arguments = (window, layer, size, tables)
    if window.layout.positions is None:
        return [Shared(*arguments), Reference(*arguments)]
    seen = Arrival(window, layer)
    window.run(torch.zeros(1, 1, dtype=torch.int64), seen)
    normed = [kind(*arguments) for kind in (Normed, TwiceNormed)[: len(seen.norms)]]
    return [*normed, Added(*arguments), Reference(*arguments)]


def relative_error(found: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Largest ``|found − true| / |true|`` of the vectors (…, features)."""
    sizes = np.maximum(np.linalg.norm(true, axis=-1), 1e-30)
    return float((np.linalg.norm(found - true, axis=-1) / sizes).max())


def _batches(given: Any, out: NDArray) -> Iterator[tuple[Any, NDArray]]:
    """Some rows at a time of what is given, and of where what is made of them goes."""
    for start in range(0, len(given), _ROWS):
        batch = slice(start, start + _ROWS)
        yield given[batch], out[batch]


def _centred(rows: Tensor) -> Tensor:
    rows = rows.to("cpu", torch.float64)
    return rows - rows.mean(dim=1, keepdim=True)
