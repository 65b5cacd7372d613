"""Distances between the positions of a text: which other tokens' encodings is a head's encoding near to?"""

import numpy as np
import xarray as xr

from attnxr.analysis.arrays import distances
from attnxr.analysis.corpora import on_corpora
from attnxr.checking import choice, tokens, whole_number
from attnxr.options import METRICS, Metric
from attnxr.schema import ENCODINGS, SEQUENCE_DISTANCES, SEQUENCE_NEIGHBORS, describe, validate
from attnxr.texts import places


@on_corpora
def sequence_distances(encodings: xr.Dataset, *, metric: Metric = "cosine") -> xr.Dataset:
    """Distance between the head encodings of every two positions, for every layer and head.

    Parameters
    ----------
    encodings : xr.Dataset
        What `Model.encode` returns, or a selection from it.
    metric : {"cosine", "euclidean", "dot", "centered_cosine"}
        ``centered_cosine`` first subtracts the mean encoding of all the positions of that layer and head.

    Returns
    -------
    xr.Dataset
        ``distance`` (layer, head, position, other_position) float32, with coords ``other_token`` and
        ``other_text`` (other_position). Symmetric; computed in float64.

    Raises
    ------
    InputError
        If the Dataset has no encodings or the metric is unknown.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> attnxr.sequence_distances(enc).distance.dims
    ('layer', 'head', 'position', 'other_position')
    """
    choice("metric", metric, METRICS)
    z = validate(encodings, ENCODINGS, required=("head_encoding", "position", "token", "text"))["head_encoding"]
    tokens(encodings, "The Dataset")
    vectors = z.transpose("layer", "head", "position", "feature").values.astype(np.float64)
    distance = xr.DataArray(
        distances(vectors, vectors, metric).astype(np.float32),
        dims=("layer", "head", "position", "other_position"),
        coords={
            **z.coords,
            "other_position": z["position"].values,
            "other_token": ("other_position", z["token"].values),
            "other_text": ("other_position", z["text"].values),
        },
    )
    result = distance.to_dataset(name="distance").drop_vars("feature", errors="ignore")
    result.attrs = {**encodings.attrs, "metric": metric}
    return describe(result, SEQUENCE_DISTANCES)


@on_corpora
def sequence_neighbors(encodings: xr.Dataset, *, k: int = 5, metric: Metric = "cosine") -> xr.Dataset:
    """Find the k nearest other positions of the same text, for every layer, head and position.

    Parameters
    ----------
    encodings : xr.Dataset
        What `Model.encode` returns, of one text or of many, or a selection from it.
    k : int
        How many, 1 … n − 1, for the n positions of the shortest text.
    metric : {"cosine", "euclidean", "dot", "centered_cosine"}
        As in `sequence_distances`, of each text by itself.

    Returns
    -------
    xr.Dataset
        ``neighbor_position`` int64, ``neighbor`` and ``neighbor_text`` str, ``distance`` float32 (layer, head,
        position, rank), nearest first, of equal distances the earlier position first.

    Raises
    ------
    InputError
        As in `sequence_distances`, or if `k` is out of range.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> found = attnxr.sequence_neighbors(enc, k=2)
    >>> found.neighbor.sel(layer=0, head=3, position=2).values.tolist()
    ['arrow', 'time']
    """
    validate(encodings, ENCODINGS, required=("head_encoding", "position", "token", "text"))
    tokens(encodings, "The Dataset")
    texts, _ = places(encodings)
    of_text = [np.flatnonzero(texts == text) for text in np.unique(texts)]
    shortest = min(map(len, of_text), default=0)
    k = whole_number("k", k, 1, shortest - 1, f"as the shortest text has {shortest} positions")
    parts = [_nearest(sequence_distances(encodings.isel(position=here), metric=metric), k) for here in of_text]
    order = np.argsort(np.concatenate(of_text), kind="stable")
    result = xr.concat(parts, "position", data_vars="minimal", coords="minimal", compat="override", join="override")
    result = result.isel(position=order)
    result.attrs["k"] = k
    return describe(result, SEQUENCE_NEIGHBORS)


def _nearest(distances: xr.Dataset, k: int) -> xr.Dataset:
    distance = distances["distance"].values.copy()
    own = np.arange(distance.shape[-1])
    distance[..., own, own] = np.inf
    nearest = np.argsort(distance, axis=-1, kind="stable")[..., :k]
    dims = ("layer", "head", "position", "rank")
    result = distances.drop_vars(["distance", "other_position", "other_token", "other_text"])
    return result.assign_coords(rank=np.arange(1, k + 1)).assign(
        neighbor_position=(dims, distances["other_position"].values[nearest]),
        neighbor=(dims, distances["other_token"].values[nearest]),
        neighbor_text=(dims, distances["other_text"].values[nearest]),
        distance=(dims, np.take_along_axis(distance, nearest, axis=-1)),
    )
