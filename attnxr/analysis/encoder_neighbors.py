"""Which tokens of the encoder's text is it that a head of cross-attention writes something near to?"""

import numpy as np
import xarray as xr

from attnxr.analysis.arrays import distances
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.given import attribute
from attnxr.checking import choice, whole_number
from attnxr.errors import InputError
from attnxr.options import METRICS, Metric
from attnxr.schema import ENCODER_NEIGHBORS, ENCODINGS, describe, validate


@on_corpora
def encoder_neighbors(encodings: xr.Dataset, *, k: int = 5, metric: Metric = "cosine") -> xr.Dataset:
    """Find the k tokens of the encoder's text whose values are nearest to what each head of cross-attention wrote.

    A value of cross-attention is W_V of the encoder's last hidden state, which a token has in its text and not alone:
    so the tokens of that text are all that there is to compare with, and they are compared exactly.

    Parameters
    ----------
    encodings : xr.Dataset
        What ``model.encode(text, target=…, stack="cross", include=["value_vector"])`` returns, or a selection of
        layers, heads and positions from it.
    k : int
        How many, 1 … m, for the m tokens of the encoder's text.
    metric : {"cosine", "euclidean", "dot", "centered_cosine"}
        ``centered_cosine`` first subtracts the mean value of the m tokens of that layer and head.

    Returns
    -------
    xr.Dataset
        ``neighbor_position`` int64, ``neighbor`` and ``neighbor_text`` str, ``distance`` float32 (layer, head,
        position, rank), nearest first, of equal distances the earlier position first; computed in float64.

    Raises
    ------
    InputError
        If the Dataset is none of cross-attention or has no values or tokens of the encoder's text, or `k` or `metric`
        is invalid.

    Examples
    --------
    >>> import transformers
    >>> import attnxr
    >>> config = transformers.T5Config(
    ...     vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    ... )
    >>> model = attnxr.Model(transformers.T5ForConditionalGeneration(config).eval())
    >>> enc = model.encode(token_ids=[5, 6, 7], target=[0, 8], stack="cross", include=["value_vector"])
    >>> attnxr.encoder_neighbors(enc, k=2).neighbor_position.shape
    (1, 2, 2, 2)
    """
    choice("metric", metric, METRICS)
    needed = ("head_encoding", "encoder_value_vector", "layer", "head", "kv_head", "position", "token", "text")
    if isinstance(encodings, xr.Dataset) and "encoder_value_vector" not in encodings:
        raise InputError(
            "The Dataset has no values of an encoder's text. Expected what model.encode(text, target=…, "
            "stack='cross', include=['value_vector']) returns."
        )
    validate(encodings, ENCODINGS, required=(*needed, "key_position", "key_token", "key_text"))
    z = encodings["head_encoding"].transpose("layer", "head", "position", "feature")
    values = encodings["encoder_value_vector"].transpose("layer", "kv_head", "key_position", "feature")
    k = whole_number("k", k, 1, values.sizes["key_position"], "as many as the encoder's text has tokens")
    of_head = _values_of(encodings)
    distance = distances(z.values.astype(np.float64), values.values[:, of_head].astype(np.float64), metric)
    nearest = np.argsort(distance, axis=-1, kind="stable")[..., :k]
    dims = ("layer", "head", "position", "rank")
    result = xr.Dataset(
        {
            "neighbor_position": (dims, encodings["key_position"].values[nearest]),
            "neighbor": (dims, encodings["key_token"].values[nearest]),
            "neighbor_text": (dims, encodings["key_text"].values[nearest]),
            "distance": (dims, np.take_along_axis(distance, nearest, axis=-1).astype(np.float32)),
        },
        {**z.coords, "rank": np.arange(1, k + 1)},
        {**encodings.attrs, "metric": metric, "k": k},
    )
    return describe(result, ENCODER_NEIGHBORS)


def _values_of(encodings: xr.Dataset) -> list[int]:
    """Which of the heads of values each head reads; several query heads may share one."""
    heads, of_values = encodings["head"].values, encodings["kv_head"].values.tolist()
    shared = int(attribute(encodings, "heads_per_value", "The Dataset"))
    missing = sorted({*(heads // shared).tolist()} - {*of_values})
    if missing:
        raise InputError(
            f"The Dataset has heads that read the values of kv_head {missing[0]}, and only those of {of_values}. "
            "Expected the values of all of its heads."
        )
    return [of_values.index(head) for head in (heads // shared).tolist()]
