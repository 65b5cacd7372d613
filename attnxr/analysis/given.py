"""What the analyses are given, checked: Datasets of neighbours, with the dimensions that a selection dropped."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema
from attnxr.checking import index_of, restored, tokens
from attnxr.errors import InputError
from attnxr.texts import OF_TEXTS, has_many, same_attr, same_many, token_ids

_OF_CORPORA = ("position", "token_id", "is_special")  # and no strings
GIVE_ALL = "Give all that Model.encode returned."


@dataclass(frozen=True)
class Given:
    """Neighbours that an analysis was given.

    Attributes
    ----------
    near : xr.Dataset
        With the dims layer, head (if any), position, rank, in that order.
    head : str or None
        What the dimension of heads is called, ``head`` or ``kv_head``; None for vectors of the residual stream.
    dropped : list of str
        Dimensions that a selection such as ``sel(layer=3)`` had dropped; here they are back, with size 1.
    """

    near: xr.Dataset
    head: str | None
    dropped: list[str]

    @property
    def dims(self) -> tuple[str, ...]:
        """Those of the vectors."""
        return tuple(dim for dim in ("layer", self.head, "position") if dim)

    def described(self, specs: dict[str, schema.Spec]) -> dict[str, schema.Spec]:
        """What the declared variables look like with the heads that are there."""
        return schema.only_dims(specs, self.dims)

    def bare(self) -> xr.Dataset:
        """No variables: the coordinates of layers, heads and positions, and the attrs."""
        return self.near.drop_vars([*self.near.data_vars, "rank", *schema.MANY_TEXTS], errors="ignore")


def neighbors(near: xr.Dataset, *required: str, name: str = "near") -> Given:
    """Take what `Model.neighbors` returned, or a selection from it.

    Parameters
    ----------
    near : xr.Dataset
    *required : str
        Names of the variables that must be there.
    name : str
        What the caller's user knows the Dataset as.

    Raises
    ------
    InputError
        If it is no such Dataset, or has nothing in it.
    """
    if not isinstance(near, xr.Dataset):
        raise InputError(
            f"{name} was given as a {type(near).__name__}; expected the xarray Dataset that Model.neighbors returns."
        )
    needed = ("layer", *(_OF_CORPORA if has_many(near) else schema.TOKEN_COORDS), *required)
    missing = [each for each in needed if each not in near.variables]
    if missing:
        raise InputError(
            f"{name} has no {missing[0]!r}, only {sorted(map(str, near.variables))}. Expected what Model.neighbors "
            "returns, or a selection from it."
        )
    head = next((dim for dim in ("head", "kv_head") if dim in near.variables), None)
    dims = tuple(dim for dim in ("layer", head, "position") if dim)
    dropped = [dim for dim in dims if dim not in near.dims]

    of_vector = {each: (*dims, "rank") if "rank" in schema.NEIGHBORS[each].dims else dims for each in required}
    coords: dict[str, tuple[str, ...]] = {dim: (dim,) for dim in (*dims, "rank")}
    coords |= {each: spec.dims for each, spec in (schema.TEXT_COORDS | schema.MANY_TEXTS).items()}
    taken = restored(near, of_vector, coords)
    schema.validate(taken, schema.only_dims(schema.NEIGHBORS, dims))
    tokens(taken, name)
    if 0 in taken.sizes.values():
        raise InputError(
            f"{name} has sizes {dict(taken.sizes)}; expected at least one layer, head and position. Select less "
            "narrowly."
        )
    if "rank" in taken.dims:
        check_ranks(taken, name)
    return Given(taken, head, dropped)


def check_ranks(near: xr.Dataset, name: str) -> None:
    """Fail unless a Dataset has the neighbours of ranks 1 to some k, in order; raises InputError."""
    ranks = near["rank"].values
    if not np.array_equal(ranks, np.arange(1, ranks.size + 1)):
        raise InputError(
            f"{name} has the neighbours of ranks {ranks.tolist()!s:.80}; expected 1, 2, … in order. Select the "
            "nearest: isel(rank=slice(5))."
        )


def attribute(dataset: xr.Dataset, key: str, name: str = "near") -> Any:
    """One of a Dataset's attrs; raises InputError where it is not there."""
    if key not in dataset.attrs:
        raise InputError(
            f"{name} has no attrs[{key!r}], only {sorted(map(str, dataset.attrs))}. Expected what Model returns, with "
            "its attrs: arithmetic drops them unless xarray.set_options(keep_attrs=True) is set."
        )
    return dataset.attrs[key]


def same_texts(a: xr.Dataset, b: xr.Dataset, names: str) -> None:
    """Fail unless two Datasets are of one model, texts and mask; raises InputError that calls them `names`."""
    for key in ("fingerprint", *OF_TEXTS, "causal"):
        if not same_attr(a, b, key):
            raise InputError(
                f"{names} differ in attrs[{key!r}]: {a.attrs.get(key)!s:.80} and {b.attrs.get(key)!s:.80}. Expected "
                "both from the same call of Model.encode."
            )
    if not same_many(a, b):
        raise InputError(f"{names} are of two corpora with other texts. Expected both from one, or of the same texts.")


def attention(given: Given, encodings: xr.Dataset, name: str = "encodings") -> NDArray[np.float32]:
    """Attention of the layers, heads and positions that are given to all tokens of their text.

    Returns
    -------
    float32 array (layer, head, position, key_position)

    Raises
    ------
    InputError
        If the encodings have no attention, or not all that is given, or are of another text.
    """
    check_attention(encodings, name)
    if given.head != "head":
        raise InputError(
            "The neighbours are those of vectors that do not belong to one head each, to which no attention belongs. "
            f"Leave {name} out."
        )
    same_texts(given.near, encodings, f"The neighbours and {name}")
    weights = encodings["attention"]
    dims = ("layer", "head", "position")
    missing = [dim for dim in dims if dim not in weights.coords]
    if missing:
        raise InputError(f"{name} has no coordinate {missing[0]!r}. Expected what Model.encode returns.")
    weights = weights.expand_dims([dim for dim in dims if dim not in weights.dims]).transpose(*dims, "key_position")
    return weights.isel({dim: index_of(given.near, weights, dim, ("near has", name), GIVE_ALL) for dim in dims}).values


def key_tokens(encodings: xr.Dataset, name: str = "encodings") -> xr.Dataset:
    """Coordinates of the tokens that are attended to, in the order of ``key_position``.

    Raises
    ------
    InputError
        If the Dataset has no attention, or not all positions, so that their tokens are not known.
    """
    check_attention(encodings, name)
    if not np.array_equal(encodings["position"].values, np.arange(encodings.sizes["key_position"])):
        raise InputError(
            f"{name} has {encodings.sizes['position']} positions of {encodings.sizes['key_position']}, or not in their "
            "order, so that it does not say which tokens are attended to. Select afterwards, or leave attention out: "
            "drop_vars('attention')."
        )
    return encodings.coords.to_dataset()


def check_attention(encodings: xr.Dataset, name: str) -> None:
    """Fail unless encodings of one text have their attention to all of its tokens; raises InputError."""
    schema.validate(encodings, {})
    if "attention" not in encodings:
        raise InputError(
            f"{name} has no attention, as where several texts are encoded at once. Leave it out, or encode one text."
        )
    if encodings.attrs.get("stack") == "cross":
        raise InputError(
            f"{name} has attention to the tokens of another text, that of the encoder, as stack='cross' gives it. "
            "Expected attention of a text to itself: stack='encoder' or 'decoder'."
        )
    (ids,) = token_ids(encodings, name)
    keys = encodings.sizes["key_position"]
    if keys != len(ids):
        raise InputError(
            f"{name} has attention to {keys} of the {len(ids)} tokens of the text; expected all. Do not select along "
            "key_position."
        )
