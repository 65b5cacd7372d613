"""A pursuit of five words beside one search: all layers, heads and positions of a sentence."""

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

import attnxr
from benchmarks.parts import shapes
from benchmarks.parts.measure import interleaved, say
from benchmarks.parts.report import Report, Table, in_seconds, times

SENTENCE = "Time flies like an arrow. Fruit flies like a banana."
STEPS = 5
LIMIT = 8  # times one search
_JUDGED = 3  # positions of which every pursuit is compared with the slow one


def run(quick: bool) -> Report:
    """Measure `attnxr.decompose` against `Model.neighbors`, both with their defaults.

    Raises
    ------
    RuntimeError
        If a pursuit is not that of float64.
    """
    shape = shapes.SMALL_ROBERTA
    model = attnxr.Model(shapes.roberta(shape)) if quick else attnxr.load_model("minilm")
    encodings = shapes.encode(model, shape) if quick else model.encode(SENTENCE)
    say("judging")
    _must_be_right(model, encodings)
    sizes = "layer", "head", "position", "feature"
    what = f"{' × '.join(f'{encodings.sizes[dim]} {dim}s' for dim in sizes)}, V = {model.vocab_size:,}"
    table = Table(f"A pursuit of {STEPS} words: {what}", ("vocabulary", "one search", "pursuit", "÷ search"))
    verdict: dict[str, float] = {}
    for name, vocabulary in (("of layer 0", "input"), ("of each layer", "same")):
        say(name)
        options: Any = {"vocab_layer": vocabulary}
        took = interleaved(
            {
                "search": partial(model.neighbors, encodings, **options),
                "pursuit": partial(attnxr.decompose, model, encodings, n=STEPS, **options),
            },
            2 if quick else 11,
        )
        verdict[name] = took["pursuit"] / took["search"]
        table.rows.append((name, in_seconds(took["search"]), in_seconds(took["pursuit"]), times(verdict[name])))
    report = Report([table])
    report.notes.append("One search: Model.neighbors, k = 15 by cosine, after one that is not counted.")
    report.target("decompose", verdict, LIMIT, "× one search")
    return report


def _must_be_right(model: attnxr.Model, encodings: xr.Dataset) -> None:
    """Compare some pursuits with those of the slow one."""
    from tests.support import oracles

    oracle = oracles.Bert(model.hf_model, model.vocab_size)
    places = oracle.position_ids(encodings["token_id"].values)
    found = attnxr.decompose(model, encodings, n=STEPS)
    for position in range(_JUDGED):
        vocabulary = oracle.vocabulary("value", int(places[position]))
        for layer, head in np.ndindex(encodings.sizes["layer"], encodings.sizes["head"]):
            here = {"layer": layer, "head": head, "position": position}
            one, z = found.isel(here), encodings["head_encoding"].isel(here).values
            try:
                oracles.check_pursuit(
                    one["entry_id"].values, one["weight"].values, one["explained"].values, z, vocabulary[head]
                )
            except AssertionError as error:
                raise RuntimeError(f"The pursuit at {here} is wrong: {error}") from error
