"""Distances between the positions of a text: which other tokens' encodings is a head's encoding near to?"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.errors import InputError
from attnxr.schema import ENCODINGS, SEQUENCE_DISTANCES, describe, validate

METRICS = ("cosine", "euclidean", "dot", "centered_cosine")


def sequence_distances(encodings: xr.Dataset, metric: str = "cosine") -> xr.Dataset:
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
    """
    if metric not in METRICS:
        raise InputError(f"metric={metric!r} was given; expected one of {', '.join(METRICS)}.")
    z = validate(encodings, ENCODINGS, required=("encoding", "position", "token", "text"))["encoding"]
    vectors = z.transpose("layer", "head", "position", "feature").values.astype(np.float64)
    distance = xr.DataArray(
        _pairwise(vectors, metric).astype(np.float32),
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


def _pairwise(vectors: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """Distances between all rows of (…, n, d): float64 (…, n, n)."""
    if metric == "euclidean":
        # One position at a time, by differences: |a|² + |b|² − 2ab would cancel for near ones.
        rows = [np.linalg.norm(vectors - vectors[..., [i], :], axis=-1) for i in range(vectors.shape[-2])]
        return np.stack(rows, axis=-2)
    if metric == "dot":
        return -_products(vectors)
    if metric == "centered_cosine":
        vectors = vectors - vectors.mean(axis=-2, keepdims=True)
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
    return np.maximum(0, 1 - _products(unit))


def _products(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors @ np.swapaxes(vectors, -1, -2)
