"""One unit of a corpus, done wholly: its texts go through the model, and what is made of them into files of its own.

A unit is that stretch of positions of which results are kept, and the texts that begin in it, which are measured. A
text that begins before it and ends in it goes through the model once more, for the results alone: so a file of results
belongs to one unit, whole, and no two processes ever write to one file. The marker of a unit is put after all else: a
unit without one is done again, and comes out the same.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from attnxr.corpus.measure import Batch, Near, State
from attnxr.corpus.plan import Plan, Texts
from attnxr.corpus.reading import kept
from attnxr.corpus.storage import Storage, at
from attnxr.corpus.written import Files
from attnxr.errors import AttnxrError, InputError
from attnxr.query.batches import Batches

Marker = dict[str, Any]
MARKERS, STATES = "attnxr/units", "attnxr/states"


def run(plan: Plan | str, number: int, model: Any) -> Marker:
    """Do one unit, unless it is done; any number of processes may do so, one unit at the same time too.

    Parameters
    ----------
    plan : Plan or str
        Or the store in which it is.
    number : int
    model : attnxr.Model
        That of the plan.

    Returns
    -------
    dict
        The unit's marker: ``plan`` (its identity), ``files`` (their SHA-256 by name), ``failed`` (why a text failed in
        the model, by its number) and ``not_shown`` (why a measure could not take in a text of the sample, by the
        measure and the number).

    Raises
    ------
    InputError
        If the store has no plan, or the model is another one.
    OSError
        If files cannot be written: the unit is then not done.
    """
    plan = Plan.read(plan) if isinstance(plan, str) else plan
    storage = at(plan.store)
    marker = marker_of(storage, plan, number)
    if marker is not None:
        return marker
    check_model(plan, model)
    with threads_limited(plan.threads):
        batches = model.batches(**plan.options.of_batches)
        done = _Attempts(plan, number, model, batches).done()
        batches.check()
    files = Files(storage)
    for name, state in done.states.items():
        files.put(state_file(name, number), _packed(state))
    for name, array in kept(plan.options, plan.n_tokens, batches.head_size).items():
        place = [0, 0, number, *(0 for _ in array.shape[3:])]
        files.put(*array.encoded(place, done.results.pop(name)))
    marker = {
        "plan": plan.identity,
        "files": files.digests,
        "failed": {str(text): why for text, why in sorted(done.failed.items())},
        "not_shown": {f"{name} {text}": why for (name, text), why in sorted(done.not_shown.items())},
    }
    storage.put_whole(_marker_file(number), json.dumps(marker, indent=1, sort_keys=True).encode())
    return marker


def waiting(store: str | Storage, plan: Plan | None = None) -> list[int]:
    """Numbers of the units that have no valid marker, ascending.

    Parameters
    ----------
    store : str or Storage
    plan : Plan, optional
        By default the one that is in the store.
    """
    storage = at(store) if isinstance(store, str) else store
    plan = Plan.read(storage) if plan is None else plan
    there = set(storage.names(MARKERS))
    return [
        number for number in plan.units if _marker_file(number) not in there or marker_of(storage, plan, number) is None
    ]


def marker_of(storage: Storage, plan: Plan, number: int) -> Marker | None:
    """A unit's marker; None where there is none of this plan."""
    try:
        found = json.loads(storage.get(_marker_file(number)))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("plan") == plan.identity else None


def state_file(measure: str, number: int) -> str:
    """The file in which a measure's state after a unit is."""
    return f"{STATES}/{number:08d}-{measure}.npz"


def read_state(storage: Storage, measure: str, number: int, digests: dict[str, str]) -> State:
    """A measure's state after a unit, of whose files the hashes are given.

    Raises
    ------
    InputError
        If the file is not what was written.
    """
    name = state_file(measure, number)
    data = storage.get(name)
    if hashlib.sha256(data).hexdigest() != digests.get(name):
        raise InputError(
            f"The file {name!r} of the corpus {storage.url!r} is not what was written. Remove "
            f"{_marker_file(number)!r}, and build the corpus again: this unit alone is done anew."
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        return dict(found)


@contextmanager
def threads_limited(count: int) -> Iterator[None]:
    """Let torch, the search and BLAS have so many threads meanwhile: sums depend on how they are shared out."""
    before = torch.get_num_threads()
    try:
        with threadpool_limits(count):
            torch.set_num_threads(count)  # of which the search takes as many for itself
            yield
    finally:
        torch.set_num_threads(before)


def check_model(plan: Plan, model: Any) -> None:
    """Fail where a model is not that of the plan, or computes in another way.

    Raises
    ------
    InputError
    """
    planned = plan.settings["model"]
    here = {
        "fingerprint": model.fingerprint,
        "dtype": str(model.hf_model.dtype).removeprefix("torch."),
        "device": model.hf_model.device.type,
    }
    for name, value in here.items():
        if planned[name] != value:
            raise InputError(
                f"The corpus at {plan.store!r} is of the model {planned['name']!r} with the {name} {planned[name]!r}; "
                f"the model {model.name!r} that was given has {value!r}. Expected the model it was begun with."
            )


def _marker_file(number: int) -> str:
    return f"{MARKERS}/{number:08d}.json"


def _packed(state: State) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **state)  # type: ignore[arg-type]  # NumPy's keyword allow_pickle
    return out.getvalue()


@dataclass(frozen=True, eq=False)
class _Done:
    """What came of a unit."""

    states: dict[str, State]
    results: dict[str, NDArray[Any]]
    failed: dict[int, str]
    not_shown: dict[tuple[str, int], str]


class _InMeasure(Exception):  # noqa: N818 - it carries one
    """An error that a measure raised while the model ran, and that is not the text's."""


class _Again(Exception):  # noqa: N818 - not an error
    """Something is known to fail that was not before: the unit has to be done anew without it."""


class _Attempts:
    """Does a unit; where a text fails, once more without it, so that no measure has seen half of it."""

    def __init__(self, plan: Plan, number: int, model: Any, batches: Batches):
        self._plan, self._number, self._model, self._batches = plan, number, model, batches
        self._texts = plan.texts(number)
        self._needs, self._measures = plan.needs, plan.measures
        self._failed: dict[int, str] = {}
        self._not_shown: dict[tuple[str, int], str] = {}

    def done(self) -> _Done:
        while True:
            try:
                return self._attempt()
            except _Again:
                continue
            except _InMeasure as error:
                raise error.__cause__ from None  # type: ignore[misc]

    def _attempt(self) -> _Done:
        plan = self._plan
        states = {measure.name: measure.begin(plan.facts) for measure in self._measures}
        self._show_sample(states)
        start, end = plan.span(self._number)
        arrays = kept(plan.options, plan.n_tokens, self._batches.head_size)
        results = {
            name: np.full((*array.shape[:2], end - start, *array.shape[3:]), array.fill, array.dtype)
            for name, array in arrays.items()
        }
        for chosen in self._batched():
            batch, types = _batch(self._texts, chosen)
            # The text that began before this unit was measured there.
            measured = batch.position[0, 0] >= start
            try:
                self._one(batch, types, states if measured else {}, results)
            except (_InMeasure, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                self._blame(batch, types, error)
                raise _Again from error
        return _Done(states, results, self._failed, self._not_shown)

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

    def _one(
        self,
        batch: Batch,
        types: NDArray[np.int64] | None,
        states: dict[str, State],
        results: dict[str, NDArray[Any]],
    ) -> None:
        """Take one batch through the model and the search, and show it to the measures."""
        measures = [measure for measure in self._measures if measure.name in states]
        looking = [measure for measure in measures if "attention" in measure.needs]
        comparing = [measure for measure in measures if "neighbors" in measure.needs]

        def see(layer: int, attention: torch.Tensor) -> None:
            for measure in looking:
                try:
                    measure.see_attention(states[measure.name], batch, layer, attention)
                except Exception as error:
                    raise _InMeasure from error

        wanted = set(results)
        searched = bool(comparing) or bool(wanted - {"head_encoding"})
        vectors = self._batches.run(
            batch.token_id, types, see if looking else None, vectors=searched or "head_encoding" in wanted
        )
        # Of a text that is measured elsewhere, only what is kept here is looked for.
        places = slice(None) if states else self._inside(batch)
        found: dict[str, NDArray[Any]] = {}
        if "head_encoding" in wanted:
            found["head_encoding"] = vectors[:, :, :, places]
        if searched:
            near, in_sequence = self._batches.nearest(vectors, batch.token_id, types, places)
            of_texts = {
                "neighbor_id": near.ids,
                "distance": near.distance,
                "in_sequence": in_sequence,
                "own_rank": near.own_rank,
                "own_distance": near.own_distance,
            }
            texts = len(batch.text)
            found |= {
                name: array.reshape(*array.shape[:2], texts, -1, *array.shape[3:]) for name, array in of_texts.items()
            }
        del vectors
        if comparing:
            near_texts = Near(**{name: found[name] for name in Near.__annotations__})
            for measure in comparing:
                try:
                    measure.see_neighbors(states[measure.name], batch, near_texts)
                except Exception as error:
                    raise _InMeasure from error
        self._keep(batch.position[:, places], found, results)

    def _inside(self, batch: Batch) -> slice:
        """Which tokens of one text are in the unit's stretch."""
        start, end = self._plan.span(self._number)
        first, n = int(batch.position[0, 0]), batch.position.shape[1]
        return slice(max(0, start - first), min(n, end - first))

    def _keep(
        self, position: NDArray[np.int64], found: dict[str, NDArray[Any]], results: dict[str, NDArray[Any]]
    ) -> None:
        options = self._plan.options
        start, end = self._plan.span(self._number)
        layers = [options.layers.index(layer) for layer in options.keep_layers]
        heads = [options.heads.index(head) for head in options.keep_heads]
        here = (position >= start) & (position < end)
        for name, array in results.items():
            kept_here = found[name][np.ix_(layers, heads)]
            array[:, :, position[here] - start] = kept_here[:, :, here]

    def _show_sample(self, states: dict[str, State]) -> None:
        """Show the texts of the sample that begin here to the measures that want them whole."""
        texts, start = self._texts, self._plan.span(self._number)[0]
        whole = [measure for measure in self._measures if "sample" in measure.needs]
        chosen = np.isin(texts.number, self._plan.sample) & ~np.isin(texts.number, list(self._failed))
        for i in np.flatnonzero(chosen & (texts.start >= start)):
            text = int(texts.number[i])
            batch, types = _batch(texts, np.array([i]))
            try:
                encodings = self._batches.encodings(batch.token_id[0], None if types is None else types[0])
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                self._blame(batch, types, error)
                raise _Again from error
            for measure in whole:
                if (measure.name, text) in self._not_shown:
                    continue
                try:
                    measure.see_text(states[measure.name], text, self._model, encodings)
                except AttnxrError as error:
                    self._not_shown[measure.name, text] = str(error)
                    raise _Again from error

    def _blame(self, batch: Batch, types: NDArray[np.int64] | None, error: Exception) -> None:
        """Note which texts of a batch fail; raise the error where none does, or where the fault is not the texts'."""
        culprits: dict[int, Exception] = {}
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
                self._batches.nearest(vectors, token_id, types)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            return error
        return None


def _batch(texts: Texts, chosen: NDArray[np.intp]) -> tuple[Batch, NDArray[np.int64] | None]:
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
