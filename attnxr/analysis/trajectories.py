"""Trajectories: how near every position stays to its own token, layer by layer, in each head and in the stream."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.given import Given, attribute, neighbors, same_texts
from attnxr.checking import same_labels
from attnxr.errors import InputError
from attnxr.schema import TRAJECTORIES, describe

_REQUIRED = ("own_rank", "own_distance")


@on_corpora
def trajectories(near: xr.Dataset, stream: xr.Dataset | None = None) -> xr.Dataset:
    """Own rank and own similarity over layers, for each head, over heads, and for the residual stream.

    Parameters
    ----------
    near : xr.Dataset or xr.DataTree
        What `Model.neighbors` returns, of one text or of many, or a selection from it; or a corpus, of which everything
        is computed when it is asked for, chunk by chunk. Without heads (``of="residual"`` or ``"hidden"``) the
        summaries over heads are left out.
    stream : xr.Dataset, optional
        Of the same text, layers and positions: what `Model.neighbors` returns with ``of="residual"`` or ``"hidden"``.
        Its metric may be another one.

    Returns
    -------
    xr.Dataset
        - ``own_rank`` (layer, head, position) int32: 1 is nearest;
        - ``own_quantile`` float64: (own rank − 1) / (V − 1), the share of the other vocabulary entries that are
          nearer than the own token: 0 … 1 whatever the size of the vocabulary, and 1/2 on average for a token drawn
          at random;
        - ``own_similarity`` float32: larger is nearer. The cosine (``cosine``, ``centered_cosine``: 1 − distance), the
          inner product (``dot``) or the negative distance (``euclidean``);
        - ``best_head`` (layer, position) int64: the head with the smallest own rank, of several such that with the
          smallest own distance; ``best_own_rank`` int32 and ``median_own_rank`` float64, over heads;
        - ``stream_own_rank``, ``stream_own_quantile``, ``stream_own_similarity`` (layer, position), if given.

    Raises
    ------
    InputError
        If a Dataset is not what is expected, or the stream is of another text, of other layers or positions.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> attnxr.trajectories(near).own_quantile.sel(layer=0, head=3, position=2).item() < 0.01
    True
    """
    given = neighbors(near, *_REQUIRED)
    result = given.bare().assign(_own(given, "near"))
    if given.head:
        result = result.assign(_over_heads(given, given.head))
    if stream is not None:
        result = result.assign({f"stream_{name}": values for name, values in _of_stream(given, stream).items()})
        options = ("metric", "of", "space", "vocab_layer", "positional")
        result.attrs |= {f"stream_{key}": stream.attrs[key] for key in options if key in stream.attrs}
    return describe(result, given.described(TRAJECTORIES)).isel(dict.fromkeys(given.dropped, 0))


def _own(given: Given, name: str) -> dict[str, xr.Variable]:
    rank, distance = (given.near.variables[each] for each in _REQUIRED)
    others = max(1, int(attribute(given.near, "vocab_size", name)) - 1)
    one = np.float32(1 if "cosine" in attribute(given.near, "metric", name) else 0)
    variables = {"own_rank": rank, "own_quantile": (rank - 1) / others, "own_similarity": one - distance}
    return {each: variable.copy() for each, variable in variables.items()}


def _over_heads(given: Given, head: str) -> dict[str, xr.Variable]:
    rank, distance = (given.near.variables[each] for each in _REQUIRED)
    best, smallest, median = xr.apply_ufunc(
        _summary,
        rank,
        distance,
        given.near[head].variable,
        input_core_dims=[[head]] * 3,
        output_core_dims=[[]] * 3,
        dask="parallelized",
        keep_attrs=False,
        output_dtypes=[np.int64, rank.dtype, np.float64],
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    return {"best_head": best, "best_own_rank": smallest, "median_own_rank": median}


def _summary(rank: NDArray[np.int32], distance: NDArray[np.float32], heads: NDArray[np.int64]) -> tuple[NDArray, ...]:
    """Of each (…, head): the head with the smallest rank, that rank, and their median."""
    best = np.lexsort((distance, rank), axis=-1)[..., 0]
    return heads[best], rank.min(axis=-1), np.median(rank, axis=-1)


def _of_stream(heads: Given, stream: xr.Dataset) -> dict[str, xr.Variable]:
    given = neighbors(stream, *_REQUIRED, name="stream")
    if given.head:
        raise InputError(
            f"stream has the dimension {given.head!r}; expected neighbours of the residual stream: "
            "model.neighbors(encodings, of='hidden', space='embedding')."
        )
    same_texts(heads.near, given.near, "near and stream")
    same_labels(heads.near, given.near, given.dims, ("near", "stream"), "Select the same from both.")
    return _own(given, "stream")
