"""Blocks of vocabulary encodings, in the form that a search reads: arrays only."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr.search import exact, kernels
from attnxr.search.simd import PANEL
from attnxr.search.tables import Tables

_BATCH = 4096  # vocabulary entries taken at once


@dataclass(frozen=True, eq=False)
class Screened:
    """Rows, less their mean (heads, d), as the screen of a search knows them: a `kernels.Vectors` for each head."""

    mean: NDArray[np.float64]
    heads: list[kernels.Vectors]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.mean.nbytes + sum(part.nbytes for head in self.heads for part in head)


@dataclass(frozen=True, eq=False)
class Block:
    """Vocabulary encodings of P positions: ``u[h, p, v] = (rows[h, v] + shift[h, p]) · scale[p, v] + offset[h]``.

    Here the scale is 1; a LayerNorm over word and position has one of its own (`NormedBlock`).

    Attributes
    ----------
    rows : float32 array (heads, V, d)
    shift : float64 array (heads, P, d)
    offset : float64 array (heads, d)
    tables : Tables
        Where to keep what is made of the rows.
    key : hashable
        What tells the rows from others there.
    """

    rows: NDArray[np.float32]
    shift: NDArray[np.float64]
    offset: NDArray[np.float64]
    tables: Tables
    key: Hashable

    @classmethod
    def plain(cls, rows: NDArray[np.float32], tables: Tables | None = None, key: Hashable = None) -> "Block":
        """Encodings of one position, as they are; without `tables`, what is made of them goes with the block."""
        heads, _, features = rows.shape
        tables = Tables(1 << 62) if tables is None else tables
        return cls(rows, np.zeros((heads, 1, features)), np.zeros((heads, features)), tables, key)

    @property
    def row_mean(self) -> NDArray[np.float64]:
        """Mean of each head's rows: float64 (heads, d). Computed where it is not kept."""
        return self.tables.get(
            ("row mean", self.key),
            lambda: np.stack(in_threads(lambda rows: rows.mean(axis=0, dtype=np.float64), self.rows)),
        )

    @property
    def screened(self) -> Screened:
        """The rows, less their mean, as the screen of a search knows them. Computed where they are not kept."""

        def make() -> Screened:
            mean = self.row_mean

            def screen(h: int) -> kernels.Vectors:
                return kernels.quantised(self.rows[h], mean[h], PANEL)

            return Screened(mean, in_threads(screen, range(len(mean))))

        return self.tables.get(("screened", self.key), make)

    def scale(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Scale of each entry at some of the positions: float64 (len(places), V); equal words have equal bits."""
        return np.ones((len(places), self.rows.shape[1]))

    def mean(self, heads: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[np.float64]:
        """Mean encoding of the vocabulary for some heads and positions: float64 (len(heads), len(places), d)."""
        return self.row_mean[heads, None] + self.shift[np.ix_(heads, places)] + self.offset[heads, None]

    def encodings(
        self, heads: NDArray[np.intp], place: NDArray[np.intp], ids: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Encodings of chosen entries, in float64.

        Parameters
        ----------
        heads : int array (H,)
        place : int array (n,)
            Which of the block's positions each of n positions has.
        ids : int array (L, H, n, m)
            Which entries.

        Returns
        -------
        float64 array (L, H, n, m, d)
        """
        places, at = np.unique(place, return_inverse=True)
        scale = self.scale(places)[at[:, None], ids]
        rows = self.rows[heads[:, None, None], ids].astype(np.float64)
        shifted = rows + self.shift[np.ix_(heads, place)][:, :, None]
        return shifted * scale[..., None] + self.offset[heads][:, None, None]


Blocks: TypeAlias = Sequence[tuple[NDArray[np.intp], Callable[[], Block]]]
"""Which positions a block serves, and what makes it: a block can be large, so one at a time is held."""


def serving(
    blocks: Blocks, place: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], Callable[[], Block]]]:
    """Go through blocks, and tell whom each serves.

    Parameters
    ----------
    blocks : Blocks
    place : int array (n,)
        Which of the blocks' positions, counted over all of them, each of n positions has.

    Yields
    ------
    int array (m,)
        Which of the n the block serves.
    int array (m,)
        Which of the block's own positions each of these has.
    callable
        What makes the block.
    """
    for rows, load in blocks:
        here = np.flatnonzero(np.isin(place, rows))
        yield here, np.searchsorted(rows, place[here]), load


@dataclass(frozen=True, eq=False)
class NormedBlock(Block):
    """A block whose scale is that of a LayerNorm: 1 / sqrt(|word + place|² / D + ε).

    Attributes
    ----------
    words : float32 array (V, D)
        Centred over the channels, as are the places.
    words_square : float64 array (V,)
    places : float64 array (P, D)
    epsilon : float
    words_key : hashable
        What tells the words from others in the tables.
    """

    words: NDArray[np.float32]
    words_square: NDArray[np.float64]
    places: NDArray[np.float64]
    epsilon: float
    words_key: Hashable

    def scale(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        def make(missing: list[int]) -> list[NDArray[np.float64]]:
            here = self.places[places[missing]]
            products = np.empty((len(here), len(self.words)))
            starts = range(0, len(self.words), _BATCH)
            in_threads(lambda start: exact.inner_products(self.words, here, start, start + _BATCH, products), starts)
            squares = exact.squares(here)[:, None]
            return list(norm_scale(self.words_square, products, squares, here.shape[1], self.epsilon))

        return np.stack(self.tables.get_all([("scale", self.words_key, *self._term(p)) for p in places], make))

    def mean(self, heads: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[np.float64]:
        pairs = [(h, p) for h in heads.tolist() for p in places.tolist()]

        def make(missing: list[int]) -> list[NDArray[np.float64]]:
            at: dict[int, list[int]] = {}
            for i in missing:
                at.setdefault(pairs[i][0], []).append(pairs[i][1])
            wanted = sorted({p for here in at.values() for p in here})
            scale = dict(zip(wanted, self.scale(np.array(wanted)), strict=True))
            return [mean for means in in_threads(lambda h: self._means(h, at[h], scale), at) for mean in means]

        terms = {p: self._term(p) for p in places.tolist()}
        found = self.tables.get_all([("mean", self.key, h, *terms[p]) for h, p in pairs], make)
        return np.reshape(found, (len(heads), len(places), -1))

    def _means(self, head: int, places: list[int], scale: dict[int, NDArray[np.float64]]) -> NDArray[np.float64]:
        here = np.stack([scale[p] for p in places])
        total = np.empty((len(here), self.rows.shape[2]))
        exact.weighted_sums(self.rows[head], here, total)
        return total / len(self.words) + self.shift[head, places] * here.mean(axis=1)[:, None] + self.offset[head]

    def _term(self, place: int) -> tuple[bytes, float]:
        """What tells a position from others: its term, and the norm it goes through."""
        return self.places[place].tobytes(), self.epsilon


@dataclass(frozen=True, eq=False)
class StoredBlock(Block):
    """A block whose scales and means were computed before: float64 (P, V) and (heads, P, d)."""

    scales: NDArray[np.float64]
    means: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray, shift: NDArray, offset: NDArray, scales: NDArray, means: NDArray) -> "StoredBlock":
        """Take the parts of a block as they are."""
        return cls(rows, shift, offset, Tables(0), None, scales, means)

    def scale(self, places: NDArray[np.intp]) -> NDArray[np.float64]:
        return self.scales[places]

    def mean(self, heads: NDArray[np.intp], places: NDArray[np.intp]) -> NDArray[np.float64]:
        return self.means[np.ix_(heads, places)]


def norm_scale(
    word: NDArray[np.float64], product: NDArray[np.float64], place: NDArray[np.float64], width: int, epsilon: float
) -> NDArray[np.float64]:
    """Scale of a LayerNorm of word + place, from their squares and their product; see `NormedBlock`."""
    return 1 / np.sqrt((word + 2 * product + place) / width + epsilon)


def in_threads(function: Callable[[Any], Any], items: Any) -> list[Any]:
    """Apply a function that lets go of Python's lock to each of some items, in as many threads as torch uses."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(function, items))
