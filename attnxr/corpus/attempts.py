"""Tries at one unit: its texts through the model and the search, to the measures and to what is kept of each token.

Texts of one length make a batch, which goes through the model together. Batches are searched together, as many as the
plan lets: most of what a search takes besides its products is made once for each position of the vocabulary, and
serves all texts that have it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnxr.corpus.measure import Batch, Near, State
from attnxr.corpus.plan import SAMPLED, Plan, Texts
from attnxr.corpus.reading import kept
from attnxr.errors import AttnxrError
from attnxr.query.batches import Batches
from attnxr.query.request import Written
from attnxr.search.nearest import Nearest, Progress


@dataclass(frozen=True, eq=False)
class Done:
    """What came of a unit."""

    states: dict[str, State]
    results: dict[str, NDArray[Any]]
    failed: dict[int, str]
    not_shown: dict[tuple[str, int], str]


class _NotOfTexts(Exception):  # noqa: N818 - it carries one
    """An error that a measure raised while the model ran, or who is told of progress, and that is no fault of texts."""


@contextmanager
def _not_of_texts() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _NotOfTexts from error


class _Again(Exception):  # noqa: N818 - not an error
    """Something is known to fail that was not before: the unit has to be done anew without it."""


class Attempts:
    """Does a unit; where a text fails, once more without it, so that no measure has seen half of it."""

    def __init__(self, plan: Plan, number: int, model: Any, batches: Batches, progress: Progress | None):
        self._plan, self._number, self._model, self._batches = plan, number, model, batches
        self._progress, self._done = progress, 0
        self._texts = plan.texts(number)
        self._needs, self._measures = plan.needs, plan.measures
        self._failed: dict[int, str] = {}
        self._not_shown: dict[tuple[str, int], str] = {}

    def done(self) -> Done:
        """Try until all texts that are left go through; raises what is no fault of a text."""
        while True:
            try:
                return self._attempt()
            except _Again:
                continue
            except _NotOfTexts as error:
                raise error.__cause__ from None  # type: ignore[misc]

    def _attempt(self) -> Done:
        plan, self._done = self._plan, 0
        self._states = {measure.name: measure.begin(plan.facts) for measure in self._measures}
        self._show_sample()
        start, end = plan.span(self._number)
        arrays = kept(plan.options, plan.n_tokens, self._batches.head_size)
        self._results = {
            name: np.full((*array.shape[:2], end - start, *array.shape[3:]), array.fill, array.dtype)
            for name, array in arrays.items()
        }
        for group in self._grouped():
            batches = [_batch(self._texts, chosen) for chosen in group]
            written = []
            for batch, types in batches:
                with self._blaming([(batch, types)]):
                    written.append(self._through_model(batch, types))
            tokens = sum(batch.position.size for batch, _ in batches if self._is_measured(batch))
            if "neighbors" in self._needs:
                self._search(batches, written, tokens)
            if tokens:
                self._tell(tokens)
        return Done(self._states, self._results, self._failed, self._not_shown)

    @contextmanager
    def _blaming(self, batches: Sequence["_Typed"]) -> Iterator[None]:
        """Have the texts of some batches answer for an error; then all is to be done anew without those that fail."""
        try:
            yield
        except (_NotOfTexts, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            self._blame(batches, error)
            raise _Again from error

    def _is_measured(self, batch: Batch) -> bool:
        """Whether a batch begins in this unit; the text that began before it was measured there."""
        return bool(batch.position[0, 0] >= self._plan.span(self._number)[0])

    def _batched(self) -> Iterator[NDArray[np.intp]]:
        """Texts of one length that go through the model together, by their place among the unit's."""
        texts, plan = self._texts, self._plan
        start = plan.span(self._number)[0]
        going = ~np.isin(texts.number, list(self._failed))
        if plan.options.keep:
            for i in np.flatnonzero(going & (texts.start < start)):
                yield np.array([i])
        if plan.needs:
            for length in np.unique(texts.length):
                here = np.flatnonzero(going & (texts.start >= start) & (texts.length == length))
                size = plan.texts_together(int(length))
                for first in range(0, len(here), size):
                    yield here[first : first + size]

    def _grouped(self) -> Iterator[list[NDArray[np.intp]]]:
        """Batches that are searched together."""
        group: list[NDArray[np.intp]] = []
        tokens = 0
        for chosen in self._batched():
            more = int(self._texts.length[chosen].sum())
            if group and tokens + more > self._plan.tokens_together:
                yield group
                group, tokens = [], 0
            group.append(chosen)
            tokens += more
        if group:
            yield group

    def _through_model(self, batch: Batch, types: NDArray[np.int64] | None) -> Written:
        """Take one batch through the model, show its attention to the measures, and keep what heads wrote."""
        measured = self._is_measured(batch)
        looking = [measure for measure in self._measures if measured and "attention" in measure.needs]

        def see(layer: int, attention: torch.Tensor) -> None:
            for measure in looking:
                with _not_of_texts():
                    measure.see_attention(self._states[measure.name], batch, layer, attention)

        vectors = self._batches.run(
            batch.token_id, types, see if looking else None, vectors=bool(self._needs & {"neighbors", "vectors"})
        )
        # Of a text that is measured elsewhere, only what is kept here is looked for.
        places = slice(None) if measured else self._inside(batch)
        vectors = vectors[:, :, :, places] if vectors.size else vectors
        if "head_encoding" in self._results:
            self._keep(batch.position[:, places], {"head_encoding": vectors})
        return Written(vectors, batch.token_id, types, places)

    def _search(self, batches: Sequence["_Typed"], written: Sequence[Written], tokens: int) -> None:
        """Search what heads wrote in some batches, of which so many tokens count as work."""
        with self._blaming(batches):
            found = self._batches.nearest(written, self._of_search(tokens))
        for (batch, _), each, (near, in_sequence) in zip(batches, written, found, strict=True):
            self._take(batch, each.places, near, in_sequence)

    def _take(self, batch: Batch, places: slice, near: Nearest, in_sequence: NDArray[np.bool_]) -> None:
        """Show a batch's neighbours to the measures, and keep what of them is to be kept."""
        found = Near(near.ids, near.distance, in_sequence, near.own_rank, near.own_distance)
        for measure in self._measures:
            if self._is_measured(batch) and "neighbors" in measure.needs:
                measure.see_neighbors(self._states[measure.name], batch, found)
        self._keep(batch.position[:, places], vars(found))

    def _inside(self, batch: Batch) -> slice:
        """Which tokens of one text are in the unit's stretch."""
        start, end = self._plan.span(self._number)
        first, n = int(batch.position[0, 0]), batch.position.shape[1]
        return slice(max(0, start - first), min(n, end - first))

    def _keep(self, position: NDArray[np.int64], found: dict[str, NDArray[Any]]) -> None:
        """Put what was found of some positions where it belongs in the results, as far as it is to be kept."""
        options = self._plan.options
        start, end = self._plan.span(self._number)
        layers = [options.layers.index(layer) for layer in options.keep_layers]
        heads = [options.heads.index(head) for head in options.keep_heads]
        here = (position >= start) & (position < end)
        for name in self._results.keys() & found.keys():
            kept_here = found[name][np.ix_(layers, heads)]
            self._results[name][:, :, position[here] - start] = kept_here[:, :, here]

    def _show_sample(self) -> None:
        """Show the texts of the sample that begin here to the measures that want them whole."""
        texts, start = self._texts, self._plan.span(self._number)[0]
        whole = [measure for measure in self._measures if "sample" in measure.needs]
        chosen = np.isin(texts.number, self._plan.sample) & ~np.isin(texts.number, list(self._failed))
        for i in np.flatnonzero(chosen & (texts.start >= start)):
            text = int(texts.number[i])
            batch, types = _batch(texts, np.array([i]))
            with self._blaming([(batch, types)]):
                encodings = self._batches.encodings(batch.token_id[0], None if types is None else types[0])
            for measure in whole:
                if (measure.name, text) in self._not_shown:
                    continue
                try:
                    measure.see_text(self._states[measure.name], text, self._model, encodings)
                except AttnxrError as error:
                    self._not_shown[measure.name, text] = str(error)
                    raise _Again from error
            self._tell(SAMPLED * batch.position.size)

    def _tell(self, done: int) -> None:
        """Say that so much more of the unit's work is done; an attempt that begins anew begins at nothing."""
        self._done += done
        self._say(self._done)

    def _of_search(self, tokens: int) -> Progress:
        """Says how far the search of so many tokens is."""

        def told(fraction: float) -> None:
            if tokens and fraction < 1:
                with _not_of_texts():
                    self._say(self._done + fraction * tokens)

        return told

    def _say(self, done: float) -> None:
        work = self._plan.work(self._number)
        if self._progress is not None and done < work:
            self._progress(done / work)

    def _blame(self, batches: Sequence["_Typed"], error: Exception) -> None:
        """Note which texts of some batches fail; raise the error where none does, or the fault is not the texts'."""
        culprits: dict[int, Exception] = {}
        for batch, types in batches:
            for i, text in enumerate(batch.text.tolist()):
                why = self._failure(batch.token_id[[i]], None if types is None else types[[i]])
                if why is not None:
                    culprits[text] = why
        if not culprits:
            raise error
        if not all(isinstance(why, AttnxrError) for why in culprits.values()):
            middle = self._batches.names.size // 2
            broken = self._failure(np.array([[middle, middle]]), None)
            if broken is not None:
                raise broken
        self._failed |= {text: _said(why) for text, why in culprits.items()}

    def _failure(self, token_id: NDArray[np.int64], types: NDArray[np.int64] | None) -> Exception | None:
        try:
            vectors = self._batches.run(token_id, types)
            if "neighbors" in self._needs:
                self._batches.nearest([Written(vectors, token_id, types, slice(None))])
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            return error
        return None


_Typed = tuple[Batch, NDArray[np.int64] | None]
"""A batch, and its token types if it has any."""


def _batch(texts: Texts, chosen: NDArray[np.intp]) -> _Typed:
    """Some texts of one length, and their token types if they have any."""
    position = texts.start[chosen][:, None] + np.arange(texts.length[chosen[0]])
    at_hand = position - texts.first
    types = None if texts.types is None else texts.types[at_hand]
    if types is not None and (types < 0).any():
        types = None
    batch = Batch(texts.number[chosen], position, texts.token_id[at_hand], texts.is_special[at_hand])
    return batch, types


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, AttnxrError) else f"{type(error).__name__}: {error}"
