"""The plan of a corpus: its texts as tokens, cut into units, and all that decides what numbers come out."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from attnxr.corpus.measure import Facts, Measure
from attnxr.corpus.measures import MEASURES
from attnxr.corpus.storage import Storage, at
from attnxr.errors import InputError

PLAN = "attnxr/plan.json"
FINISHED = "attnxr/finished.json"
LOCK = "attnxr/lock"
SAMPLED = 40
"""How many tokens go through the model and the search while one of the sample is tested and replaced, about."""


@dataclass(frozen=True)
class Options:
    """How a corpus is to be made: see `attnxr.build_corpus`; layers and heads are their numbers, ascending."""

    measures: tuple[str, ...]
    keep: tuple[str, ...]
    keep_layers: tuple[int, ...]
    keep_heads: tuple[int, ...]
    k: int
    metric: str
    vocab_layer: str | int
    positional: bool
    causal: bool | None
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    sample: int
    seed: int
    truncate: bool
    unit_tokens: int
    batch_bytes: int
    threads: int

    @property
    def of_batches(self) -> dict[str, Any]:
        """Those that `Model.batches` takes."""
        names = ("layers", "heads", "causal", "k", "metric", "vocab_layer", "positional")
        return {name: getattr(self, name) for name in names}

    def as_json(self) -> dict[str, Any]:
        """The same as JSON holds it."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def of_json(cls, given: dict[str, Any]) -> "Options":
        """Options that `as_json` made."""
        parts: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        return cls(**parts)


@dataclass(frozen=True, eq=False)
class Texts:
    """Some texts of a corpus that lie side by side.

    Attributes
    ----------
    number, start, length : int64 array (texts,)
        Which texts, where in the corpus each begins, and how many tokens it has; none has 0.
    first : int
        The place in the corpus of the first of the tokens that follow.
    token_id : int64 array (tokens,)
    is_special : bool array (tokens,)
    types : int64 array (tokens,), optional
        -1 in a text that has none.
    """

    number: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    first: int
    token_id: NDArray[np.int64]
    is_special: NDArray[np.bool_]
    types: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Plan:
    """What one corpus is made of, and how.

    Attributes
    ----------
    store : str
        Where it lies.
    identity : str
        Hash of all that follows.
    settings : dict
        All that decides what numbers come out, ready for JSON: ``model``, ``options``, ``texts``, ``versions``.
    n_texts, n_tokens : int
    first_text, first_position : tuple of int, length n_units + 1
        The first text that begins in each unit or after it, and where that text begins.
    sample : tuple of int
        Texts that are shown whole to the measures that take long.
    typed : bool
        Whether the model is given token types.
    errors : dict of str to str
        Why texts could not be read, by their numbers.
    files : dict of str to str
        SHA-256 of the files that were written before the plan.
    """

    store: str
    identity: str
    settings: dict[str, Any]
    n_texts: int
    n_tokens: int
    first_text: tuple[int, ...]
    first_position: tuple[int, ...]
    sample: tuple[int, ...]
    typed: bool
    errors: dict[str, str]
    files: dict[str, str]

    @classmethod
    def read(cls, store: str | Storage) -> "Plan":
        """Read it from a store.

        Raises
        ------
        InputError
            If there is none, or it is damaged.
        """
        storage = at(store) if isinstance(store, str) else store
        try:
            data = storage.get(PLAN)
        except FileNotFoundError:
            raise InputError(
                f"There is no corpus at {storage.url!r}, or its texts were not all read when its builder ended. "
                "Expected what attnxr.build_corpus makes: call it, again if need be."
            ) from None
        try:
            parts = json.loads(data)
            for name in ("first_text", "first_position", "sample"):
                parts[name] = tuple(parts[name])
            return cls(storage.url, hashlib.sha256(data).hexdigest(), **parts)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"The plan of the corpus at {storage.url!r}, {PLAN}, is damaged ({error}). Without it nothing tells "
                "what the files are: remove the store, and build the corpus again."
            ) from error

    @property
    def units(self) -> range:
        """Numbers of the units."""
        return range(len(self.first_text) - 1)

    @property
    def threads(self) -> int:
        """How many threads torch and BLAS have while a unit runs."""
        return self.options.threads

    @cached_property
    def options(self) -> Options:
        """How it is made."""
        return Options.of_json(self.settings["options"])

    @cached_property
    def measures(self) -> list[Measure]:
        """What is measured."""
        return [MEASURES[name]() for name in self.options.measures]

    @property
    def needs(self) -> frozenset[str]:
        """What has to be shown or kept: ``attention``, ``neighbors``, ``sample``, ``vectors``."""
        return needs(self.options)

    @property
    def facts(self) -> Facts:
        """What measures are told."""
        of_model, options = self.settings["model"], self.options
        return Facts(
            layers=options.layers,
            n_heads=len(options.heads),
            vocab_size=of_model["vocab_size"],
            k=options.k if "neighbors" in self.needs else 0,
            n_texts=self.n_texts,
            n_tokens=self.n_tokens,
            seed=options.seed,
            causal=of_model["causal"],
        )

    def span(self, unit: int) -> tuple[int, int]:
        """From which position up to which one a unit keeps results."""
        size = self.options.unit_tokens
        return unit * size, min((unit + 1) * size, self.n_tokens)

    def tokens_of(self, unit: int) -> int:
        """How many tokens the texts have that begin in a unit."""
        return self.first_position[unit + 1] - self.first_position[unit]

    def work(self, unit: int) -> int:
        """How much a unit is of all there is to do: its tokens, and those of the sample `SAMPLED` times more."""
        return self.tokens_of(unit) + SAMPLED * int(self._sampled[unit])

    @cached_property
    def _sampled(self) -> NDArray[np.int64]:
        """Tokens of the sample in each unit."""
        root: Any = zarr.open_group(at(self.store).zarr(), mode="r", path="tokens", use_consolidated=False)
        found = np.zeros(len(self.units), np.int64)
        for text in self.sample:
            found[np.searchsorted(self.first_text, text, side="right") - 1] += root["row_size"][text]
        return found

    def texts(self, unit: int) -> Texts:
        """The texts that begin in a unit, and before them the one that ends there or goes through it, if any does."""
        first, last = self.first_text[unit], self.first_text[unit + 1]
        start, end = self.first_position[unit], self.first_position[unit + 1]
        before = self.span(unit)[0] < start
        root: Any = zarr.open_group(at(self.store).zarr(), mode="r", path="tokens", use_consolidated=False)
        length = np.asarray(root["row_size"][first - before : last])
        if before:
            start -= int(length[0])
        there = np.flatnonzero(length)
        starts = start + np.cumsum(length) - length
        types = np.asarray(root["token_type_id"][start:end], np.int64) if self.typed else None
        return Texts(
            number=(there + first - before).astype(np.int64),
            start=starts[there],
            length=length[there],
            first=start,
            token_id=np.asarray(root["token_id"][start:end], np.int64),
            is_special=np.asarray(root["is_special"][start:end]),
            types=types,
        )

    def texts_together(self, length: int) -> int:
        """How many texts of a length go through the model together."""
        return max(1, self.options.batch_bytes // self._bytes_of_text(length))

    @property
    def tokens_together(self) -> int:
        """How many tokens, of texts of any length, are searched together; 0 where none is."""
        return self.options.batch_bytes // self._bytes_of_token if "neighbors" in self.needs else 0

    def _bytes_of_text(self, n: int) -> int:
        """What a text takes while it goes through the model: attention of one layer, and all that heads write."""
        of_model = self.settings["model"]
        # Scores, weights, and one copy; half-precision models make them in float32.
        total = 3 * 4 * of_model["n_heads"] * n * n
        # The stream, and the wider vectors inside of a block.
        total += 4 * 16 * of_model["n_heads"] * of_model["head_size"] * n
        return total + n * self._bytes_of_token

    @property
    def _bytes_of_token(self) -> int:
        """What heads write of a token, twice, and what is found of that."""
        options, needs = self.options, self.needs
        of_vector = 0
        if needs & {"neighbors", "vectors"}:
            of_vector += 2 * 4 * self.settings["model"]["head_size"]
        if "neighbors" in needs:
            of_vector += 18 * options.k + 16
        return of_vector * len(options.layers) * len(options.heads)


def needs(options: Options) -> frozenset[str]:
    """What options need: ``attention``, ``neighbors``, ``sample``, ``vectors``."""
    found = set().union(*(MEASURES[name]().needs for name in options.measures))
    if set(options.keep) - {"head_encoding"}:
        found.add("neighbors")
    if "head_encoding" in options.keep:
        found.add("vectors")
    return frozenset(found)


def differences(one: Any, other: Any, name: str = "") -> Iterator[str]:
    """Say where two settings differ: the name, what the one has and what the other."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{name}.{key}".lstrip("."))
    elif one != other:
        yield f"{name} is {one!r:.80} there and {other!r:.80} here"
