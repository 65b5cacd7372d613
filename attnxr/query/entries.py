"""Encodings of chosen vocabulary entries, where a question's vectors are compared with them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema
from attnxr.checking import index_of, vocabulary_ids
from attnxr.errors import InputError
from attnxr.query.question import Question
from attnxr.search.blocks import serving


def answer(question: Question, ids: xr.DataArray | Sequence[int], model: str) -> xr.Dataset:
    """Encodings of some vocabulary entries, beside the vectors; see `Model.vocabulary_encodings`.

    Parameters
    ----------
    question : Question
    ids : xr.DataArray or list of int
    model : str
        What the model is called.

    Raises
    ------
    InputError
        As `ids_for`; or if the vocabulary has no such ids.
    """
    asked = ids_for(question, ids)
    vocabulary_ids(asked.values.ravel(), question.names.size, model)
    others = tuple(map(str, asked.dims[len(question.frame.dims) :]))
    found = encodings(question, asked.values.reshape(*question.shape, -1))
    shape = [asked.sizes[dim] for dim in others]
    variables = {
        "vocabulary_encoding": found.reshape(*question.shape, *shape, found.shape[-1]),
        "vector": question.vectors(),
    }
    spec = schema.VOCABULARY_ENCODINGS["vocabulary_encoding"]
    specs = schema.VOCABULARY_ENCODINGS | {
        "vocabulary_encoding": replace(spec, dims=(*spec.dims[:3], *others, spec.dims[-1]))
    }
    return question.frame.dataset(variables, specs, coords={dim: asked[dim] for dim in others if dim in asked.coords})


def ids_for(question: Question, ids: xr.DataArray | Sequence[int]) -> xr.DataArray:
    """Vocabulary ids for all of a question's layers, heads and positions, in the order of its dims, then others.

    Raises
    ------
    InputError
        If they are no whole numbers, or not there for all that the question has.
    """
    given = np.asarray(ids)
    if given.dtype.kind not in "iu" or not given.size or not (isinstance(ids, xr.DataArray) or given.ndim == 1):
        raise InputError(
            f"ids of shape {given.shape} and dtype {given.dtype} were given; expected vocabulary ids, whole numbers: a "
            "list of them, or a DataArray such as near.neighbor_id."
        )
    asked = ids if isinstance(ids, xr.DataArray) else xr.DataArray(given, dims="entry")
    frame = question.frame
    for dim in frame.dims:
        if dim in asked.dims:
            index = index_of(frame.coords, asked, dim, ("The encodings have", "ids"), "Select the same from both.")
            asked = asked.isel({dim: index})
        else:
            labels = np.asarray(frame.coords[dim])
            asked = asked.drop_vars(dim, errors="ignore").expand_dims({dim: labels})
    return asked.transpose(*frame.dims, ...)


def encodings(question: Question, ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Encodings that a search compares its vectors with, each computed in float64 from the same parts.

    Parameters
    ----------
    question : Question
    ids : int array (L, H, n, m)
        Vocabulary ids for each of the question's layers, heads and positions.

    Returns
    -------
    float64 array (L, H, n, m, d)
    """
    out: NDArray[np.float64] | None = None
    for space in question.spaces():
        for here, place, load in serving(space.blocks, space.place):
            wanted = np.ix_(space.chosen, np.arange(len(space.heads)), here)
            found = load().encodings(space.heads, place, ids[wanted])
            if space.turns is not None:
                found = found @ space.turns[here].transpose(0, 2, 1)
            if out is None:
                out = np.empty((*ids.shape, found.shape[-1]))
            out[wanted] = found
    assert out is not None  # a question has vectors
    return out
