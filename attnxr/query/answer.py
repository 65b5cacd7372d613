"""From arrays (layer, head, position, …) to the Dataset of an answer; here alone it matters whether there are heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema
from attnxr.search.nearest import Nearest
from attnxr.tokens import VocabularyTokens


@dataclass(frozen=True, eq=False)
class Frame:
    """What the Dataset of an answer has besides its variables.

    Attributes
    ----------
    dims : tuple of str
        ``layer``, ``head`` (``kv_head`` for vectors that several heads share; neither for vectors without heads) and
        ``position``.
    coords, attrs : dict
    dropped : sequence of str
        Dimensions of size 1 that the Dataset is not to have, as the selection that was asked about had dropped them.
    """

    dims: tuple[str, ...]
    coords: Mapping[Any, Any]
    attrs: Mapping[str, Any]
    dropped: Sequence[str] = ()

    def dataset(
        self,
        variables: Mapping[str, NDArray | xr.Variable],
        specs: dict[str, schema.Spec],
        *,
        coords: Mapping[str, Any] | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Put variables together.

        Parameters
        ----------
        variables : mapping of str to array (L, H, n, …)
            With H = 1 for vectors without heads. A lazy variable stays lazy.
        specs : dict of Spec
            What the variables look like for vectors with heads.
        coords, attrs : mapping, optional
            More of these.

        Returns
        -------
        xr.Dataset
            As `specs` declare it, without heads where there are none, and without what was dropped.
        """
        data = {name: self._variable(array, specs[name].dims[3:]) for name, array in variables.items()}
        result = xr.Dataset(data, {**self.coords, **(coords or {})}, {**self.attrs, **(attrs or {})})
        return schema.describe(result, schema.only_dims(specs, self.dims)).isel(dict.fromkeys(self.dropped, 0))

    def neighbors(
        self, found: Nearest, vocabulary: VocabularyTokens, in_sequence: NDArray[np.bool_], **attrs: Any
    ) -> xr.Dataset:
        """The Dataset of neighbours, with the names of what was found, and ranks from 1."""
        k = found.ids.shape[-1]
        variables = {
            "neighbor_id": found.ids,
            "neighbor": vocabulary.token[found.ids],
            "neighbor_text": vocabulary.text[found.ids],
            "distance": found.distance,
            "in_sequence": in_sequence,
            "own_rank": found.own_rank,
            "own_distance": found.own_distance,
        }
        ranks = {"rank": np.arange(1, k + 1)}
        return self.dataset(variables, schema.NEIGHBORS, coords=ranks, attrs={**attrs, "k": k})

    def _variable(self, values: NDArray | xr.Variable, others: tuple[str, ...]) -> xr.Variable:
        of_heads = ("layer", "head", "position", *others)
        variable = values if isinstance(values, xr.Variable) else _of_array(of_heads, values)
        if len(self.dims) == 2:
            variable = variable.isel(head=0)
        variable.dims = (*self.dims, *others)
        return variable


def _of_array(dims: tuple[str, ...], values: NDArray) -> xr.Variable:
    """A variable of an array, whose strings stay those that were given.

    Where pandas is 3 or newer, xarray makes a string of its own for every entry of an array that it is given. But names
    of tokens recur: those of the neighbours of one line of text took three times what all else of them does.
    """
    if values.dtype != object:
        return xr.Variable(dims, values)
    variable = xr.Variable(dims, np.empty_like(values))
    variable.values[...] = values
    return variable


def in_sequence(
    ids: NDArray[np.int32], texts: Sequence[Sequence[int]], text_of: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether vocabulary ids (L, H, n, k) occur in the text of their position, whose number is in `text_of` (n,)."""
    found = np.empty(ids.shape, bool)
    for text, tokens in enumerate(texts):
        here = text_of == text
        found[:, :, here] = np.isin(ids[:, :, here], tokens)
    return found
