"""Checks at the door, of options and of Datasets; each raises `InputError`, which says what to do."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from attnxr import schema, texts
from attnxr.errors import InputError

_T = TypeVar("_T", bound=str)

_VECTOR_DIMS = ("layer", "head", "kv_head", "position")  # what a selection by one number may drop

# Options


def choice(option: str, value: _T, allowed: Sequence[str]) -> _T:
    """Check an option that is one of some words."""
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{option}={value!r} was given; expected one of {', '.join(map(repr, allowed))}.")
    return value


def choices(option: str, values: object, allowed: Sequence[_T]) -> tuple[_T, ...]:
    """Check an option that is a list of words, or one word alone; what is there twice counts once."""
    words: Iterable[Any] = values if isinstance(values, Iterable) and not isinstance(values, str) else (values,)
    return tuple(dict.fromkeys(choice(option, word, allowed) for word in words))


def whole_number(option: str, value: object, least: int, most: int | None = None, why: str = "") -> int:
    """Check an option that is a whole number from `least` to `most`.

    Parameters
    ----------
    option : str
    value : object
    least, most : int
        Without `most`, there is no largest one.
    why : str
        What the message says of the limits.

    Returns
    -------
    int
    """
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_number or not least <= value <= (value if most is None else most):  # type: ignore[operator]
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        reason = f", {why}" if why else ""
        raise InputError(f"{option}={value!r} was given; expected a whole number, {allowed}{reason}.")
    return int(value)  # type: ignore[call-overload]


def fraction(option: str, value: object, such_as: float) -> float:
    """Check an option that is a number between 0 and 1, neither of which it may be."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < 1:
        raise InputError(f"{option}={value!r} was given; expected a number between 0 and 1, such as {such_as}.")
    return float(value)


def boolean(option: str, value: object, allowed: str = "True or False") -> None:
    """Check an option that is true or false; `allowed` is what the message says."""
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{option}={value!r} was given; expected {allowed}.")


def some_of(option: str, given: Sequence[int] | None, there: Sequence[int], family: str) -> list[int]:
    """Check an option that names some of a model's layers or heads, each once; None names all."""
    if given is not None and (not isinstance(given, Iterable) or isinstance(given, str)):
        raise InputError(f"{option}={given!r} was given; expected a list of numbers, such as [{there[0]}].")
    asked = list(there) if given is None else [*given]
    wrong = [each for each in asked if isinstance(each, bool) or not isinstance(each, Real) or each not in there]
    if wrong or not asked or len({*asked}) < len(asked):
        raise InputError(
            f"{option}={given!r} was given; {family} has the {option.removeprefix('keep_')} "
            f"{', '.join(map(str, there))}. Expected some of them, each once."
        )
    return [int(each) for each in asked]


# Tokens


def vocabulary_ids(ids: Iterable[int], size: int, model: str) -> None:
    """Check ids of the vocabulary, of `size` entries, of the model that the user knows by that name."""
    wrong = [i for i in ids if not 0 <= i < size]
    if wrong:
        raise InputError(
            f"Token id {wrong[0]} is out of range; the vocabulary of {model!r} has ids 0 to {size - 1}. Does the "
            "tokenizer belong to this model?"
        )


def tokens(dataset: xr.Dataset, name: str, size: int | None = None) -> None:
    """Fail where a Dataset's tokens are not those that its attrs say, as after joining Datasets of two texts.

    Parameters
    ----------
    dataset : xr.Dataset
        With the coords ``position`` and ``token_id``, and for several texts ``text_id`` and ``text_position``.
    name : str
        What the caller's user knows the Dataset as.
    size : int, optional
        Number of vocabulary entries of the model that is asked about the Dataset: then its attrs must say the texts.
        Where no model is asked, a Dataset without ``attrs["token_ids"]`` is known too little of, and passes.

    Raises
    ------
    InputError
        If a position is there that the texts do not have, or it has another token, or one beyond the vocabulary.
    """
    known = "token_ids" in dataset.attrs and "token_id" in dataset.coords and "position" in dataset.coords
    if size is None and not known:
        return
    of_texts = texts.token_ids(dataset, name)
    text, place = texts.places(dataset)
    for i, at, token in zip(text.tolist(), place.tolist(), np.atleast_1d(dataset["token_id"].values), strict=True):
        ids = of_texts[i] if 0 <= i < len(of_texts) else []
        if not 0 <= at < len(ids) or ids[at] != token or (size is not None and not 0 <= token < size):
            entries = "" if size is None else f", and the vocabulary has {size} entries"
            raise InputError(
                f"{name} has token {token} at place {at} of text {i}; its attrs['token_ids'] are "
                f"{dataset.attrs['token_ids']!s:.80}{entries}. Were Datasets of two texts joined? Expected what Model "
                "returns, or a selection from it: to have several texts in one Dataset, encode them together, "
                "model.encode([text, text])."
            )


# Dimensions and labels


def restored(
    dataset: xr.Dataset, variables: Mapping[str, tuple[str, ...]], coords: Mapping[str, tuple[str, ...]]
) -> xr.Dataset:
    """Give variables and coordinates the dimensions back that selecting by one number has dropped.

    Parameters
    ----------
    dataset : xr.Dataset
    variables, coords : mapping of str to tuple of str
        What to take, and the dimensions that each is to have. Coordinates that are not there are left out.

    Returns
    -------
    xr.Dataset
        With ``sel(layer=3)`` undone: ``layer`` has size 1. What lacks another dimension, or has one more, stays as it
        is, for the schema to refuse.
    """
    dropped = {dim for dim in _VECTOR_DIMS if dim in dataset.variables and dim not in dataset.dims}

    def whole(name: str, dims: tuple[str, ...]) -> xr.Variable:
        found = dataset.variables[name]
        if not set(found.dims) <= set(dims) or set(dims) - set(found.dims) - dropped:
            return found
        return found.set_dims({dim: found.sizes.get(dim, 1) for dim in dims})

    return xr.Dataset(
        {name: whole(name, dims) for name, dims in variables.items()},
        {name: whole(name, dims) for name, dims in coords.items() if name in dataset.variables},
        dataset.attrs,
    )


def with_all_dims(encodings: xr.Dataset, variable: str) -> tuple[xr.Dataset, list[str]]:
    """Take one variable of encodings and its coordinates, with the dimensions that a selection has dropped.

    With head encodings comes what they are multiplied by, where they are (``gate``).

    Parameters
    ----------
    encodings : xr.Dataset
        What `Model.encode` returns, or a selection from it.
    variable : str

    Returns
    -------
    xr.Dataset
    list of str
        The dimensions that were dropped.

    Raises
    ------
    InputError
        If it is not as the schema declares it.
    """
    dims = schema.ENCODINGS[variable].dims
    if "key_feature" in encodings[variable].dims:
        dims = (*dims[:-1], "key_feature")
    coords: dict[str, tuple[str, ...]] = {dim: (dim,) for dim in dims if dim in _VECTOR_DIMS}
    coords |= {name: spec.dims for name, spec in schema.TEXT_COORDS.items()}
    dropped = [dim for dim in dims if dim in encodings.variables and dim not in encodings[variable].dims]
    taken = [variable, *(["gate"] if variable == "head_encoding" and "gate" in encodings else [])]
    return schema.validate(restored(encodings, dict.fromkeys(taken, dims), coords), schema.ENCODINGS), dropped


def same_labels(a: xr.Dataset, b: xr.Dataset, dims: Iterable[str], names: tuple[str, str], advice: str) -> None:
    """Fail where two Datasets differ in layers, heads or positions.

    Parameters
    ----------
    a, b : xr.Dataset
    dims : iterable of str
        Which of their dimensions to look at.
    names : tuple of str
        What the caller's user knows the two as.
    advice : str
        What the message says last; ``{dim}`` in it becomes the dimension.
    """
    for dim in dims:
        of_a, of_b = (np.atleast_1d(each[dim].values) for each in (a, b))
        if not np.array_equal(of_a, of_b):
            raise InputError(
                f"{names[0]} has the {dim}s {of_a.tolist()!s:.80}, and {names[1]} {of_b.tolist()!s:.80}; expected the "
                f"same. {advice.format(dim=dim)}"
            )


def index_of(asked: Any, there: Any, dim: str, names: tuple[str, str], advice: str) -> list[int]:
    """Find the labels of one dimension of a Dataset among those of another.

    Parameters
    ----------
    asked, there : xr.Dataset, xr.DataArray or mapping of str to arrays
        Of which ``asked[dim]`` is looked for in ``there[dim]``.
    dim : str
    names : tuple of str
        What the caller's user knows the two as, with the verb: ``("near has", "the encodings")``.
    advice : str
        What the message says last.

    Returns
    -------
    list of int
    """
    labels, known = np.asarray(asked[dim]).tolist(), np.asarray(there[dim]).tolist()
    missing = sorted(set(labels) - set(known))
    if missing:
        raise InputError(f"{names[0]} {dim} {missing[0]}, and {names[1]} only the {dim}s {known!s:.80}. {advice}")
    return [known.index(label) for label in labels]


def aligned(array: xr.DataArray, labels: Mapping[str, Any], what: str) -> xr.DataArray:
    """Bring an array to given layers, heads and positions, broadcast along those that it says nothing of.

    Parameters
    ----------
    array : xr.DataArray
    labels : mapping of str to array
        By dimension.
    what : str
        What the caller's user knows the array as.

    Returns
    -------
    xr.DataArray
        With the dimensions of `labels` first, in their order.
    """
    for dim, wanted in labels.items():
        if dim in array.dims:
            if dim in array.coords:
                index = index_of(labels, array, dim, ("The encodings have", what), "Give it for all of them.")
                array = array.isel({dim: index})
            elif array.sizes[dim] != len(wanted):
                raise InputError(
                    f"{what} has {array.sizes[dim]} of {dim}, without labels; the encodings have {len(wanted)}. "
                    "Expected as many, or labels that say which they are."
                )
            continue
        if dim in array.coords and (len(wanted) > 1 or wanted[0] != array.coords[dim].values):
            raise InputError(
                f"{what} is of {dim} {array.coords[dim].values} alone, and the encodings have the {dim}s "
                f"{wanted.tolist()!s:.80}. Expected the same of both; to take the same everywhere, leave the label "
                f"out: drop_vars({dim!r})."
            )
        array = array.drop_vars(dim, errors="ignore").expand_dims({dim: wanted})
    return array.transpose(*labels, ...)


def head_vectors(array: object, labels: Mapping[str, Any], size: int, what: str) -> xr.DataArray:
    """Check vectors that are to take the place of head encodings, and bring them to given layers, heads and positions.

    Parameters
    ----------
    array : object
    labels : mapping of str to array
        As for `aligned`.
    size : int
        Features of a head.
    what : str
        What the caller's user knows the array as.

    Returns
    -------
    float64 xr.DataArray (layer, head, position, …, feature)
    """
    if not isinstance(array, xr.DataArray) or array.dtype.kind not in "fiu" or "feature" not in array.dims:
        given = f"{array.dims} {array.dtype}" if isinstance(array, xr.DataArray) else type(array).__name__
        raise InputError(
            f"{what} was given as {given}; expected a DataArray of numbers with the dimension 'feature', such as "
            "enc.head_encoding.mean('position')."
        )
    if array.sizes["feature"] != size:
        raise InputError(
            f"{what} has vectors of {array.sizes['feature']} features; expected {size}, as the heads have."
        )
    strange = [dim for dim in array.dims if dim in ("kv_head", "channel", "source_id")]
    if strange:
        raise InputError(
            f"{what} has the dimension {strange[0]!r}. Expected layer, head, position, feature, and dimensions of "
            "other names, such as 'replacement'."
        )
    found = aligned(array, labels, what).transpose(..., "feature").astype(np.float64)
    if not found.size:
        raise InputError(f"{what} has sizes {dict(array.sizes)}; expected at least one vector.")
    if not np.isfinite(found.values).all():
        raise InputError(f"{what} has numbers that are infinite or NaN; expected finite ones, which a head can write.")
    return found
