"""Blocks of vocabulary encodings, in the form that a search reads: arrays only."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attnxr import kernels

_BATCH = 4096  # vocabulary entries taken at once


@dataclass(frozen=True, eq=False)
class Block:
    """Vocabulary encodings of P positions: ``u[h, p, v] = (rows[h, v] + shift[h, p]) · scale[p, v] + offset[h]``.

    Here the scale is 1; a LayerNorm over word and position has one of its own (`NormedBlock`).

    Attributes
    ----------
    rows : float32 array (heads, V, d)
    shift : float64 array (heads, P, d)
    offset : float64 array (heads, d)
    """

    rows: NDArray[np.float32]
    shift: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def plain(cls, rows: NDArray[np.float32]) -> "Block":
        """Encodings of one position, as they are."""
        heads, _, features = rows.shape
        return cls(rows, np.zeros((heads, 1, features)), np.zeros((heads, features)))

    def scale(self, entries: slice) -> NDArray[np.float64]:
        """Scale of every position at a run of vocabulary entries: float64 (P, V)."""
        return np.ones((self.shift.shape[1], self.rows[0, entries].shape[0]))

    def scale_at(self, places: NDArray[np.intp], entries: NDArray[np.integer]) -> NDArray[np.float64]:
        """Scale at pairs of a position and an entry: float64 (m,); equal words give equal bits."""
        return np.ones(len(entries))

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean encoding of the vocabulary for each head and position: float64 (heads, P, d)."""
        heads, size, _ = self.rows.shape
        total, weight = np.zeros_like(self.shift), np.zeros(self.shift.shape[1])
        for start in range(0, size, _BATCH):
            entries = slice(start, start + _BATCH)
            scale = self.scale(entries)
            weight += scale.sum(axis=1)
            for h in range(heads):
                total[h] += scale @ self.rows[h, entries].astype(np.float64)
        return (total + self.shift * weight[:, None]) / size + self.offset[:, None]


@dataclass(frozen=True, eq=False)
class NormedBlock(Block):
    """A block whose scale is that of a LayerNorm: 1 / sqrt(|word + place|² / D + ε).

    Attributes
    ----------
    words : float32 array (V, D)
        Centred over the channels, as are the places.
    words_square : float64 array (V,)
    places : float64 array (P, D)
    places_square : float64 array (P,)
    epsilon : float
    """

    words: NDArray[np.float32]
    words_square: NDArray[np.float64]
    places: NDArray[np.float64]
    places_square: NDArray[np.float64]
    epsilon: float

    def scale(self, entries: slice) -> NDArray[np.float64]:
        product = self.places @ self.words[entries].astype(np.float64).T
        return self._scale(self.words_square[entries], product, self.places_square[:, None])

    def scale_at(self, places: NDArray[np.intp], entries: NDArray[np.integer]) -> NDArray[np.float64]:
        product = kernels.pair_products(self.words, self.places, entries, places)
        return self._scale(self.words_square[entries], product, self.places_square[places])

    def _scale(
        self, word: NDArray[np.float64], product: NDArray[np.float64], place: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return 1 / np.sqrt((word + 2 * product + place) / self.words.shape[1] + self.epsilon)
