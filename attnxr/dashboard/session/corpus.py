"""The heads of a corpus, as the page shows them: its atlas, checked, and the figures that each head has in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from attnxr.corpus.atlas import atlas
from attnxr.corpus.declared import ATLAS
from attnxr.errors import InputError
from attnxr.schema import validate
from attnxr.texts import quoted
from attnxr.tokens import mark_spaces

MOST_HEADS = 1 << 14
"""What a page shows at once; the largest models that are known have half as many."""
_MOST_NUMBER = 1 << 20  # of layers and heads
_LISTS = ("key", "query", "written", "distinctive")
_BROKEN = (
    OSError,
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    OverflowError,
)  # what a store that is none brings about
REPLACED = {"mean": "its mean", "neighbor": "the nearest entry", "own": "the own token"}
"""What stands in place of what a head wrote, in words."""


@dataclass(frozen=True, eq=False)
class Figure:
    """One number of every head.

    Parameters
    ----------
    label : str
        What it is called.
    help : str
        What it says.
    values : float64 array (heads,)
        NaN where a head has none. Heads in their order: the head changes fastest.
    """

    label: str
    help: str
    values: NDArray[np.float64]

    @cached_property
    def decimals(self) -> int:
        """How many decimals tell its values apart."""
        there = self.values[np.isfinite(self.values)]
        if not there.size or not np.any(there % 1):
            return 0
        return 4 if np.abs(there).max() < 0.1 else 3 if np.abs(there).max() < 10 else 1

    @cached_property
    def shown(self) -> list[str]:
        """The number of each head, as it is written."""
        decimals = self.decimals
        return [
            "–" if np.isnan(value) else f"{value:,.{decimals}f}".replace("-", "−") for value in self.values.tolist()
        ]


class Corpus:
    """The heads of a corpus.

    Parameters
    ----------
    atlas : xarray.Dataset
        What `attnxr.atlas` returns.

    Attributes
    ----------
    arrays : dict of str to array
        The atlas' variables, by name.
    attrs : dict
        What it says of itself.
    layers, heads : list of int
        Their numbers in the model.
    model, fingerprint : str
        Of the model that it is of.

    Raises
    ------
    InputError
        If it is none, or its parts do not agree with each other.
    """

    def __init__(self, atlas: xr.Dataset) -> None:
        _check(atlas)
        # A Dataset takes longer to give a variable than a click may take for all of them.
        self.arrays: dict[str, NDArray[Any]] = {str(name): each.values for name, each in atlas.variables.items()}
        self.attrs = dict(atlas.attrs)
        self.layers: list[int] = atlas["layer"].values.tolist()
        self.heads: list[int] = atlas["head"].values.tolist()
        self.model = str(atlas.attrs["model"])
        self.fingerprint = str(atlas.attrs["fingerprint"])

    @classmethod
    def read(cls, store: str | Path) -> Corpus:
        """Read the atlas of a corpus, whole.

        Parameters
        ----------
        store : str or pathlib.Path
            Where the corpus is.

        Returns
        -------
        Corpus
            What is in it.

        Raises
        ------
        InputError
            If there is none, it is not finished, or its atlas cannot be one.
        """
        try:
            return cls(atlas(store))
        except (InputError, *_BROKEN) as error:
            said = error if isinstance(error, InputError) else f"It is broken: {type(error).__name__}, {error}"
            raise InputError(f"The heads of {str(store)!r} cannot be shown. {said}") from error

    @property
    def n(self) -> int:
        """How many heads there are, of all layers."""
        return len(self.layers) * len(self.heads)

    def place(self, index: int) -> tuple[int, int]:
        """Numbers of the layer and the head that one is."""
        layer, head = divmod(index, len(self.heads))
        return self.layers[layer], self.heads[head]

    def index(self, layer: int, head: int) -> int | None:
        """Which one has these numbers; None where there is none."""
        if layer not in self.layers or head not in self.heads:
            return None
        return self.layers.index(layer) * len(self.heads) + self.heads.index(head)

    def name(self, index: int) -> str:
        """What one is called."""
        layer, head = self.place(index)
        return f"layer {layer}, head {head}"

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """What each head has one number of, by name: layer and head, and what was measured."""
        shape = len(self.layers), len(self.heads)
        numbers = {
            "layer": Figure("layer", "number of the layer", np.repeat(self.layers, shape[1]).astype(float)),
            "head": Figure("head", "number of the head", np.tile(self.heads, shape[0]).astype(float)),
        }
        measured = (
            (name, Figure(label, help, values.astype(np.float64).ravel()))
            for name, label, help, values in self._measured()
        )
        return numbers | {name: figure for name, figure in measured if np.isfinite(figure.values).any()}

    def _measured(self) -> Iterator[tuple[str, str, str, NDArray[Any]]]:
        found = self.arrays
        for name, spec in ATLAS.items():
            if name in found and spec.dims == ("layer", "head"):
                yield name, spec.long_name, spec.description, found[name]
            elif name in found and spec.dims == ("layer", "head", "replacement") and int(found["n_replaced"]):
                for i, kind in enumerate(found["replacement"].tolist()):
                    if kind in REPLACED and not (kind == "mean" and "recovered" in name):  # which is 0 by definition
                        label = f"{spec.long_name}, {REPLACED[kind]}"
                        yield f"{name}-{kind}", label, spec.description, found[name][..., i]
        if "own_rank_count" in found:
            yield (
                "median_own_rank",
                "median own rank, at most",
                "half of the tokens have an own rank of at most this: the end of the bin that the median is in",
                _median_at_most(found["own_rank_count"], found["rank_high"]),
            )
        if "written_share" in found:
            label, help = "share of the word written most", "at what share of the tokens it is the nearest entry"
            yield "top_share", label, help, found["written_share"][..., 0]

    @cached_property
    def words(self) -> list[str]:
        """Of each head what it writes most, and more than others: lines to be searched, in small letters."""
        kinds = [self.arrays[f"{kind}_text"] for kind in ("written", "distinctive") if f"{kind}_id" in self.arrays]
        if not kinds:
            return [""] * self.n
        lists = np.concatenate(kinds, axis=-1).reshape(self.n, -1).tolist()
        return ["\n" + "\n".join(dict.fromkeys(str(word).strip().lower() for word in words)) for words in lists]

    @cached_property
    def has_words(self) -> bool:
        """Whether there are any words to be searched."""
        return any(line.strip() for line in self.words)

    @cached_property
    def texts(self) -> dict[int, slice]:
        """Where the examples' texts lie end to end, by their numbers."""
        if "quoted_id" not in self.arrays:
            return {}
        return quoted(xr.Dataset({name: ("quoted", self.arrays[name]) for name in ("quoted_id", "quoted_size")}))

    @cached_property
    def marks_spaces(self) -> bool:
        """Whether tokens say what begins a word by a space, and not what goes on inside one."""
        return mark_spaces(map(str, self.arrays.get("quoted_text", ())))

    def example_text(self, index: int, example: int) -> int | None:
        """The text that an example of a head is of; None where there is no such example."""
        texts = self.arrays.get("example_text_id")
        if texts is None or not (0 <= index < self.n and 0 <= example < texts.shape[-1]):
            return None
        text = int(texts[divmod(index, len(self.heads))][example])
        return text if text >= 0 else None

    def token_ids(self, text: int) -> list[int]:
        """Tokens of a text that is an example."""
        return self.arrays["quoted_token_id"][self.texts[text]].tolist()


def _median_at_most(count: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.float64]:
    total = count.sum(axis=-1)
    below = np.cumsum(count, axis=-1)
    at = (2 * below >= total[..., None]).argmax(axis=-1)
    return np.where(total > 0, high[at], np.nan)


def _check(found: xr.Dataset) -> None:
    """Fail where an atlas cannot be one, or says of itself what is not so."""
    validate(found, ATLAS)
    for dim in ("layer", "head"):
        if dim not in found.dims or dim not in found.variables:
            raise InputError(f"It has no {dim}s. Expected what attnxr.build_corpus has made.")
        numbers = found[dim].values
        whole = numbers.dtype.kind in "iu" and found[dim].dims == (dim,) and len(numbers) > 0
        if not whole or len(np.unique(numbers)) < len(numbers) or numbers.min() < 0 or numbers.max() > _MOST_NUMBER:
            raise InputError(f"Its {dim}s are {numbers.tolist()!s:.80}; expected whole numbers, each once.")
    heads = found.sizes["layer"] * found.sizes["head"]
    if heads > MOST_HEADS:
        raise InputError(f"It has {heads:,} heads; at most {MOST_HEADS:,} are shown. Build it of fewer layers.")
    for name in ("model", "fingerprint"):
        if not isinstance(found.attrs.get(name), str):
            raise InputError(f"Its attrs have no text {name!r}. Expected what attnxr.build_corpus has made.")
    for kind in _LISTS:
        _together(found, f"{kind}_id", *(f"{kind}_{name}" for name in ("token", "text", "lift")))
    for kind in ("written", "distinctive"):
        _together(found, f"{kind}_id", f"{kind}_count", f"{kind}_share")
    for kind in ("key", "query"):
        _together(found, f"{kind}_id", f"{kind}_mass")
    _together(found, "distance_share", "offset_low", "offset_high")
    _together(found, "own_rank_count", "rank_low", "rank_high")
    _together(found, "change", "recovered", "n_replaced", "replacement")
    _together(found, "kl_change", "kl_recovered", "change")
    if "example_text_id" in found:
        _check_examples(found)


def _together(found: xr.Dataset, name: str, *others: str) -> None:
    missing = [other for other in others if other not in found]
    if name in found and missing:
        raise InputError(f"It has {name!r} and no {missing[0]!r}. Expected what attnxr.atlas returns, whole.")


def _check_examples(found: xr.Dataset) -> None:
    parts = ("activation", "query", "key", "attended", "weight", "interval")
    of_texts = ("id", "size", "token", "text", "token_id", "special")
    _together(
        found, "example_text_id", *(f"example_{name}" for name in parts), *(f"quoted_{name}" for name in of_texts)
    )
    ids, sizes = found["quoted_id"].values, found["quoted_size"].values
    wrong = len(np.unique(ids)) < len(ids) or (sizes < 1).any() or sizes.sum() != found.sizes["quoted_position"]
    if wrong:
        raise InputError("The texts of its examples do not add up to their tokens.")
    numbers = found["example_text_id"].values
    there = numbers >= 0
    if not np.isin(numbers[there], ids).all():
        raise InputError("It has examples of texts that it does not have.")
    order = np.argsort(ids)
    size = np.zeros(numbers.shape, np.int64)
    size[there] = sizes[order][np.searchsorted(ids[order], numbers[there])]
    for name in ("query", "key"):
        at = found[f"example_{name}"].values
        if ((at < 0) | (at >= size))[there].any():
            raise InputError(f"It has examples whose {name} stands beyond their text.")
