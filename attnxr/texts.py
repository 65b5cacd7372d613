"""The texts of a Dataset: what its attrs say of them in whole, and which text and place in it each position is."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.errors import InputError

PLACES = ("char_start", "char_end", "word")
"""What is known of where a token stands in its text."""
OF_TEXTS = ("token_ids", "text_lengths", "token_type_ids", "encoder_token_ids", "encoder_text_lengths")
"""Attrs that say what the model was given."""
_AT_ONCE = 1 << 20  # tokens


def attrs_of(texts: Sequence[Sequence[int]], types: Sequence[Sequence[int]]) -> dict[str, Any]:
    """What attrs say of texts in whole, as a Dataset may be a selection of their positions.

    Parameters
    ----------
    texts, types : list of list of int
        Token ids of each text, and its token types: none of them where the model is given none.

    Returns
    -------
    dict
        ``token_ids``: int64 array, read-only, of all texts end to end; of one token alone a number, which is what
        NetCDF makes of it. ``token_type_ids``, if there are any: as long, -1 in a text that has none.
        ``text_lengths``, of several texts: how many tokens each has.
    """
    attrs = {"token_ids": _plain([token for text in texts for token in text])}
    if len(texts) > 1:
        attrs["text_lengths"] = _plain([len(text) for text in texts])
    if any(types):
        filled = [list(of_text) or [-1] * len(text) for text, of_text in zip(texts, types, strict=True)]
        attrs["token_type_ids"] = _plain([each for of_text in filled for each in of_text])
    return attrs


def attrs_of_encoder(texts: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The same of the texts that an encoder read beside them, as ``encoder_token_ids`` and ``encoder_text_lengths``."""
    return {f"encoder_{name}": each for name, each in attrs_of(texts, [[] for _ in texts]).items()}


def encoder_ids(dataset: xr.Dataset) -> list[list[int]]:
    """Token ids of the texts that an encoder read; none where the attrs say none."""
    if "encoder_token_ids" not in dataset.attrs:
        return []
    return _ids(dataset, "encoder_token_ids", "encoder_text_lengths")


def _plain(numbers: list[int]) -> NDArray[np.int64] | int:
    if len(numbers) == 1:
        return int(numbers[0])
    array = np.array(numbers, np.int64)
    array.setflags(write=False)  # several Datasets share it
    return array


def token_ids(dataset: xr.Dataset, name: str = "The Dataset") -> list[list[int]]:
    """Token ids of each text, whole, whatever positions were selected.

    Parameters
    ----------
    dataset : xr.Dataset
    name : str
        What the caller's user knows the Dataset as.

    Raises
    ------
    InputError
        If neither the attrs say them, nor the coordinates of a corpus.
    """
    if has_many(dataset):
        return [ids.tolist() for ids in each(dataset)]
    if "token_ids" not in dataset.attrs:
        raise InputError(
            f"{name} has no attrs['token_ids']. Expected what Model returns, with its attrs: arithmetic drops them "
            "unless xarray.set_options(keep_attrs=True) is set."
        )
    return _ids(dataset, "token_ids", "text_lengths")


def has_many(dataset: xr.Dataset) -> bool:
    """Whether it has the texts of a corpus, in coordinates instead of attrs: ``source_token_id`` and ``row_size``."""
    return "source_token_id" in dataset.variables and "row_size" in dataset.variables


def each(dataset: xr.Dataset, name: str = "The Dataset") -> Iterator[NDArray[np.int64]]:
    """Token ids of one text after the other, as `token_ids`; of a corpus only some texts are in memory at a time."""
    if not has_many(dataset):
        yield from (np.array(ids) for ids in token_ids(dataset, name))
        return
    sizes = dataset["row_size"].values
    ends = np.cumsum(sizes)
    first = 0
    while first < len(sizes):
        start = ends[first] - sizes[first]
        last = max(first + 1, int(np.searchsorted(ends, start + _AT_ONCE, side="right")))
        ids = dataset["source_token_id"][start : ends[last - 1]].values.astype(np.int64)
        yield from np.split(ids, ends[first : last - 1] - start)
        first = last


def places(dataset: xr.Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each position, the number of its text and its place there: int64 (n,) both; also where n = 1 was selected."""
    several = "text_id" in dataset.coords
    place = np.atleast_1d(dataset["text_position" if several else "position"].values)
    text = np.atleast_1d(dataset["text_id"].values) if several else np.zeros(place.shape, np.int64)
    return text, place


def token_types(dataset: xr.Dataset) -> list[list[int]]:
    """Token types of each text of a Dataset; an empty list for a text whose model is given none.

    Raises
    ------
    InputError
        If they are not as long as the texts.
    """
    texts = token_ids(dataset)
    if "token_type_ids" not in dataset.attrs:
        return [[] for _ in texts]
    types = _numbers(dataset, "token_type_ids", least=-1)
    lengths = [len(ids) for ids in texts]
    if len(types) == sum(lengths):
        of_texts = _split(types, lengths)
        if all(-1 not in of_text or set(of_text) == {-1} for of_text in of_texts):
            return [[] if -1 in of_text else of_text for of_text in of_texts]
    raise InputError(
        f"The Dataset has attrs['token_type_ids'] {types!s:.80}, which are not those of texts of {lengths!s:.80} "
        "tokens. Expected what Model.encode returns, or a selection from it."
    )


def _ids(dataset: xr.Dataset, name: str, lengths: str) -> list[list[int]]:
    """Token ids of each text that attrs say; without lengths it is one text."""
    ids = _numbers(dataset, name, least=0)
    return _split(ids, _numbers(dataset, lengths, least=1) if lengths in dataset.attrs else [len(ids)])


def _numbers(dataset: xr.Dataset, name: str, least: int) -> list[int]:
    """Whole numbers of an attr: an array, which some formats make a list, and a single one a number."""
    given = dataset.attrs[name]
    try:
        numbers = np.atleast_1d(np.asarray(given))
    except (ValueError, OverflowError):  # lists in lists of different lengths
        numbers = np.zeros(0)
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or not numbers.size or numbers.min() < least:
        raise InputError(
            f"The Dataset has attrs[{name!r}] {given!s:.80}; expected one whole number or more, none below {least}, as "
            "Model.encode returns them."
        )
    return numbers.tolist()


def _split(numbers: list[int], lengths: list[int]) -> list[list[int]]:
    """The parts that lie end to end."""
    ends = list(accumulate(lengths))
    if ends[-1] != len(numbers):
        raise InputError(
            f"The Dataset has attrs['text_lengths'] {lengths!s:.80}, which do not add up to its {len(numbers)} "
            "attrs['token_ids']. Expected what Model.encode returns, or a selection from it."
        )
    return [numbers[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def sources(dataset: xr.Dataset) -> list[str]:
    """The texts that a Dataset is of, as they were written; empty ones where token ids were given.

    Raises
    ------
    InputError
        If it does not say.
    """
    if "text_id" not in dataset.coords:
        if isinstance(text := dataset.attrs.get("text"), str):
            return [text]
        raise InputError(
            "The Dataset has no attrs['text']. Expected what Model returns, with its attrs: arithmetic drops them "
            "unless xarray.set_options(keep_attrs=True) is set."
        )
    if "source" not in dataset.coords or dataset.sizes.get("source_id") != len(token_ids(dataset)):
        raise InputError(
            "The Dataset has several texts and no coordinate 'source' that holds them all. Expected what Model "
            "returns: leave variables out with drop_vars([…]), as dataset[[…]] leaves out such coordinates too."
        )
    return [str(text) for text in dataset["source"].values]


def quoted(atlas: xr.Dataset) -> dict[int, slice]:
    """Where the texts lie end to end that are examples in an atlas, or of one head of it: by their numbers."""
    sizes = atlas["quoted_size"].values.tolist()
    stops = accumulate(sizes)
    lying = (slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True))
    return dict(zip(atlas["quoted_id"].values.tolist(), lying, strict=True))


def same_many(a: xr.Dataset, b: xr.Dataset) -> bool:
    """Whether two Datasets have the texts of the same corpus, or neither has any."""
    if has_many(a) != has_many(b) or not has_many(a):
        return has_many(a) == has_many(b)
    names = ("row_size", "source_token_id")
    return all(a[name].shape == b[name].shape and bool((a[name].variable == b[name].variable).all()) for name in names)


def same_attr(a: xr.Dataset, b: xr.Dataset, name: str) -> bool:
    """Whether two Datasets have the same in their attrs, be it a number, a string, an array or nothing."""
    of_a: Any = a.attrs.get(name)
    of_b: Any = b.attrs.get(name)
    return np.array_equal(np.atleast_1d(of_a), np.atleast_1d(of_b))
