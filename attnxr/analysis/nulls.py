"""Three kinds of chance that nearness can be held against; `significance` says what each is good for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.errors import InputError
from attnxr.inputs.tokenized import given_again
from attnxr.model import Model
from attnxr.options import HEAD_VECTORS, VARIABLE
from attnxr.schema import TOKEN_COORDS, validate
from attnxr.search.nearest import Progress, within
from attnxr.texts import OF_TEXTS, attrs_of, places, token_ids, token_types

_BYTES = 1 << 27  # what vectors that are looked up at once may take
_FIRST = 3  # draws that are looked up for all vectors, the others only for those that are nearer than these
_NO_VARIANCE = 1e-10  # of the largest variance: less than that is what rounding leaves where there is none

PERMUTATIONS = 999
"""How many ways to give heads each other's spaces a layer is held against."""
_FEWEST_SPACES = 4  # of three, even the layer's p-value is 1/6 at best: there are 3! ways

Drawn = tuple[NDArray[np.intp], NDArray[np.float64], slice, NDArray[np.float64]]
"""Some positions (m,) and the statistics of what was drawn for them (draws, 2, layer, head, m); which draws of a layer,
and the sums of their statistics over these positions and all heads (draws, 2, layer)."""


@dataclass(frozen=True)
class Asked:
    """What is held against chance.

    Attributes
    ----------
    model : Model
    encodings : xr.Dataset
        With all its dimensions; see `attnxr.checking.with_all_dims`.
    variable : str
        Which of its variables the vectors are made from.
    k : int
    options : dict
        metric, of, space, vocab_layer and positional, as in `Model.neighbors`.
    """

    model: Model
    encodings: xr.Dataset
    variable: str
    k: int
    options: dict[str, Any]

    @property
    def dims(self) -> tuple[str, ...]:
        """Those of the vectors: layer, head or its like if they have one, position, feature or its like."""
        return tuple(map(str, self.encodings[self.variable].dims))

    def vectors(self) -> NDArray[np.float64]:
        """The vectors (layer, head, position, feature), as of one head where they have none."""
        found = self.encodings[self.variable].values.astype(np.float64)
        return found if found.ndim == 4 else found[:, None]

    def replaced(
        self,
        layers: NDArray[np.intp],
        positions: NDArray[np.intp],
        vectors: NDArray,
        heads: NDArray[np.intp] | None = None,
    ) -> xr.Dataset:
        """Other vectors (layers, heads, positions, feature) in the places of some layers, positions and heads."""
        rest = self.encodings.drop_vars(self.variable).isel(layer=layers, position=positions)
        if heads is not None:
            rest = rest.drop_vars(self.dims[1]).assign_coords({self.dims[1]: heads})
        vectors = vectors.astype(np.float32)
        return rest.assign({self.variable: (self.dims, vectors if len(self.dims) == 4 else vectors[:, 0])})

    def look_up(self, encodings: xr.Dataset, progress: Progress) -> NDArray[np.float64]:
        """Nearest distance and mean of the k nearest, of vectors in place of those asked about: (2, layer, head, n)."""
        near = self.model.neighbors(encodings, k=self.k, **self.options, progress=progress)
        distance = near["distance"].values
        return statistics(distance if distance.ndim == 4 else distance[:, None])


def statistics(distance: NDArray[np.float32]) -> NDArray[np.float64]:
    """The nearest and the mean of distances (…, k) in ascending order: (2, …)."""
    return np.stack([distance[..., 0].astype(np.float64), distance.mean(axis=-1, dtype=np.float64)])


def check(null: str, model: Model, encodings: xr.Dataset, of: str, space: str) -> None:
    """Refuse what has no meaning with a null, or could not be significant, before anything is computed.

    Raises
    ------
    InputError
        With the reason.
    """
    validate(encodings, {})
    if null == "rotation" and of == "contribution":
        raise InputError(
            "null='rotation' was asked with of='contribution': a head's part of the stream lies in a few of its "
            "dimensions, and turned it would be no head's. Expected of='encoding', which it is made from, or another "
            "null."
        )
    if null == "shuffled" and encodings.attrs.get("stack") in ("decoder", "cross"):
        raise InputError(
            "null='shuffled' was asked of encodings of a decoder, which reads another text beside its own. Expected "
            "null='rotation' or 'heads'."
        )
    if null == "shuffled" and encodings.attrs.get("causal"):
        raise InputError(
            "null='shuffled' was asked of encodings that look only backwards: there a token's place says how many "
            "others it sees, so that p-values would be too small at the first places and too large at the last. "
            "Expected encodings that look both ways (causal=False where the model lets it be chosen), or another null."
        )
    if null == "heads":
        _check_heads(model, encodings, of, space)


def _check_heads(model: Model, encodings: xr.Dataset, of: str, space: str) -> None:
    spaces = _spaces(model, space)
    if of not in HEAD_VECTORS or spaces < 2:
        raise InputError(
            f"null='heads' was asked with of={of!r} and space={space!r} of {model.name!r}, where all heads share one "
            "vocabulary, so that there is no other one to look into. Expected vectors and a space of several heads, or "
            "another null."
        )
    if spaces < _FEWEST_SPACES:
        raise InputError(
            f"null='heads' was asked with space={space!r} of {model.name!r}, whose heads have {spaces} of these: no "
            f"p-value could be 0.05 or less. Expected {_FEWEST_SPACES} or more, or another null."
        )
    dim = "kv_head" if VARIABLE[of] in encodings and "kv_head" in encodings[VARIABLE[of]].coords else "head"
    labels = np.atleast_1d(encodings[dim].values).tolist() if dim in encodings.coords else []
    heads = model.n_kv_heads if dim == "kv_head" else model.n_heads
    if labels != list(range(heads)):
        raise InputError(
            f"null='heads' was asked of the heads {labels!s:.80}, which are compared with each other. Expected all "
            f"{heads}, in their order. Select from the result instead."
        )


def _spaces(model: Model, space: str) -> int:
    """How many vocabularies the heads have."""
    return model.n_heads if space == "query" else model.n_kv_heads


def rotation(asked: Asked, draws: int, seed: int, progress: Progress) -> Iterator[Drawn]:
    """Turn vectors about the vocabulary's centroid at random, and look up what they are then near to; see `turned`."""
    layers, heads = asked.vectors().shape[:2]
    for here, replaced, told in turned(asked, draws, seed, progress):
        found = asked.look_up(replaced, told)
        found = found.reshape(2, draws, -1, heads, len(here)).swapaxes(0, 1)
        found = np.broadcast_to(found, (draws, 2, layers, heads, len(here)))
        yield here, found, slice(draws), found.sum(axis=(-2, -1))


def nearer_than_all(asked: Asked, observed: NDArray[np.float64], draws: int, seed: int) -> NDArray[np.bool_]:
    """Which vectors are nearer to their nearest entry than each draw of `rotation` is to its own: p = 1 / (draws + 1).

    Where one draw is as near, the p-value is larger, whatever the others are. So a few draws are looked up first, and
    the others only for the vectors that were nearer than these, as in sequential tests [1]_: the answer is the same.
    What is left of several layers is packed into fewer. Not more often, as each search makes what it needs of the
    vocabulary at each position anew.

    Parameters
    ----------
    asked : Asked
        All layers are compared with one vocabulary.
    observed : array (layer, head, position)
        The distance of each vector's nearest entry.
    draws, seed : int
        The draws are those of `rotation`.

    References
    ----------
    .. [1] Besag & Clifford, Sequential Monte Carlo p-values, Biometrika 78(2), 1991.
    """
    layers = len(observed)
    passed = np.ones(observed.shape, bool)
    for here, replaced, told in turned(asked, draws, seed, lambda fraction: None):
        vectors = replaced[asked.variable].values
        vectors = vectors.reshape(draws, -1, *vectors.shape[1:])  # (draw, layer, head, position, feature)
        vectors = np.broadcast_to(vectors, (draws, layers, *vectors.shape[2:]))
        done = 0
        while done < draws and (left := passed[:, :, here]).any():
            heads, at = np.flatnonzero(left.any(axis=(0, 2))), np.flatnonzero(left.any(axis=(0, 1)))
            some = np.ix_(np.arange(layers), heads, at)
            left, nearest = left[some], observed[:, :, here][some]
            most = left.sum(axis=0).max()
            order = np.argsort(~left, axis=0, kind="stable")[:most]  # for each head and position, layers that are left
            count = draws - done if done else min(_FIRST, draws)
            drawn = np.take_along_axis(
                vectors[done : done + count][:, :, heads][..., at, :], order[None, ..., None], axis=1
            )
            drawn = drawn.reshape(-1, *drawn.shape[2:])
            labels = asked.encodings[asked.dims[1]].values[heads]
            found, _ = asked.look_up(asked.replaced(np.zeros(len(drawn), np.intp), here[at], drawn, labels), told)
            farther = found.reshape(count, *order.shape).min(axis=0) > np.take_along_axis(nearest, order, axis=0)
            np.put_along_axis(left, order, farther & np.take_along_axis(left, order, axis=0), axis=0)
            passed[np.ix_(np.arange(layers), heads, here[at])] = left
            done += count
    return passed


def turned(
    asked: Asked, draws: int, seed: int, progress: Progress
) -> Iterator[tuple[NDArray[np.intp], xr.Dataset, Progress]]:
    """Turn vectors about the vocabulary's centroid at random, in coordinates where its covariance is the identity.

    With μ and Σ of the vocabulary, ``w = Σ^-½ (z − μ)`` becomes a vector of the same length in a direction that is
    uniform on the sphere: ``μ + Σ^½ |w| e``. Where Σ has no variance, w has no part, and z keeps what it has there.

    The directions e are those of a head, a text and a place in it, the same for all layers and whatever else is in the
    Dataset. No length changes a centered cosine, so one search then serves all layers that have one vocabulary.

    Yields
    ------
    int array (m,)
        Some positions.
    xr.Dataset
        The turned vectors in the place of theirs: along ``layer`` all layers of the first draw, then of the next one;
        one layer of each draw where it serves all.
    callable
        Whom to tell what fraction of these is done.
    """
    z = asked.vectors()
    layers, heads, positions, features = z.shape
    one_vocabulary = asked.options["vocab_layer"] != "same"
    options = {name: value for name, value in asked.options.items() if name != "metric"}
    moments = asked.model.moments(asked.encodings, **options)
    shape = (1 if one_vocabulary else layers, heads, positions, features)
    mean = moments["vocabulary_mean"].values[: shape[0]].reshape(shape)
    covariance = moments["covariance"].values[: shape[0]].reshape(*shape, features)
    labels = asked.encodings[asked.dims[1]].values.tolist() if len(asked.dims) == 4 else [0]
    text, place = places(asked.encodings)
    for here, told in _parts(positions, 8 * draws * layers * heads * features, progress):
        centre = mean[:, :, here, None]  # from here on (layer, head, position, draw, feature)
        root, inverse, inside = roots(covariance[:, :, here])
        deviation = z[:, :, here, None] - centre
        radius = np.linalg.norm(deviation @ inverse, axis=-1, keepdims=True)
        kept = deviation - deviation @ inside
        has_all = np.trace(inside, axis1=-2, axis2=-1).min() > features - 0.5
        if one_vocabulary and has_all and asked.options["metric"] == "centered_cosine":
            radius, kept = np.full_like(radius[:1], features**0.5), np.zeros_like(kept[:1])
        seeds = [[[seed, head, text[p], place[p]] for p in here] for head in labels]
        normal = np.array([[np.random.default_rng(s).standard_normal((draws, features)) for s in row] for row in seeds])
        length = np.linalg.norm(normal @ inside, axis=-1, keepdims=True)
        step = np.divide(
            radius, length, out=np.zeros(np.broadcast_shapes(radius.shape, length.shape)), where=length > 0
        )
        vectors = np.moveaxis(centre + kept + step * (normal @ root), 3, 0)
        which = np.tile(np.arange(vectors.shape[1]), draws)
        yield here, asked.replaced(which, here, vectors.reshape(-1, *vectors.shape[2:])), told


def other_heads(asked: Asked, seed: int, progress: Progress) -> Iterator[Drawn]:
    """Look the vectors of all other heads up in each head's space: as many draws as there are such heads.

    The space stays and the vectors change: spaces differ in density, so that a vector's ranks among *spaces* would say
    more of these than of the vector. For a layer all is held against giving the heads each other's spaces at random,
    the same ones at all positions; then neither a dense space nor a vector that is near to everything makes a
    difference, since each is there in every draw.
    """
    model = asked.model
    z = asked.vectors()
    layers, heads, positions, features = z.shape
    spaces = _spaces(model, asked.options["space"])
    sharing = heads // spaces
    own = np.arange(heads) // sharing
    others = np.stack([np.flatnonzero(own != number) for number in own])  # (head, draw)
    generator = np.random.default_rng(seed)
    exchanged = np.stack([generator.permutation(spaces) for _ in range(PERMUTATIONS)])
    which, one_of_each = np.arange(layers).repeat(heads), np.arange(spaces) * sharing
    for here, told in _parts(positions, 4 * layers * heads * spaces * features, progress):
        vectors = z[:, :, here].reshape(-1, 1, len(here), features).repeat(spaces, axis=1)
        found = asked.look_up(asked.replaced(which, here, vectors, one_of_each), told)
        found = found.reshape(2, layers, heads, spaces, len(here))
        drawn = np.moveaxis(found[:, :, others, own[:, None]], 3, 0)
        of_groups = found.reshape(2, layers, spaces, sharing, spaces, len(here)).sum(axis=(3, 5))
        of_layer = of_groups[:, :, np.arange(spaces), exchanged].sum(axis=-1)
        yield here, drawn, slice(PERMUTATIONS), np.moveaxis(of_layer, 2, 0)


def shuffled(asked: Asked, draws: int, seed: int, progress: Progress) -> Iterator[Drawn]:
    """Put the tokens of each text into random orders, the special ones aside, and look up what each token then gets.

    Every order is as likely as any other, the text's own included; token types stay where they are. A token is
    followed to its new place, and compared with the vocabulary there. Under a causal mask that is no fair comparison:
    a token's place says how much it sees.
    """
    texts, types = token_ids(asked.encodings), token_types(asked.encodings)
    text, place = places(asked.encodings)
    special = asked.model.vocabulary.special
    include = () if asked.variable == "head_encoding" else (asked.variable,)
    present = np.unique(text).tolist()
    # The mask is named only where it is not the model's own: not every model lets it be chosen.
    own = asked.model.encode(given_again(texts[present[0]], types[present[0]])).attrs["causal"]
    mask = False if own else None
    for done, number in enumerate(present):
        ids = np.array(texts[number])
        here = np.flatnonzero(text == number)
        free = np.flatnonzero(~special[ids])
        generator = np.random.default_rng([seed, number])
        each = 4 * asked.encodings[asked.variable].isel(position=here).size
        batch = max(1, _BYTES // each)
        for start in range(0, draws, batch):
            parts, orders = [], []
            for _ in range(min(batch, draws - start)):
                now_at = np.arange(len(ids))
                now_at[free] = generator.permutation(free)
                order = np.empty_like(ids)
                order[now_at] = ids
                encoded = asked.model.encode(given_again(order.tolist(), types[number]), include=include, causal=mask)
                kept = {dim: asked.encodings[dim].values for dim in asked.dims[:-2]}
                parts.append(encoded[[asked.variable]].sel(kept).isel(position=now_at[place[here]]))
                orders.append(order.tolist())
            fraction = (done + start / draws) / len(present)
            found = asked.look_up(
                _end_to_end(parts, orders, types[number], asked.encodings.attrs),
                within(progress, fraction, len(parts) / draws / len(present)),
            )
            found = found.reshape(*found.shape[:3], len(parts), len(here))
            found = np.moveaxis(found, 3, 0)
            yield here, found, slice(start, start + len(parts)), found.sum(axis=(-2, -1))


def _end_to_end(parts: list[xr.Dataset], texts: list[list[int]], types: list[int], attrs: dict) -> xr.Dataset:
    """Positions of several texts in one Dataset, as `Model.encode` gives them."""
    (variable,) = parts[0].data_vars
    dims = parts[0][variable].dims
    of_position = {name: np.concatenate([part[name].values for part in parts]) for name in TOKEN_COORDS}
    lengths = [part.sizes["position"] for part in parts]
    coords: dict[str, Any] = {name: ("position", values) for name, values in of_position.items()}
    coords |= {
        "position": np.arange(sum(lengths)),
        "text_id": ("position", np.repeat(np.arange(len(parts)), lengths)),
        "text_position": ("position", of_position["position"]),
        **{str(dim): parts[0][dim].values for dim in dims[:-2]},
    }
    vectors = np.concatenate([part[variable].values for part in parts], axis=-2)
    attrs = {name: value for name, value in attrs.items() if name not in OF_TEXTS}
    return xr.Dataset({variable: (dims, vectors)}, coords, attrs | attrs_of(texts, [types] * len(texts)))


def _parts(positions: int, nbytes: int, progress: Progress) -> Iterator[tuple[NDArray[np.intp], Progress]]:
    """A few positions at a time, of which each takes so many bytes, and whom to tell what fraction of these is done."""
    step = max(1, _BYTES // nbytes)
    for start in range(0, positions, step):
        stop = min(start + step, positions)
        yield np.arange(start, stop), within(progress, start / positions, (stop - start) / positions)


def roots(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Σ^½, Σ^-½ (as a pseudo-inverse) and the projection onto where Σ has variance, each (…, d, d)."""
    variance, axes = np.linalg.eigh(covariance)
    has = variance > _NO_VARIANCE * variance[..., -1:]
    deviation = np.sqrt(np.where(has, variance, 0))
    inverse = np.divide(1, deviation, out=np.zeros_like(deviation), where=has)

    def with_eigenvalues(values: NDArray) -> NDArray[np.float64]:
        return (axes * values[..., None, :]) @ axes.swapaxes(-1, -2)

    return with_eigenvalues(deviation), with_eigenvalues(inverse), with_eigenvalues(has.astype(np.float64))
