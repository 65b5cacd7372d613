"""The end of a corpus: the states of its units put together, in the order of the plan, and the atlas they make."""

import json
from typing import Any

import numpy as np
import xarray as xr

from attnxr import schema
from attnxr.corpus import arrays
from attnxr.corpus.measure import Measure
from attnxr.corpus.plan import FINISHED, Plan
from attnxr.corpus.reading import line
from attnxr.corpus.storage import Storage, at
from attnxr.corpus.unit import Marker, marker_of, read_state
from attnxr.corpus.written import Files
from attnxr.errors import InputError


def finish(store: str | Storage) -> None:
    """Write ``/atlas`` and which texts failed, and consolidate the metadata; nothing is done where that is done.

    Parameters
    ----------
    store : str or Storage
        Of which all units are done.

    Raises
    ------
    InputError
        If some are not, or a file is not what was written.
    """
    storage = at(store) if isinstance(store, str) else store
    plan = Plan.read(storage)
    if is_finished(storage, plan):
        return
    markers = [_marker(storage, plan, number) for number in plan.units]
    files = Files(storage)
    if plan.measures:
        atlas = _atlas(storage, plan, markers)
        for name, data in arrays.files_of(atlas, "atlas"):
            files.put(name, data)
    errors = line("error", plan.n_texts)
    for i, part in enumerate(_errors(plan, markers, errors.file[0])):
        files.put(*errors.encoded([i], part))
    told = [name for name in (*plan.files, *files.digests) if name.endswith("zarr.json")]
    files.put("zarr.json", arrays.consolidated({name: storage.get(name) for name in sorted(told)}))
    finished = {"plan": plan.identity, "files": files.digests}
    storage.put_whole(FINISHED, json.dumps(finished, indent=1, sort_keys=True).encode())


def is_finished(storage: Storage, plan: Plan) -> bool:
    """Whether the corpus of a plan is whole."""
    return finished_files(storage, plan) is not None


def finished_files(storage: Storage, plan: Plan) -> dict[str, str] | None:
    """SHA-256 of the files that were written at the end, by name; None where the end was not reached."""
    try:
        found = json.loads(storage.get(FINISHED))
    except (FileNotFoundError, ValueError):
        return None
    return found["files"] if found.get("plan") == plan.identity else None


def failed(plan: Plan, markers: list[Marker]) -> dict[int, str]:
    """Why there is nothing of a text, by its number: it could not be read, or failed in the model."""
    found = {int(text): why for text, why in plan.errors.items()}
    for marker in markers:
        found |= {int(text): why for text, why in marker["failed"].items()}
    return found


def _marker(storage: Storage, plan: Plan, number: int) -> Marker:
    marker = marker_of(storage, plan, number)
    if marker is None:
        raise InputError(
            f"Unit {number} of the corpus at {storage.url!r} is not done yet, so that it cannot be finished. Call "
            "attnxr.build_corpus again: it goes on where it was."
        )
    return marker


def _errors(plan: Plan, markers: list[Marker], size: int) -> Any:
    found = failed(plan, markers)
    for start in range(0, plan.n_texts, size):
        part = np.full(min(size, plan.n_texts - start), "", object)
        for i in range(len(part)):
            part[i] = found.get(start + i, "")
        yield part


def _atlas(storage: Storage, plan: Plan, markers: list[Marker]) -> xr.Dataset:
    parts = [_measured(storage, plan, measure, markers) for measure in plan.measures]
    options, of_model = plan.options, plan.settings["model"]
    atlas = xr.merge(parts, join="exact", compat="no_conflicts", combine_attrs="drop_conflicts")
    atlas = atlas.assign_coords(layer=list(options.layers), head=list(options.heads))
    atlas.attrs |= {
        "model": of_model["name"],
        "fingerprint": of_model["fingerprint"],
        "causal": int(of_model["causal"]),
        "metric": options.metric,
        "vocab_layer": options.vocab_layer,
        "positional": int(options.positional),
        "vocab_size": of_model["vocab_size"],
        "k": options.k,
        "n_texts": plan.n_texts,
        "n_tokens": plan.n_tokens,
        "n_sample": len(plan.sample),
        "seed": options.seed,
    }
    return schema.describe(atlas, {})


def _measured(storage: Storage, plan: Plan, measure: Measure, markers: list[Marker]) -> xr.Dataset:
    """What a measure makes of all units, their states merged in order: two are held at a time."""
    state = measure.begin(plan.facts)
    for number, marker in enumerate(markers):
        state = measure.merge(state, read_state(storage, measure.name, number, marker["files"]))
    return measure.finish(state, plan.facts)
