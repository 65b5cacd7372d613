"""Whether encodings and neighbours that somebody else made can be what attnxr computed: ranges, labels, agreements.

`attnxr.schema.validate` looks at names, dimensions and dtypes, and is asked of all that is computed. This looks at
every value, once, when a file is read: what is well formed and wrong would fail later, somewhere, or take memory by the
size that it claims.
"""

from typing import Any

import numpy as np
import xarray as xr

from attnxr import texts
from attnxr.errors import InputError
from attnxr.options import MOST_SEED
from attnxr.schema import ENCODINGS, NEIGHBORS, TEXT_COORDS

MOST_ENTRIES = 1 << 21
"""The largest vocabulary that a file may claim; those of known models have up to 1.1 million entries."""
MOST_TEXT = 1_000_000
"""Characters of a text."""
_MOST_NUMBER = 1 << 31  # of what counts something
_LABELS = {"layer": 0, "head": 0, "kv_head": 0, "rank": 1}  # and the smallest there is
_ROUNDING = 0.02  # of attention in bfloat16
_EXPECTED = "Expected what Model returns, or a selection from it, saved as it is."


def check(dataset: xr.Dataset, name: str) -> None:
    """Fail where a value cannot be.

    Parameters
    ----------
    dataset : xr.Dataset
        Encodings or neighbours, valid and with ``token_ids`` in its attrs, loaded.
    name : str
        What the caller's user knows it as.

    Raises
    ------
    InputError
        If a dimension has no entries or labels that cannot be, a number is out of its range, attention is none, a token
        stands beyond its text, or an attr is out of range or of a kind that no file of attnxr has.
    """
    empty = [dim for dim, size in dataset.sizes.items() if not size]
    if empty:
        raise InputError(f"{name} has nothing along {empty[0]!r}. {_EXPECTED}")
    _check_attrs(dataset, name)
    _check_labels(dataset, name)
    entries = int(dataset.attrs.get("vocab_size", MOST_ENTRIES))
    for variable, spec in (TEXT_COORDS | ENCODINGS | NEIGHBORS).items():
        if variable in dataset.variables and spec.least is not None:
            most = {"": None, "entry": entries - 1, "entries": entries}[spec.most]
            _within(dataset.variables[variable].values, spec.least, most, f"{name}'s {variable!r}")
    _check_attention(dataset, name)
    _check_spans(dataset, name)


def check_together(encodings: xr.Dataset, neighbors: xr.Dataset) -> None:
    """Fail unless both are of the same texts, in the same model, at the same layers, heads and positions."""
    for name in ("model", "fingerprint", *texts.OF_TEXTS, "causal", "text"):
        if not texts.same_attr(encodings, neighbors, name):
            raise InputError(f"The encodings and the neighbours in the file differ in attrs[{name!r}].")
    for name in ("layer", "head", "kv_head", *TEXT_COORDS):
        a, b = (each.coords.get(name) for each in (encodings, neighbors))
        missing_one = (a is None) != (b is None)
        if missing_one and name in ("head", "kv_head"):
            continue  # vectors of the stream have neither
        if missing_one or not (a is None or b is None or a.variable.equals(b.variable)):
            raise InputError(f"The encodings and the neighbours in the file differ in {name!r}.")


def check_model(dataset: xr.Dataset, sizes: dict[str, int], layers: int, name: str) -> None:
    """Fail unless a Dataset can be of a model.

    Parameters
    ----------
    dataset : xr.Dataset
    sizes : dict of str to int
        Of the model: how many there are of ``head``, ``kv_head`` and ``feature``, and ``vocab_size``.
    layers : int
        How many layers it has.
    name : str
        What the caller's user knows the Dataset as.
    """
    claimed = {dim: dataset.sizes.get(dim, size) for dim, size in sizes.items()}
    claimed["vocab_size"] = int(dataset.attrs.get("vocab_size", sizes["vocab_size"]))
    for dim, size in sizes.items():
        if claimed[dim] != size:
            raise InputError(f"{name} has {dim} {claimed[dim]:,}, and the model that it names {size:,}. {_EXPECTED}")
    _within(dataset["layer"].values, 0, layers - 1, f"{name}'s 'layer'")
    _within(dataset["token_id"].values, 0, sizes["vocab_size"] - 1, f"{name}'s 'token_id'")


def _within(values: np.ndarray, least: float, most: float | None, what: str) -> None:
    found = (values.min(), values.max())
    if found[0] < least or (most is not None and found[1] > most):
        allowed = f"{least} or more" if most is None else f"{least} to {most}"
        raise InputError(f"{what} runs from {found[0]} to {found[1]}; expected {allowed}. {_EXPECTED}")


def _check_attrs(dataset: xr.Dataset, name: str) -> None:
    for key, value in dataset.attrs.items():
        flat = np.atleast_1d(np.asarray(value)) if isinstance(value, list | tuple | np.ndarray) else np.asarray([value])
        plain = flat.ndim == 1 and flat.dtype.kind in "biufU"
        if not plain or (flat.dtype.kind == "U" and max(map(len, flat), default=0) > MOST_TEXT):
            raise InputError(
                f"{name} has attrs[{key!r:.80}] of a kind that cannot be saved again, {type(value).__name__}; expected "
                f"numbers, or texts of at most {MOST_TEXT:,} characters."
            )
    ranges = {
        "causal": (0, 1),
        "positional": (0, 1),
        "truncated": (0, _MOST_NUMBER),
        "generated": (0, _MOST_NUMBER),
        "seed": (0, MOST_SEED),
        "k": (1, MOST_ENTRIES),
        "vocab_size": (1, MOST_ENTRIES),
    }
    for key, (least, most) in ranges.items():
        if key in dataset.attrs and not _is_whole(dataset.attrs[key], least, most):
            raise InputError(
                f"{name} has attrs[{key!r}] {dataset.attrs[key]!r:.80}; expected a whole number, {least} to {most:,}."
            )


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int | np.integer | np.bool_) and bool(least <= value <= most)


def _check_labels(dataset: xr.Dataset, name: str) -> None:
    for dim, least in _LABELS.items():
        if dim in dataset.dims and dim not in dataset.variables:
            raise InputError(f"{name} has no labels along {dim!r}. {_EXPECTED}")
        if dim not in dataset.variables:
            continue
        labels = dataset.variables[dim]
        numbers = np.atleast_1d(labels.values)
        if labels.dims not in ((), (dim,)) or numbers.dtype.kind not in "iu" or len(np.unique(numbers)) < len(numbers):
            raise InputError(
                f"{name} has the {dim}s {numbers.ravel()[:20].tolist()!s:.80}; expected whole numbers, each once."
            )
        _within(numbers, least, _MOST_NUMBER, f"{name}'s {dim!r}")


def _check_attention(dataset: xr.Dataset, name: str) -> None:
    if "attention" not in dataset.variables:
        return
    is_cross = dataset.attrs.get("stack") == "cross"
    of_texts = texts.encoder_ids(dataset) if is_cross else texts.token_ids(dataset, name)
    longest = max(map(len, of_texts), default=dataset.sizes["key_position"])
    if dataset.sizes["key_position"] > longest:
        raise InputError(
            f"{name} has attention to {dataset.sizes['key_position']} positions of a text of {longest} tokens."
        )
    rows = dataset["attention"].values.sum(-1, dtype=np.float64)
    if rows.max() > 1 + _ROUNDING:
        raise InputError(
            f"{name} has attention weights that add up to {rows.max():.3g} in a row; expected 1, or less where keys "
            "were left out or a sink takes some."
        )


def _check_spans(dataset: xr.Dataset, name: str) -> None:
    columns = [np.atleast_1d(dataset[each].values) for each in texts.PLACES]
    start, end, word = columns
    of_texts, (number, _place) = texts.sources(dataset), texts.places(dataset)
    lengths = np.array([len(text) for text in of_texts])
    _within(number, 0, len(of_texts) - 1, f"{name}'s 'text_id'")
    wrong = np.flatnonzero((start > end) | ((start < 0) != (end < 0)) | (end > lengths[number]))
    if len(wrong):
        i = wrong[0]
        raise InputError(
            f"{name} has a token at characters {start[i]} to {end[i]} of a text of {lengths[number][i]} characters."
        )
    # Every word has characters or, where ids were given, tokens.
    _within(word, -1, int(lengths.sum()) + sum(map(len, texts.token_ids(dataset, name))), f"{name}'s 'word'")
