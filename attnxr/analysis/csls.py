"""Neighbours by cosine with local scaling, which takes from everybody's neighbours what makes them so."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.stacks import meant
from attnxr.checking import whole_number, with_all_dims
from attnxr.model import Model
from attnxr.options import VARIABLE, Of, Space, VocabLayer
from attnxr.query.answer import Frame, in_sequence
from attnxr.search.blocks import in_threads
from attnxr.search.compiled import compiled
from attnxr.search.nearest import Nearest
from attnxr.texts import places, token_ids

_BYTES = 1 << 28  # what the distances that are at hand at once may take


@on_corpora
def csls_neighbors(
    model: Model,
    encodings: xr.Dataset,
    *,
    k: int = 15,
    local: int = 10,
    of: Of = "encoding",
    space: Space = "value",
    vocab_layer: VocabLayer = "input",
    positional: bool = True,
) -> xr.Dataset:
    """Find the vocabulary tokens nearest by cross-domain similarity local scaling, CSLS [1]_.

    Of one layer and head, let ``S[p, v]`` be the cosine of the vector at position p and vocabulary entry v, encoded as
    standing at p. Then ``CSLS[p, v] = 2 S[p, v] − r_T[p] − r_S[v]``, where

    - ``r_T[p]`` is the mean of the `local` largest ``S[p, ·]``: of the vector and the vocabulary entries nearest to it;
    - ``r_S[v]`` is the mean of the `local` largest ``S[·, v]`` (of all, where there are fewer positions): of the entry
      and the vectors of that layer and head nearest to it, over all positions in the Dataset, its texts together.

    An entry that is near to all vectors has a large r_S, and must be nearer still to be a neighbour of one. So what is
    nearest to a vector depends on the others in the Dataset; r_T changes no order. Nothing is left out beforehand: r_T,
    r_S, neighbours and own ranks are over all V entries, in float64, from `Model.distances`, which are float32.

    Parameters
    ----------
    model : Model
    encodings : xr.Dataset
        What `Model.encode` returns, or a selection from it. Among few vectors there are no hubs to speak of: lay many
        texts end to end.
    k : int
        How many neighbours, 1 … V.
    local : int
        How many nearest make up a mean similarity, 1 … V; 10 in the paper.
    of, space, vocab_layer, positional
        As in `Model.neighbors`.

    Returns
    -------
    xr.Dataset
        As `Model.neighbors`, with −CSLS for ``distance`` and ``own_distance``; equal ones come in the order of their
        ids. attrs["metric"] is ``csls``.

    Raises
    ------
    InputError, UnsupportedModelError
        As in `Model.neighbors`; or if `local` is out of range.

    References
    ----------
    .. [1] Conneau et al., Word Translation Without Parallel Data, ICLR 2018, section 2.3.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("Time flies like an arrow.")
    >>> near = attnxr.csls_neighbors(model, enc.isel(layer=[0]), k=3)
    >>> near.neighbor.dims
    ('layer', 'head', 'position', 'rank')
    """
    options = {"of": of, "space": space, "vocab_layer": vocab_layer, "positional": positional}
    model = meant(model, encodings)
    size = model.vocab_size
    k, local = whole_number("k", k, 1, size), whole_number("local", local, 1, size)
    lazy = model.distances(encodings, metric="cosine", **options)  # type: ignore[arg-type]
    whole, dropped = with_all_dims(encodings, VARIABLE[of])
    if dropped:
        lazy = model.distances(whole, metric="cosine", **options)  # type: ignore[arg-type]
    distance = lazy["distance"]
    dims = distance.dims[:-1]
    shape = distance.shape[:-1] if len(dims) == 3 else (distance.shape[0], 1, distance.shape[1])
    own = whole["token_id"].values
    found = Nearest.empty(shape, k)

    def fill(one: tuple[int, int, NDArray[np.float32]]) -> None:
        layer, head, of_head = one
        here = layer, head
        _of_head(of_head, local, own, *(array[here] for array in found.arrays))

    for group in _groups(distance):
        in_threads(fill, group)
    frame = Frame(
        tuple(map(str, dims)),
        dict(lazy.isel(vocab=0, drop=True).coords),
        {**lazy.attrs, "metric": "csls"},
        [dim for dim in dropped if dim in dims],
    )
    text_of, _ = places(whole)
    return frame.neighbors(found, model.vocabulary, in_sequence(found.ids, token_ids(whole), text_of), local=local)


def _groups(distance: xr.DataArray) -> Iterator[list[tuple[int, int, NDArray[np.float32]]]]:
    """Distances (positions, V) of each layer and head, as many of which are computed at once as there is room for.

    Position by position: the encodings of one can be all that there is room for.
    """
    layers, *_, positions, size = distance.shape
    heads = distance.shape[1] if distance.ndim == 4 else 1
    room = max(1, _BYTES // (4 * positions * size))
    layer_step, head_step = max(1, room // heads), min(room, heads)
    for layer in range(0, layers, layer_step):
        for head in range(0, heads, head_step):
            part = distance.isel({"layer": slice(layer, layer + layer_step)})
            if distance.ndim == 4:
                part = part.isel({distance.dims[1]: slice(head, head + head_step)})
            each = [part.isel(position=p).values.reshape(part.sizes["layer"], -1, size) for p in range(positions)]
            yield [
                (layer + i, head + j, np.array([one[i, j] for one in each])) for i, j in np.ndindex(each[0].shape[:2])
            ]


@compiled()
def _of_head(distance, local, own, ids, far, own_rank, own_distance):
    """From cosine distances (positions, V), all that there is to say of one layer and head."""
    positions, size = distance.shape
    of_entry = np.empty(size)  # r_S
    nearest = np.empty(min(local, positions), np.float32)
    for v in range(size):
        nearest[:] = np.inf
        for p in range(positions):
            _keep(nearest, distance[p, v])
        of_entry[v] = _mean_cosine(nearest)
    nearest = np.empty(local, np.float32)
    row, best = np.empty(size), np.empty(ids.shape[1])
    for p in range(positions):
        nearest[:] = np.inf
        for v in range(size):
            _keep(nearest, distance[p, v])
        of_vector = _mean_cosine(nearest)  # r_T
        best[:] = np.inf
        for v in range(size):
            row[v] = of_vector + of_entry[v] - 2 * (1 - np.float64(distance[p, v]))
            at = _keep(best, row[v])
            if at >= 0:
                ids[p, at + 1 :] = ids[p, at:-1].copy()
                ids[p, at] = v
        far[p] = best
        own_distance[p] = row[own[p]]
        own_rank[p] = 1 + (row < row[own[p]]).sum()


@compiled()
def _keep(smallest, number):
    """Take a number among the smallest, ascending, after its equals; returns its place, or −1 where it has none."""
    at = len(smallest) - 1
    if not number < smallest[at]:
        return -1
    while at > 0 and number < smallest[at - 1]:
        smallest[at] = smallest[at - 1]
        at -= 1
    smallest[at] = number
    return at


@compiled()
def _mean_cosine(distances):
    total = 0.0
    for distance in distances:
        total += 1 - np.float64(distance)
    return total / len(distances)
