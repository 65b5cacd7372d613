"""Hubs: vocabulary entries that are among the nearest of far more vectors than chance would have it."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import skew

from attnxr.analysis.arrays import counter, counts, is_lazy, share
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.csls import csls_neighbors
from attnxr.analysis.given import check_ranks
from attnxr.checking import tokens, whole_number
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.options import Of, Space, VocabLayer
from attnxr.schema import HUBNESS, NEIGHBORS, REMEDIES, describe, only_dims, validate
from attnxr.texts import has_many


@on_corpora
def hubness(neighbors: xr.Dataset, *, hubs: int = 10, over: Sequence[str] = ("position",)) -> xr.Dataset:
    """Count how often each vocabulary entry is a neighbour [1]_.

    ``occurrence``, N_k(v), is the number of vectors that have v among their k nearest. Its skewness measures hubness:
    it is large where a few entries are everybody's neighbours. Where vectors are few beside the entries, as in one
    text, even chance gives a skewed N_k: if each of n vectors had k of the V entries picked for it at random, N_k(v)
    would be binomial, of skewness ``(1 − 2q) / sqrt(n q (1 − q))`` with q = k / V. Hubness is the excess over that.

    Parameters
    ----------
    neighbors : xr.Dataset or xr.DataTree
        What `Model.neighbors` or `csls_neighbors` returns, or a selection from it with the ranks 1 … k; or a corpus,
        which is counted at once, one chunk of positions after the other.
    hubs : int
        How many of the most frequent neighbours to name.
    over : sequence of str
        Dimensions whose vectors are counted together: any of ``position``, ``head`` (or ``kv_head``) and ``layer``; of
        a corpus ``position`` is one of them.

    Returns
    -------
    xr.Dataset
        With the dimensions of `neighbors` that are not counted over:

        - ``occurrence`` (…, vocab) int32: N_k of every entry;
        - ``skewness`` (…) float64: the third standardised moment of N_k over the vocabulary, 0 where all are equal;
        - ``chance_skewness`` () float64: what chance would give, as above;
        - ``hub_id``, ``hub_occurrence`` int32, ``hub``, ``hub_text`` str (…, hub_rank): the most frequent neighbours,
          equal ones in the order of their ids. Entries that are nobody's neighbour are no hubs: where too few are
          left, the id is −1 and the names are empty.

        attrs["vectors"] is n.

    Raises
    ------
    InputError
        If the Dataset has no neighbours, not the ranks 1 … k or not a dimension of `over`, or `hubs` is no number from
        1 to V.

    References
    ----------
    .. [1] Radovanović, Nanopoulos & Ivanović, Hubs in Space: Popular Nearest Neighbors in High-Dimensional Data,
       JMLR 11, 2010.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> found = attnxr.hubness(near)
    >>> found.occurrence.sum().item() == near.neighbor_id.size
    True
    """
    ids = _ids(neighbors, over)
    size, k = int(neighbors.attrs["vocab_size"]), ids.sizes["rank"]
    hubs = whole_number("hubs", hubs, 1, size)
    kept = [str(dim) for dim in ids.dims if dim not in (*over, "rank")]
    occurrence = _occurrence(ids, kept, size)
    shape = occurrence.shape[:-1]
    hub_ids, hub_occurrence = np.full((*shape, hubs), -1, np.int32), np.zeros((*shape, hubs), occurrence.dtype)
    for here in np.ndindex(shape):
        count = occurrence[here]
        some = np.flatnonzero(count)
        some = some[np.argsort(-count[some], kind="stable")[:hubs]]
        hub_ids[here][: len(some)], hub_occurrence[here][: len(some)] = some, count[some]
    n = int(np.prod([ids.sizes[dim] for dim in over]))
    ranked = (*kept, "hub_rank")
    result = xr.Dataset(
        {
            "occurrence": ((*kept, "vocab"), occurrence),
            "skewness": (kept, _skewness(occurrence)),
            "chance_skewness": ((), _chance_skewness(n, k / size)),
            "hub_id": (ranked, hub_ids),
            "hub": (ranked, _names(neighbors, "neighbor", size)[hub_ids]),
            "hub_text": (ranked, _names(neighbors, "neighbor_text", size)[hub_ids]),
            "hub_occurrence": (ranked, hub_occurrence),
        },
        coords={
            **{name: coord for name, coord in ids.coords.items() if set(coord.dims) <= set(kept)},
            "vocab": np.arange(size),
            "hub_rank": np.arange(1, hubs + 1),
        },
        attrs={**neighbors.attrs, "k": k, "vectors": n},
    )
    return describe(result, only_dims(HUBNESS, kept))


@on_corpora
def hubness_remedies(
    model: Model,
    encodings: xr.Dataset,
    *,
    k: int = 15,
    local: int = 10,
    of: Of = "encoding",
    space: Space = "value",
    vocab_layer: VocabLayer = "input",
    positional: bool = True,
    over: Sequence[str] = ("position",),
) -> xr.Dataset:
    """Show what two proposed remedies for hubs do to the neighbours by cosine: centring, and local scaling.

    ``centered_cosine`` takes away what all encodings have in common; ``csls`` what makes an entry near to all vectors
    (`csls_neighbors`). Which of them helps is to be measured: in all-MiniLM-L6-v2 centring makes the skewness larger in
    every layer, and local scaling smaller.

    Parameters
    ----------
    model, encodings, k, local, of, space, vocab_layer, positional
        As in `csls_neighbors`.
    over
        As in `hubness`.

    Returns
    -------
    xr.Dataset
        For each ``metric`` of cosine, centered_cosine and csls:

        - ``skewness`` (metric, …) float64, and ``chance_skewness`` () beside it, as in `hubness`;
        - ``largest_occurrence`` (metric, …) int32: how many vectors have the largest hub among their k nearest;
        - ``overlap`` (metric, layer, head, position) float64: which share of the k nearest by cosine are among the k
          nearest by this metric, 0 … 1;
        - ``own_rank`` (metric, layer, head, position) int32.

    Raises
    ------
    InputError, UnsupportedModelError
        As in `csls_neighbors` and `hubness`.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> found = attnxr.hubness_remedies(model, enc.isel(layer=[0]))
    >>> found["metric"].values.tolist()
    ['cosine', 'centered_cosine', 'csls']
    """
    options = {"of": of, "space": space, "vocab_layer": vocab_layer, "positional": positional}
    found = {
        "cosine": model.neighbors(encodings, k=k, metric="cosine", **options),  # type: ignore[arg-type]
        "centered_cosine": model.neighbors(encodings, k=k, metric="centered_cosine", **options),  # type: ignore[arg-type]
        "csls": csls_neighbors(model, encodings, k=k, local=local, **options),  # type: ignore[arg-type]
    }
    counted = [hubness(near, hubs=1, over=over) for near in found.values()]
    by_cosine = found["cosine"]["neighbor_id"].values
    dims, kept = found["cosine"]["own_rank"].dims, counted[0]["skewness"].dims
    result = found["cosine"].drop_vars([*found["cosine"].data_vars, "rank"]).assign_coords(metric=list(found))
    result["skewness"] = ("metric", *kept), np.stack([one["skewness"] for one in counted])
    result["chance_skewness"] = (), counted[0]["chance_skewness"].values
    largest = np.stack([one["hub_occurrence"].isel(hub_rank=0) for one in counted])
    result["largest_occurrence"] = ("metric", *kept), largest
    overlap = np.stack([share(by_cosine, near["neighbor_id"].values) for near in found.values()])
    result["overlap"] = ("metric", *dims), overlap
    result["own_rank"] = ("metric", *dims), np.stack([near["own_rank"] for near in found.values()])
    attrs = {name: value for name, value in found["csls"].attrs.items() if name != "metric"}
    result.attrs = {**attrs, "vectors": counted[0].attrs["vectors"]}
    # The first two are counted over some of the dimensions, the others of each vector.
    specs = only_dims(REMEDIES, ["metric", *dims])
    return describe(result, {**specs, **only_dims({name: specs[name] for name in _COUNTED}, ["metric", *kept])})


_COUNTED = ("skewness", "largest_occurrence")
_OF_VOCABULARY = {"neighbor": "vocab_token", "neighbor_text": "vocab_text"}


def _ids(neighbors: xr.Dataset, over: Sequence[str]) -> xr.DataArray:
    """The neighbours' ids, with the ranks last, where they can be counted over these dimensions."""
    names = () if has_many(neighbors) else ("neighbor", "neighbor_text")
    validate(neighbors, {}, required=("neighbor_id", *names, "rank"))
    ids = neighbors["neighbor_id"]
    validate(neighbors, only_dims(NEIGHBORS, [*ids.dims, "rank"]))
    tokens(neighbors, "neighbors")
    check_ranks(neighbors, "neighbors")
    there = [str(dim) for dim in ids.dims if dim != "rank"]
    if not over or not set(over) <= set(there) or len(set(over)) < len(over):
        raise InputError(f"over={over!r} was given; expected some of the Dataset's dimensions {', '.join(there)}.")
    if has_many(neighbors) and "position" not in over:
        raise InputError(
            f"over={over!r} was given of a corpus: there would be a count of every entry at every position. Expected "
            "'position' among them."
        )
    return ids


def _occurrence(ids: xr.DataArray, kept: list[str], size: int) -> NDArray:
    """N_k of all entries: (kept dimensions, V)."""
    over = [dim for dim in ids.dims if dim not in (*kept, "rank")]
    if not is_lazy(ids.data) or "position" not in over:
        shape = [ids.sizes[dim] for dim in kept]
        return counts(ids.transpose(*kept, ...).values.reshape(*shape, 1, -1), size)
    of_each = counts(ids.transpose(*kept, *(dim for dim in over if dim != "position"), "position", "rank").data, size)
    return of_each.sum(axis=tuple(range(len(kept), of_each.ndim - 1)), dtype=counter(ids.size))


def _skewness(occurrence: NDArray) -> NDArray[np.float64]:
    varied = np.ptp(occurrence, axis=-1) > 0
    out = np.zeros(occurrence.shape[:-1])
    out[varied] = skew(occurrence[varied].astype(np.float64), axis=-1)
    return out


def _chance_skewness(n: int, q: float) -> float:
    return 0.0 if q == 1 else (1 - 2 * q) / np.sqrt(n * q * (1 - q))


def _names(neighbors: xr.Dataset, variable: str, size: int) -> NDArray[np.object_]:
    """Names of the entries that are neighbours; the last one is an empty string."""
    names = np.full(size + 1, "", object)
    if has_many(neighbors):
        names[:size] = neighbors[_OF_VOCABULARY[variable]].values
    else:
        names[neighbors["neighbor_id"].values.ravel()] = neighbors[variable].values.ravel()
    return names
