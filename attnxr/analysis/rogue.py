"""Rogue dimensions: the few features that most of every cosine comes from."""

import numpy as np
import xarray as xr

from attnxr.analysis.arrays import unit
from attnxr.analysis.corpora import on_corpora
from attnxr.checking import whole_number, with_all_dims
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.options import VARIABLE, Of, Space, VocabLayer
from attnxr.schema import ROGUE, describe, only_dims

PAIRS = ("vectors", "vector and entry", "entries")


@on_corpora
def rogue_dimensions(
    model: Model,
    encodings: xr.Dataset,
    *,
    top: int = 3,
    of: Of = "encoding",
    space: Space = "value",
    vocab_layer: VocabLayer = "input",
    positional: bool = True,
) -> xr.Dataset:
    """Split the expected cosine of two random vectors of a head into what each feature contributes [1]_.

    The cosine of x and y is the sum over features i of ``x_i y_i / (|x| |y|)``; the mean of that term over all pairs is
    what feature i contributes, and the sum of these means is the expected cosine. Where a few features contribute most
    of it, cosines say little of the others. The mean is over all pairs, not a sample of them:

    - ``vectors``: two vectors of the Dataset, of one layer and head, at different positions; NaN where there is one;
    - ``vector and entry``: a vector and a vocabulary entry, as at the vector's position: the cosines that neighbours
      are found by;
    - ``entries``: two vocabulary entries (or twice the same) at one position, for all positions of the Dataset.

    Parameters
    ----------
    model : Model
    encodings : xr.Dataset
        What `Model.encode` returns, or a selection from it.
    top : int
        How many features to name, 1 … d.
    of, space, vocab_layer, positional
        As in `Model.neighbors`; not for contributions.

    Returns
    -------
    xr.Dataset
        ``contribution`` (pairs, layer, head, feature) float64; ``expected_cosine`` (pairs, layer, head) float64, its
        sum; ``top_feature`` int32 and ``top_share`` float64 (pairs, layer, head, top_rank), the features that
        contribute most, the first of equal ones first, and which part of the expected cosine each is. Features can
        contribute less than nothing, so that shares can be above 1; they mean little where the expected cosine is
        about 0. There is no ``head`` where the vectors have none.

    Raises
    ------
    InputError, UnsupportedModelError
        As in `Model.neighbors`; or if `top` is out of range.

    References
    ----------
    .. [1] Timkey & van Schijndel, All Bark and No Bite: Rogue Dimensions in Transformer Language Models Obscure
       Representational Quality, EMNLP 2021, arXiv 2109.04404, section 3.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> attnxr.rogue_dimensions(model, enc).expected_cosine.dims
    ('pairs', 'layer', 'head')
    """
    if of == "contribution":
        raise InputError(
            "Rogue dimensions were asked with of='contribution'; expected of='encoding', which it is made from, or a "
            "vector of the whole stream."
        )
    moments = model.moments(
        encodings, include=["direction"], of=of, space=space, vocab_layer=vocab_layer, positional=positional
    )
    whole, _ = with_all_dims(encodings, VARIABLE[of])
    top = whole_number("top", top, 1, whole[VARIABLE[of]].shape[-1])
    vectors = unit(whole[VARIABLE[of]].values.astype(np.float64))
    n = vectors.shape[-2]
    entry = moments["direction"].values.reshape(vectors.shape)
    total = vectors.sum(axis=-2)
    both = n * (n - 1) if n > 1 else np.nan
    contribution = np.stack(
        [
            (np.square(total) - np.square(vectors).sum(axis=-2)) / both,
            (vectors * entry).mean(axis=-2),
            np.square(entry).mean(axis=-2),
        ]
    )
    expected = contribution.sum(axis=-1)
    top_feature = np.argsort(-contribution, axis=-1, kind="stable")[..., :top]
    largest = np.take_along_axis(contribution, top_feature, axis=-1)
    top_share = np.divide(
        largest, expected[..., None], out=np.full_like(largest, np.nan), where=expected[..., None] != 0
    )
    dims = [dim for dim in ("layer", "head", "kv_head") if dim in moments.coords]
    result = xr.Dataset(
        {
            "contribution": (("pairs", *dims, "feature"), contribution),
            "expected_cosine": (("pairs", *dims), expected),
            "top_feature": (("pairs", *dims, "top_rank"), top_feature.astype(np.int32)),
            "top_share": (("pairs", *dims, "top_rank"), top_share),
        },
        coords={**{dim: np.atleast_1d(moments[dim].values) for dim in dims}, "pairs": list(PAIRS)},
        attrs=moments.attrs,
    ).assign_coords(top_rank=np.arange(1, top + 1))
    return describe(result, only_dims(ROGUE, dims)).isel({dim: 0 for dim in dims if dim not in moments.dims})
