"""What a measure of a corpus is: a state that takes in batches, merges with others, and ends as variables of the atlas.

A state is a dict of arrays of numbers, so that it can lie in a file. Merging is exact: whole numbers are counted; sums
are those of fixed-point numbers, the same in any order; of examples those stay that come first by value or by the hash
of their text, and then by its number. So what comes out depends neither on how batches make units, nor on how many
workers there were, nor on what was interrupted.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from attnxr.analysis import attending

State = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Facts:
    """What measures know of the model and the corpus before anything runs.

    Attributes
    ----------
    layers : tuple of int
        Numbers of the layers, as in the coordinate ``layer``.
    n_heads, vocab_size : int
    k : int
        How many neighbours are searched; 0 where no measure and nothing that is kept needs any.
    n_texts, n_tokens : int
        Of the whole corpus.
    seed : int
        Of the hash by which samples are drawn.
    causal : bool
        Whether tokens look only backwards, which says what a position could have attended to.
    """

    layers: tuple[int, ...]
    n_heads: int
    vocab_size: int
    k: int
    n_texts: int
    n_tokens: int
    seed: int
    causal: bool


@dataclass(frozen=True)
class Batch:
    """Texts of one length that go through the model together, t texts of n tokens.

    Attributes
    ----------
    text : int64 (t,)
        Their numbers in the corpus.
    position : int64 (t, n)
        Places of their tokens in the corpus, where texts lie end to end.
    token_id : int64 (t, n)
    is_special : bool (t, n)
    """

    text: NDArray[np.int64]
    position: NDArray[np.int64]
    token_id: NDArray[np.int64]
    is_special: NDArray[np.bool_]

    # What measures ask of each layer anew, and what is the same in all of them.

    @cached_property
    def content(self) -> NDArray[np.bool_]:
        """Which tokens (t, n) are neither special nor the first of their text, where attention says nothing."""
        return ~self.is_special & (np.arange(self.is_special.shape[1]) > 0)

    @cached_property
    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """The tokens that occur (m,), ascending, and which of them each is (t, n)."""
        tokens, index = np.unique(self.token_id, return_inverse=True)
        return tokens, index.reshape(self.token_id.shape)

    @cached_property
    def same(self) -> NDArray[np.int64]:
        """Where the token of each place stands before and after it (2, t, n): see `attending.places_of_same`."""
        return attending.places_of_same(self.token_id)


@dataclass(frozen=True)
class Near:
    """What the search found for a batch.

    Attributes
    ----------
    neighbor_id : int32 (layer, head, t, n, k)
    distance : float32 (layer, head, t, n, k)
    in_sequence : bool (layer, head, t, n, k)
        Whether the neighbour occurs in that text.
    own_rank : int32 (layer, head, t, n)
        1 = nearest.
    own_distance : float32 (layer, head, t, n)
    """

    neighbor_id: NDArray[np.int32]
    distance: NDArray[np.float32]
    in_sequence: NDArray[np.bool_]
    own_rank: NDArray[np.int32]
    own_distance: NDArray[np.float32]


class Measure(Protocol):
    """One thing that is measured of every head over a corpus.

    A measure that reads nothing of one kind has the method for it all the same, and is not called: `needs` says so.

    Attributes
    ----------
    name : str
        What ``measures=`` calls it.
    needs : frozenset of {"attention", "neighbors", "sample"}
        What it has to be shown.
    """

    name: str
    needs: frozenset[str]

    def begin(self, facts: Facts) -> State:
        """The state before anything was seen."""

    def see_attention(self, state: State, batch: Batch, layer: int, attention: Tensor) -> None:
        """Take in what one layer attended to, changing the state.

        Parameters
        ----------
        state : dict of array
        batch : Batch
        layer : int
            Index along ``layer``; each layer of a batch is shown once, in order.
        attention : float32 tensor (t, head, n, n), on the model's device
            Rows are queries.
        """

    def see_neighbors(self, state: State, batch: Batch, near: Near) -> None:
        """Take in what the search found for a batch, changing the state."""

    def see_text(self, state: State, text: int, model: Any, encodings: xr.Dataset) -> None:
        """Take in one text of the sample, whole: what `attnxr.Model.encode` returns of it, and the model."""

    def merge(self, first: State, second: State) -> State:
        """The state of both, the second one's batches coming after the first one's."""

    def finish(self, state: State, facts: Facts) -> xr.Dataset:
        """Variables of the atlas, with dimensions ``layer`` and ``head`` first, and attrs of their own."""
