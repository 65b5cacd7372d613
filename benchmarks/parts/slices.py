"""One slice of the lazy distances: one layer, head and position, all vocabulary entries."""

from functools import partial
from itertools import product
from statistics import median

import numpy as np
import xarray as xr

import attnxr
from attnxr.search.nearest import Metric
from benchmarks.parts import answers, shapes
from benchmarks.parts.measure import say, seconds
from benchmarks.parts.report import Report, Table, in_seconds
from benchmarks.parts.shapes import METRICS

Place = tuple[int, int, int]
"""A layer, a head and a position."""

LIMIT = 0.010  # seconds


def run(quick: bool) -> Report:
    """Measure slices by every metric, the first of a Dataset and later ones.

    Raises
    ------
    RuntimeError
        If a slice is not what brute force in float64 says.
    """
    shape = shapes.SMALL_ROBERTA if quick else shapes.ROBERTA_BASE
    repeat = 2 if quick else 11
    hf_model = shapes.roberta(shape)
    model = attnxr.Model(hf_model)
    encodings = shapes.encode(model, shape)
    everywhere = list(product(range(shape.layers), range(shape.heads), range(shape.tokens)))
    chosen = [everywhere[i] for i in np.random.default_rng(0).permutation(len(everywhere))[: 12 if quick else 60]]
    words = answers.roberta_vocabulary(hf_model, encodings.token_id.values)(chosen[0][2])

    table = Table(
        f"One slice of the distances, {shape.vocabulary:,} numbers: {shape}",
        (
            "metric",
            "distances()",
            "at a new position",
            "first",
            "later: median",
            "longest",
            "dask",
            ".sel of one token",
        ),
    )
    verdict: dict[str, float] = {}
    for metric in METRICS:
        say(metric)
        strange = partial(_ask, attnxr.Model(hf_model), encodings, metric)
        _slice(strange(), (0, 0, 0))  # makes what belongs to no position
        new = median(seconds(partial(_slice, strange(), (0, 0, position))) for position in range(1, 1 + repeat // 2))
        ask = partial(_ask, model, encodings, metric)
        for position in range(shape.tokens):
            _slice(ask(), (0, 0, position))
        _must_be_right(_slice(ask(), chosen[0]), metric, encodings, words, chosen[0])  # and compiles
        made = median(seconds(ask) for _ in range(repeat))
        first = median(seconds(partial(_slice, ask(), at)) for at in chosen[:repeat])
        kept = ask()
        later = [seconds(partial(_slice, kept, at)) for at in chosen]
        chunked = kept.chunk(layer=1, head=1, position=1)
        dask = [seconds(partial(_slice, chunked, at)) for at in chosen]
        token = str(kept.vocab_token.values[shape.vocabulary // 2])
        one = [seconds(partial(_number, kept, at, token)) for at in chosen]
        verdict |= {f"{metric}, first": 1e3 * first, f"{metric}, later": 1e3 * median(later)}
        table.rows.append(
            (metric, *map(in_seconds, (made, new, first, median(later), max(later), median(dask), median(one))))
        )
    report = Report([table])
    report.notes.append(
        "At a new position: the first slice that the model was ever asked for at it, for which all of the vocabulary's "
        "embeddings are read once. First: of a Dataset that distances() has just made."
    )
    report.target("P3", verdict, 1e3 * LIMIT, "ms")
    return report


def _ask(model: attnxr.Model, encodings: xr.Dataset, metric: Metric) -> xr.DataArray:
    return model.distances(encodings, metric=metric).distance


def _slice(array: xr.DataArray, at: Place) -> np.ndarray:
    return array.isel(layer=at[0], head=at[1], position=at[2]).values


def _number(array: xr.DataArray, at: Place, token: str) -> float:
    return array.isel(layer=at[0], head=at[1], position=at[2]).sel(vocab_token=token).item()


def _must_be_right(found: np.ndarray, metric: str, encodings: xr.Dataset, words: np.ndarray, at: Place) -> None:
    """Compare one slice with brute force."""
    from tests.support import oracles

    layer, head, position = at
    query = encodings["head_encoding"].values[layer, head, position][None]
    true, tolerance = (each(metric, query, words[head])[0] for each in (oracles.distances, oracles.tolerances))
    off = (np.abs(found - true) / tolerance).max()
    if not off <= 1:
        raise RuntimeError(f"A slice by {metric} is off by {off:.3g} tolerances.")
