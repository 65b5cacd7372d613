"""Maps: what heads write and the vocabulary near it, laid out in a plane."""

import warnings
from importlib.metadata import version
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from threadpoolctl import threadpool_limits

from attnxr.analysis.arrays import unit
from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.given import GIVE_ALL, Given, attribute, neighbors, same_texts
from attnxr.analysis.stacks import meant
from attnxr.checking import choice, index_of, whole_number, with_all_dims
from attnxr.errors import InputError
from attnxr.model import Model
from attnxr.options import HEAD_SPACES, METRICS, VARIABLE, Of
from attnxr.schema import MAP, SEVERAL_TEXTS, SOURCE, describe, validate

Method = Literal["pca", "tsne", "umap"]
MapMetric = Literal["cosine", "euclidean", "centered_cosine"]

_LEAST = 5  # points: fewer have no neighbourhoods that a map could keep or lose
_NEIGHBORS = 15
_OPTIONS = ("of", "space", "vocab_layer", "positional")


@on_corpora
def encoding_map(
    model: Model,
    encodings: xr.Dataset,
    near: xr.Dataset,
    *,
    method: Method = "pca",
    metric: MapMetric | None = None,
    n_components: int = 2,
    n_neighbors: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Lay out vectors of a text in few dimensions, together with their neighbours in the vocabulary.

    One space is mapped at a time: of a head (unless its vectors are contributions to the stream), and, with
    ``vocab_layer="same"``, of a layer. So a token over layers is ``near.sel(head=3, position=2)``, a head over tokens
    ``near.sel(layer=1, head=3)``. The own token of each position is on the map even where it is no neighbour.

    Distances on the map are to resemble Euclidean ones between vectors that are prepared so that these say what the
    metric says: left as they are (``euclidean``); brought to length 1 (``cosine``: then ``|a − b|² = 2 (1 − cos)``); or
    so after the mean of the vocabulary at their head and position was subtracted (``centered_cosine``).

    - ``pca``: principal components, the plane in which most of the variance lies [1]_. Linear: what is far apart on the
      map is far apart.
    - ``tsne``: t-SNE with perplexity `n_neighbors` [2]_; ``umap``: UMAP with as many neighbours [3]_. Both keep
      neighbourhoods and nothing else: distances between groups, and their sizes, mean nothing. Both start from the
      principal components, as a random start would lose what structure there is at large [4]_.

    Parameters
    ----------
    model : Model
    encodings : xr.Dataset
        What `Model.encode` returned.
    near : xr.Dataset
        What `Model.neighbors` returned for them, or a selection from it: it says which vectors are mapped, and with how
        many neighbours, ``near.isel(rank=slice(5))``. What they are and what they are compared with is in its attrs.
    method : {"pca", "tsne", "umap"}
        ``umap`` needs ``pip install umap-learn`` (the extra ``maps``).
    metric : {"cosine", "euclidean", "centered_cosine"}, optional
        By default the one that the neighbours were found by; ``dot`` cannot be mapped.
    n_components : int
        Dimensions of the map.
    n_neighbors : int, optional
        How many points around each are its neighbourhood, 2 … less than half of all; by default 15, or a third of the
        points where these are few. The trustworthiness is measured with as many; PCA does not ask.
    seed : int
        Not negative. The same seed gives the same map.

    Returns
    -------
    xr.Dataset
        ``coordinate`` (point, component) float64, vectors first, then vocabulary; ``trustworthiness`` (), 0 … 1: 1
        where no point has neighbours on the map that it has not among the vectors [5]_, about 1/2 for a map at random;
        with ``pca`` ``explained_variance_ratio`` (component). What each point is say the coords of ``point``: ``kind``
        (``encoding``, whatever vectors they are, or ``vocabulary``), ``layer``, ``head`` (where there are any),
        ``position``, ``token_id``, ``token``, ``text``, ``is_own`` (a vocabulary entry that is the own token of
        a vector) and ``best_rank`` (the smallest rank that it has among the neighbours of one, else 0). A vocabulary
        entry has the layer, head and position of the vectors whose neighbour or own token it is, −1 where they differ.

    Raises
    ------
    InputError
        If the Datasets do not belong together or are not of one space, an option is out of range, there are fewer than
        5 points, or umap-learn is not installed; or as in `Model.neighbors`.
    UnsupportedModelError
        As in `Model.neighbors`.

    References
    ----------
    .. [1] Jolliffe, Principal Component Analysis, 2002.
    .. [2] van der Maaten & Hinton, Visualizing Data using t-SNE, 2008.
    .. [3] McInnes, Healy & Melville, UMAP: Uniform Manifold Approximation and Projection, 2018, arXiv 1802.03426.
    .. [4] Kobak & Linderman, Initialization is critical for preserving global data structure in both t-SNE and UMAP,
       2021.
    .. [5] Venna & Kaski, Neighborhood preservation in nonlinear projection methods, 2001.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = model.neighbors(enc, k=5)
    >>> found = attnxr.encoding_map(model, enc, near.sel(head=3, position=2))
    >>> found.coordinate.dims, found.attrs["method"]
    (('point', 'component'), 'pca')
    """
    choice("method", method, get_args(Method))
    given = neighbors(near, "neighbor_id")
    found_by = attribute(near, "metric")
    metric = choice("metric", found_by if metric is None else metric, METRICS)
    if metric == "dot":
        raise InputError(
            "metric='dot' is no distance that a map could show: nothing is nearest to itself by it. Expected one of "
            f"{', '.join(map(repr, get_args(MapMetric)))}, for neighbours found by 'dot' too: metric='euclidean'."
        )
    seed = whole_number("seed", seed, 0, 2**32 - 1, "what NumPy's seeds go to")
    options = {name: attribute(near, name) for name in _OPTIONS} | {"positional": bool(attribute(near, "positional"))}
    _check_one_space(given, options)
    vectors, points = _points(meant(model, encodings), encodings, given, metric, options)
    if len(vectors) < _LEAST:
        raise InputError(f"{len(vectors)} points are too few for a map; expected {_LEAST} or more. Ask for a larger k.")
    if not np.ptp(vectors, axis=0).any():
        raise InputError("All points have the same vector; expected some that differ. There is nothing to map.")
    most = min(len(vectors), vectors.shape[1])
    n_components = whole_number(
        "n_components", n_components, 1, most, "the smaller of the number of points and of features"
    )
    n_neighbors = _neighborhood(n_neighbors, len(vectors))
    place, explained = _lay_out(vectors, method, n_components, n_neighbors, seed)
    points["coordinate"] = ("point", "component"), place
    points["trustworthiness"] = (), float(trustworthiness(vectors, place, n_neighbors=n_neighbors))
    if explained is not None:
        points["explained_variance_ratio"] = "component", explained
    package = "umap-learn" if method == "umap" else "scikit-learn"
    points.attrs = {
        **near.attrs,
        "metric": metric,
        "neighbors_metric": found_by,
        "k": given.near.sizes["rank"],
        "method": method,
        "n_neighbors": n_neighbors,
        "seed": seed,
        f"{package}_version": version(package),
    }
    coords: dict[str, Any] = {name: given.near[name].variable for name in SOURCE if name in given.near.coords}
    return describe(points.assign_coords({"component": np.arange(1, n_components + 1), **coords}), MAP)


def _check_one_space(given: Given, options: dict[str, Any]) -> None:
    sizes, head = given.near.sizes, given.head
    if head and options["space"] in HEAD_SPACES and sizes[head] > 1:
        raise InputError(
            f"near has {sizes[head]} heads, each with a space of its own; expected one. Select it: "
            f"near.sel({head}={given.near[head].values[0]})."
        )
    if options["vocab_layer"] == "same" and sizes["layer"] > 1:
        raise InputError(
            f"near has {sizes['layer']} layers and vocab_layer='same', by which each layer has a space of its own; "
            f"expected one. Select it: near.sel(layer={given.near['layer'].values[0]}); or ask for neighbours with "
            "vocab_layer='input'."
        )


def _points(
    model: Model, encodings: xr.Dataset, given: Given, metric: str, options: dict[str, Any]
) -> tuple[NDArray[np.float64], xr.Dataset]:
    """Vectors (points, d), prepared for Euclidean distances, and what they are: a Dataset of coordinates."""
    near, dims = given.near, given.dims
    nearest = near["neighbor_id"].transpose(*dims, "rank").values
    index = dict(zip(dims, np.indices(nearest.shape[:-1]).reshape(len(dims), -1), strict=True))
    own = near["token_id"].values[index["position"]]
    ids = np.concatenate([nearest.reshape(len(own), -1), own[:, None]], axis=1)  # the own token comes last
    chosen = _selected(encodings, given, options["of"])
    asked = xr.DataArray(
        ids.reshape(*nearest.shape[:-1], -1), {dim: near[dim].values for dim in dims}, (*dims, "entry")
    )
    found = model.vocabulary_encodings(chosen, asked, **options)
    z = found["vector"].values.reshape(len(own), -1)
    u = found["vocabulary_encoding"].values.reshape(*ids.shape, -1)
    if metric == "centered_cosine":
        mean = model.moments(chosen, include=["vocabulary_mean"], **options)["vocabulary_mean"].values.reshape(z.shape)
        z, u = z - mean, u - mean[:, None]
    if metric != "euclidean":
        z, u = unit(z), unit(u)
    # An entry that is at the same place for several vectors is one point.
    rows = np.c_[ids.ravel(), u.reshape(ids.size, -1)]
    _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    which = which.reshape(ids.shape)
    of_point: dict[str, NDArray] = {
        "kind": np.repeat(np.array(["encoding", "vocabulary"], object), [len(z), len(first)])
    }
    labels = {dim: near[dim].values[index[dim]] for dim in dims}
    labels |= {name: near[name].values[index["position"]] for name in SEVERAL_TEXTS if name in near.coords}
    for name, values in labels.items():
        of_point[name] = np.r_[values, _in_common(values[:, None], which)]
    of_point["token_id"] = np.r_[own, ids.ravel()[first]]
    of_point["token"] = model.vocabulary.token[of_point["token_id"]]
    of_point["text"] = model.vocabulary.text[of_point["token_id"]]
    of_point["is_own"] = np.zeros(len(z) + len(first), bool)
    of_point["is_own"][len(z) + which[ids == own[:, None]]] = True
    ranks = np.r_[near["rank"].values, np.iinfo(np.int64).max]  # the own token has none
    best_rank, _ = _extremes(np.broadcast_to(ranks, ids.shape), which)
    of_point["best_rank"] = np.r_[np.zeros(len(z), np.int64), np.where(best_rank == ranks[-1], 0, best_rank)]
    points = xr.Dataset(coords={name: ("point", values) for name, values in of_point.items()})
    return np.concatenate([z, u.reshape(ids.size, -1)[first]]), points


def _selected(encodings: xr.Dataset, given: Given, of: Of) -> xr.Dataset:
    """The encodings of the layers, heads and positions whose neighbours are given."""
    variable = VARIABLE[of]
    same_texts(given.near, validate(encodings, {}, required=(variable,)), "near and the encodings")
    whole, _ = with_all_dims(encodings, variable)
    chosen = {}
    for dim in whole[variable].dims[:-1]:
        asked = {dim: given.near[dim if dim in given.near.dims else given.head]}
        chosen[dim] = index_of(asked, whole, str(dim), ("near has", "the encodings"), GIVE_ALL)
    return whole.isel(chosen)


def _in_common(values: NDArray[np.int64], which: NDArray[np.intp]) -> NDArray[np.int64]:
    """The value that all members of a point have, −1 where they differ: (points,)."""
    least, most = _extremes(np.broadcast_to(values, which.shape), which)
    return np.where(least == most, least, -1)


def _extremes(values: NDArray[np.int64], which: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Smallest and largest value of each point's members: (points,) each."""
    order = np.lexsort((values.ravel(), which.ravel()))
    of_point, sorted_values = which.ravel()[order], values.ravel()[order]
    change = np.flatnonzero(np.diff(of_point))
    return sorted_values[np.r_[0, change + 1]], sorted_values[np.r_[change, -1]]


def _neighborhood(n_neighbors: int | None, points: int) -> int:
    if n_neighbors is None:
        return max(2, min(_NEIGHBORS, points // 3))
    return whole_number("n_neighbors", n_neighbors, 2, (points - 1) // 2, f"less than half of the {points} points")


def _lay_out(
    vectors: NDArray[np.float64], method: str, n_components: int, n_neighbors: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Coordinates (points, components), and the shares of variance that they explain, where that means something."""
    if method == "pca":
        pca = PCA(n_components, svd_solver="full")
        return pca.fit_transform(vectors), pca.explained_variance_ratio_
    if method == "tsne":
        tsne = TSNE(
            n_components,
            perplexity=n_neighbors,
            method="barnes_hut" if n_components < 4 else "exact",  # the approximation is made for few dimensions
            random_state=seed,
        )
        # The steps are so short that threads would mostly wait for each other, up to a hundred times as long.
        with threadpool_limits(1):
            return tsne.fit_transform(vectors).astype(np.float64), None
    umap = _umap()(n_neighbors, n_components, init="pca", random_state=seed, n_jobs=1)
    return umap.fit_transform(vectors).astype(np.float64), None


def _umap() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # about TensorFlow, which this needs not
            from umap import UMAP
    except ModuleNotFoundError as error:
        raise InputError(
            "method='umap' was asked, and umap-learn is not installed. Install it with pip install umap-learn, "
            "or ask for method='tsne'."
        ) from error
    return UMAP
