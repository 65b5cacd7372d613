"""What the analyses are given, checked: Datasets of neighbours, with the dimensions that a selection dropped."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr import schema
from attnxr.errors import InputError, whole_number


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

    def described(self, specs: dict[str, schema.Spec]) -> dict[str, schema.Spec]:
        """What the declared variables look like with the heads that are there."""
        return specs if self.head else schema.without_heads(specs)

    def bare(self) -> xr.Dataset:
        """No variables: the coordinates of layers, heads and positions, and the attrs."""
        return self.near.drop_vars([*self.near.data_vars, "rank"], errors="ignore")


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
    needed = ("layer", *schema.TOKEN_COORDS, *required)
    missing = [each for each in needed if each not in near.variables]
    if missing:
        raise InputError(
            f"{name} has no {missing[0]!r}, only {sorted(map(str, near.variables))}. Expected what Model.neighbors "
            "returns, or a selection from it."
        )
    head = next((dim for dim in ("head", "kv_head") if dim in near.variables), None)
    dims = tuple(dim for dim in ("layer", head, "position") if dim)
    dropped = [dim for dim in dims if dim not in near.dims]

    def whole(each: str, dims: tuple[str, ...]) -> xr.Variable:
        variable = near.variables[each]
        if not set(variable.dims) <= set(dims) or set(dims) - set(variable.dims) - set(dropped):
            return variable  # for the schema to refuse
        return variable.set_dims({dim: variable.sizes.get(dim, 1) for dim in dims})

    coords = {dim: (dim,) for dim in (*dims, "rank") if dim in near.variables}
    coords |= {each: ("position",) for each in (*schema.TOKEN_COORDS, *schema.SEVERAL_TEXTS) if each in near.coords}
    variables = {each: (*dims, "rank") if "rank" in schema.NEIGHBORS[each].dims else dims for each in required}
    taken = xr.Dataset(
        {each: whole(each, of) for each, of in variables.items()},
        {each: whole(each, of) for each, of in coords.items()},
        near.attrs,
    )
    schema.validate(taken, schema.NEIGHBORS if head else schema.without_heads(schema.NEIGHBORS))
    schema.check_tokens(taken, name)
    if 0 in taken.sizes.values():
        raise InputError(
            f"{name} has sizes {dict(taken.sizes)}; expected at least one layer, head and position. Select less "
            "narrowly."
        )
    if "rank" in taken.dims and not np.array_equal(taken["rank"].values, np.arange(1, taken.sizes["rank"] + 1)):
        raise InputError(
            f"{name} has the neighbours of ranks {taken['rank'].values.tolist()!s:.80}; expected 1, 2, … in order. "
            "Select the nearest: isel(rank=slice(5))."
        )
    return Given(taken, head, dropped)


def attribute(dataset: xr.Dataset, key: str, name: str = "near") -> Any:
    """One of a Dataset's attrs; raises InputError where it is not there."""
    if key not in dataset.attrs:
        raise InputError(
            f"{name} has no attrs[{key!r}], only {sorted(map(str, dataset.attrs))}. Expected what Model returns, with "
            "its attrs: arithmetic drops them unless xarray.set_options(keep_attrs=True) is set."
        )
    return dataset.attrs[key]


def count(option: str, value: Any, most: int, why: str, least: int = 1) -> int:
    """Check a whole number from `least` to `most`; raises InputError, which says `why` there are no more."""
    number = whole_number(option, value, least)
    if number > most:
        raise InputError(f"{option}={number} was given; expected {least} to {most}, {why}.")
    return number


def same_texts(a: xr.Dataset, b: xr.Dataset, names: str) -> None:
    """Fail unless two Datasets are of one model, texts and mask; raises InputError that calls them `names`."""
    for key in ("fingerprint", "token_ids", "token_type_ids", "causal"):
        of_a, of_b = a.attrs.get(key), b.attrs.get(key)
        if of_a != of_b:
            raise InputError(
                f"{names} differ in attrs[{key!r}]: {of_a!s:.80} and {of_b!s:.80}. Expected both from the same call of "
                "Model.encode."
            )


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
    _check_attention(encodings, name)
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
    chosen = {}
    for dim in dims:
        asked, there = given.near[dim].values.tolist(), weights[dim].values.tolist()
        left_out = sorted(set(asked) - set(there))
        if left_out:
            raise InputError(
                f"The neighbours have {dim} {left_out[0]}, and {name} only {there!s:.80}. Give all that Model.encode "
                "returned."
            )
        chosen[dim] = [there.index(label) for label in asked]
    return weights.isel(chosen).values


def key_tokens(encodings: xr.Dataset, name: str = "encodings") -> xr.Dataset:
    """Coordinates of the tokens that are attended to, in the order of ``key_position``.

    Raises
    ------
    InputError
        If the Dataset has no attention, or not all positions, so that their tokens are not known.
    """
    _check_attention(encodings, name)
    if not np.array_equal(encodings["position"].values, np.arange(encodings.sizes["key_position"])):
        raise InputError(
            f"{name} has {encodings.sizes['position']} positions of {encodings.sizes['key_position']}, or not in their "
            "order, so that it does not say which tokens are attended to. Select afterwards, or leave attention out: "
            "drop_vars('attention')."
        )
    return encodings.coords.to_dataset()


def _check_attention(encodings: xr.Dataset, name: str) -> None:
    schema.validate(encodings, {})
    if "attention" not in encodings:
        raise InputError(
            f"{name} has no attention, as where several texts are encoded at once. Leave it out, or encode one text."
        )
    (ids,) = json.loads(attribute(encodings, "token_ids", name))
    keys = encodings.sizes["key_position"]
    if keys != len(ids):
        raise InputError(
            f"{name} has attention to {keys} of the {len(ids)} tokens of the text; expected all. Do not select along "
            "key_position."
        )
