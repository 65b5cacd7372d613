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
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from attnxr.corpus.attempts import Attempts
from attnxr.corpus.measure import State
from attnxr.corpus.plan import Plan
from attnxr.corpus.reading import kept
from attnxr.corpus.storage import Storage, at
from attnxr.corpus.written import Files
from attnxr.errors import InputError
from attnxr.search.nearest import Progress

Marker = dict[str, Any]
MARKERS, STATES = "attnxr/units", "attnxr/states"


def run(plan: Plan | str, number: int, model: Any, progress: Progress | None = None) -> Marker:
    """Do one unit, unless it is done; any number of processes may do so, one unit at the same time too.

    Parameters
    ----------
    plan : Plan or str
        Or the store in which it is.
    number : int
    model : attnxr.Model
        That of the plan.
    progress : callable, optional
        Told the fraction of the unit that is done, below 1: after each batch of texts, now and then while neighbours
        are searched, and after each text of the sample. What it raises ends the call.

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
        done = Attempts(plan, number, model, batches, progress).done()
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
