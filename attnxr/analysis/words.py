"""Words: what was found for the tokens of a text, put together for its words."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.analysis.corpora import on_corpora
from attnxr.analysis.given import key_tokens
from attnxr.checking import choice, tokens
from attnxr.errors import InputError
from attnxr.schema import TOKEN_COORDS, WORD_COORDS, describe, validate
from attnxr.texts import places, sources

How = Literal["mean", "median", "min", "max", "first", "last"]

_REDUCE: dict[str, Callable[..., NDArray]] = {"mean": np.mean, "median": np.median, "min": np.min, "max": np.max}
_PICK = {"first": 0, "last": -1}


@on_corpora
def words(dataset: xr.Dataset, *, how: How | Mapping[str, How] | None = None) -> xr.Dataset:
    """Put the tokens of each word together: ``position`` becomes ``word``, all other dimensions stay.

    Words are those of the coord ``word``, the tokenizer's, which may set punctuation apart. Tokens of no word (−1:
    special tokens, ids without a text) are left out. For a tokenizer that does not split texts into words, as those of
    Llama, a text is one word; then give the Dataset words of your own:
    ``dataset.assign_coords(word=("position", […]))``.

    Unless told otherwise:

    - numbers with a fraction (encodings, the residual stream, distances, similarities) take the **mean**;
    - ``attention`` *from* a word takes the mean of its tokens, attention *to* a word is the sum over its tokens (Clark
      et al. 2019, "What does BERT look at?", section 4.1): a row still sums to 1, less what goes to tokens of no word;
    - ``own_rank`` takes the **median**: ranks are skewed, and the smallest would favour words of many tokens;
    - lists of neighbours (all with the dim ``rank``) are those of the **first** token, whole: lists have no mean.

    Parameters
    ----------
    dataset : xr.Dataset
        What `Model.encode`, `Model.neighbors` or an analysis returns, or a selection from it that has ``position``;
        with ``attention``, one that has all positions. Variables without positions are left out.
    how : {"mean", "median", "min", "max", "first", "last"} or dict, optional
        For all variables, or for those that the dict names. Of attention it says how the tokens it comes from are put
        together. Lists, strings and truth values can only be those of the ``first`` or the ``last`` token; they and
        whole numbers other than own ranks have to be named.

    Returns
    -------
    xr.Dataset
        With coords on ``word``: ``word_text``, ``char_start`` and ``char_end`` in its text, ``n_tokens``, and with
        several texts ``text_id`` and ``text_word``. Attention has ``key_word`` in place of ``key_position``. Means are
        computed in float64; variables keep their dtype, but for means and medians of whole numbers, which are float64.
        attrs ``how``: JSON, what was done to each variable.

    Raises
    ------
    InputError
        If there are no positions or no words, an aggregation is unknown or has no meaning for a variable, or attention
        is given without all positions.

    Examples
    --------
    >>> import attnxr
    >>> model = attnxr.load_model("minilm")
    >>> enc = model.encode("An unbelievable arrow.")
    >>> attnxr.words(enc).word_text.values.tolist()
    ['An', 'unbelievable', 'arrow', '.']
    """
    validate(dataset, {})
    if "position" not in dataset.dims:
        raise InputError(
            f"The Dataset has dimensions {tuple(dataset.sizes)}; expected 'position' among them. Select with lists or "
            "slices, so that dimensions are kept: isel(position=[3])."
        )
    validate(dataset, {}, required=tuple(TOKEN_COORDS))
    tokens(dataset, "The Dataset")
    if len(np.unique(dataset["position"].values)) < dataset.sizes["position"]:
        raise InputError(
            "The Dataset has positions more than once, as where two of one text were joined: their tokens would be put "
            "together into one word. Expected each position once."
        )
    groups = _groups(dataset)
    chosen = _chosen(dataset, how)
    variables = {}
    for name, one_how in chosen.items():
        variable = dataset.variables[name]
        if name == "attention":
            variable = _summed_over_keys(dataset, groups)
        variables[name] = _together(variable, groups, one_how)
    of_positions = [each for each, coord in dataset.coords.items() if "position" in coord.dims]
    result = xr.Dataset(variables, dataset.drop_vars([*of_positions, *dataset.data_vars]).coords, dataset.attrs)
    result = result.assign_coords(_coords(dataset, groups))
    if "attention" in chosen:
        result = result.assign_coords(
            key_word=result["word"].values, key_word_text=("key_word", result["word_text"].values)
        )
    result.attrs["how"] = json.dumps(chosen)
    return describe(result, WORD_COORDS)


def _groups(dataset: xr.Dataset) -> list[NDArray[np.intp]]:
    """Index of the tokens of each word; words and tokens in the order of their positions."""
    word_of = dataset["word"].values
    text_of, _ = places(dataset)
    found: dict[tuple[int, int], list[int]] = {}
    for i in np.argsort(dataset["position"].values):
        if word_of[i] >= 0:
            found.setdefault((text_of[i], word_of[i]), []).append(i)
    if not found:
        raise InputError(
            "The Dataset has no words: its coord 'word' is -1 everywhere, as that of special tokens and of token_ids "
            "without a text. Encode a text, or name the words: dataset.assign_coords(word=('position', […]))."
        )
    return [np.array(group) for group in found.values()]


def _chosen(dataset: xr.Dataset, how: How | Mapping[str, How] | None) -> dict[str, str]:
    """What is done to each variable that has positions."""
    names = [str(name) for name, variable in dataset.data_vars.items() if "position" in variable.dims]
    if isinstance(how, Mapping):
        unknown = sorted(map(str, set(how) - set(names)))
        if unknown:
            raise InputError(f"how names {unknown[0]!r}; the Dataset has the variables {', '.join(names)}.")
    asked: Mapping[str, Any] = how if isinstance(how, Mapping) else {} if how is None else dict.fromkeys(names, how)
    chosen = {}
    for name in names:
        variable = dataset[name]
        is_list = "rank" in variable.dims
        numbers = variable.dtype.kind in "iuf"
        if name in asked:
            chosen[name] = choice("how", asked[name], get_args(How))
        elif is_list:
            chosen[name] = "first"
        elif variable.dtype.kind == "f":
            chosen[name] = "mean"
        elif "own_rank" in name:
            chosen[name] = "median"
        else:
            raise InputError(
                f"{name!r} has dtype {variable.dtype}, and how says nothing of it. Expected how={{{name!r}: 'first'}} "
                "or another aggregation, or a Dataset without it."
            )
        if chosen[name] not in _PICK and (is_list or not numbers):
            raise InputError(
                f"how={chosen[name]!r} has no meaning for {name!r}, which holds "
                f"{'a list for each token' if is_list else variable.dtype}. Expected 'first' or 'last'; a dict says it "
                f"for some variables only: how={{{name!r}: 'first'}}."
            )
    return chosen


def _together(variable: xr.Variable, groups: list[NDArray[np.intp]], how: str) -> xr.Variable:
    """One value a word for each value a token."""
    values = np.moveaxis(variable.values, variable.dims.index("position"), -1)
    if how in _PICK:
        out = values[..., [group[_PICK[how]] for group in groups]]
    else:
        whole_numbers_split = variable.dtype.kind != "f" and how in ("mean", "median")
        out = np.empty((*values.shape[:-1], len(groups)), np.float64 if whole_numbers_split else values.dtype)
        sizes = np.array(list(map(len, groups)))
        for size in np.unique(sizes):  # all words of one size at once
            of_size = np.flatnonzero(sizes == size)
            tokens = values[..., np.stack([groups[i] for i in of_size])]
            if how in ("mean", "median"):
                tokens = tokens.astype(np.float64)
            out[..., of_size] = _REDUCE[how](tokens, axis=-1)
    out = np.moveaxis(out, -1, variable.dims.index("position"))
    dims = ["word" if dim == "position" else dim for dim in variable.dims]
    return xr.Variable(dims, out, variable.attrs)


def _summed_over_keys(dataset: xr.Dataset, groups: list[NDArray[np.intp]]) -> xr.Variable:
    """Attention of each token to each word: (layer, head, position, key_word)."""
    attention = dataset["attention"].transpose(..., "key_position").variable
    keys = key_tokens(dataset, "The Dataset")["position"].values
    indicator = np.zeros((len(keys), len(groups)))
    for word, group in enumerate(groups):
        indicator[group, word] = 1
    summed = (attention.values.astype(np.float64) @ indicator).astype(np.float32)
    return xr.Variable((*attention.dims[:-1], "key_word"), summed, attention.attrs)


def _coords(dataset: xr.Dataset, groups: list[NDArray[np.intp]]) -> dict[str, Any]:
    first = [group[0] for group in groups]
    several = "text_id" in dataset.coords
    text_of = places(dataset)[0][first]
    texts = sources(dataset)
    starts, ends = dataset["char_start"].values, dataset["char_end"].values
    char_start, char_end = np.full((2, len(groups)), -1)
    written = np.empty(len(groups), object)
    for i, group in enumerate(groups):
        has_characters = group[starts[group] >= 0]  # a space before a word may be a token of its own, and have none
        of_tokens = "".join(dataset["text"].values[group])
        written[i] = of_tokens.strip() or of_tokens
        if len(has_characters):
            start, end = starts[has_characters].min(), ends[has_characters].max()
            in_text = texts[text_of[i]][start:end]
            spaces = len(in_text) - len(in_text.lstrip())  # which GPT-2's tokenizer counts to the word
            if spaces < len(in_text):
                start, in_text = start + spaces, in_text[spaces:]
            char_start[i], char_end[i], written[i] = start, end, in_text
    coords = {
        "word": np.arange(len(groups)) if several else dataset["word"].values[first],
        "word_text": ("word", written),
        "char_start": ("word", char_start),
        "char_end": ("word", char_end),
        "n_tokens": ("word", np.array([len(group) for group in groups])),
    }
    if several:
        coords |= {"text_id": ("word", text_of), "text_word": ("word", dataset["word"].values[first])}
    return coords
