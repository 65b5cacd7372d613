"""Overlaps are those of Python's sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from tests.support.cases import Case

BETWEEN = ("consecutive", "layers", "heads")


@pytest.fixture(scope="module")
def near(roberta: Case) -> xr.Dataset:
    """So many neighbours that lists overlap: 60 of 400."""
    return roberta.model.neighbors(roberta.enc, k=60)


def shared(a: xr.DataArray, b: xr.DataArray, n: int) -> float:
    return len(set(a.values[:n].tolist()) & set(b.values[:n].tolist())) / n


@pytest.mark.parametrize("n", [1, 7, 60])
def test_equals_python_sets(near: xr.Dataset, n: int) -> None:
    ids = near.neighbor_id
    consecutive, layers, heads = (attnxr.overlap(near, between=between, n=n).overlap for between in BETWEEN)
    assert consecutive.dims == ("layer", "head", "position")
    assert layers.dims == ("layer", "other_layer", "head", "position")
    assert heads.dims == ("layer", "head", "other_head", "position")
    n_layers, n_heads, n_positions = ids.shape[:3]
    for layer, head, position in np.ndindex(n_layers, n_heads, n_positions):
        here = ids[layer, head, position]
        for other in range(n_layers):
            assert layers[layer, other, head, position] == shared(here, ids[other, head, position], n)
        for other in range(n_heads):
            assert heads[layer, head, other, position] == shared(here, ids[layer, other, position], n)
        if layer:
            assert consecutive[layer - 1, head, position] == shared(here, ids[layer - 1, head, position], n)
    if n == 60:
        assert 0 < float(layers.mean()) < 1


def test_all_neighbours_are_taken_unless_told_otherwise(near: xr.Dataset) -> None:
    found = attnxr.overlap(near)
    xr.testing.assert_identical(found, attnxr.overlap(near, between="consecutive", n=60))
    assert found.attrs["n"] == 60
    assert found.previous_layer.values.tolist() == [0, 1]
    assert found.layer.values.tolist() == [1, 2]


def test_the_whole_vocabulary_overlaps_wholly(roberta: Case) -> None:
    everything = roberta.model.neighbors(roberta.enc.isel(position=[1]), k=roberta.model.vocab_size)
    for between in BETWEEN:
        found = attnxr.overlap(everything, between=between)
        assert (found.overlap == 1).all()
        assert found.attrs["chance"] == 1


def test_random_lists_overlap_by_chance(near: xr.Dataset) -> None:
    size, generator = near.attrs["vocab_size"], np.random.default_rng(0)
    entries = np.broadcast_to(np.arange(size, dtype=np.int32), (*near.own_rank.shape, size))
    drawn = near.copy(deep=True)
    drawn["neighbor_id"][:] = generator.permuted(entries, axis=-1)[..., :60]
    found = attnxr.overlap(drawn)
    assert found.attrs["chance"] == 60 / size
    # |A ∩ B| is hypergeometric with variance n² (V − n)² / (V² (V − 1)).
    deviation = (size - 60) / size / np.sqrt(size - 1) / np.sqrt(found.overlap.size)
    assert abs(float(found.overlap.mean()) - found.attrs["chance"]) < 5 * deviation


@pytest.mark.parametrize("of", ["encoding", "residual"])
def test_the_baseline_is_what_unrelated_lists_share(roberta: Case, of: str) -> None:
    """Equals Python sets over all pairs of positions; hubs make it larger than n / V."""
    space = "value" if of == "encoding" else "embedding"
    here, there = (
        roberta.model.neighbors(roberta.model.encode(token_ids=ids, include=["residual"]), k=60, of=of, space=space)
        for ids in (roberta.token_ids, roberta.token_ids[::-1][:5])
    )
    n, ids, others = 20, here["neighbor_id"], there["neighbor_id"]
    for between in BETWEEN if of == "encoding" else BETWEEN[:2]:
        found = attnxr.overlap(here, between=between, n=n, baseline=there)
        xr.testing.assert_identical(found.drop_vars("baseline"), attnxr.overlap(here, between=between, n=n))
        assert found["baseline"].dims == found["overlap"].dims
        stacked = found["baseline"].stack(place=found["baseline"].dims)
        for at in range(0, stacked.size, 7):
            one = stacked[at]
            where = {dim: one[dim].item() for dim in ids.dims if dim in one.coords}
            other = {dim: label for dim, label in where.items() if dim != "position"}
            if between == "consecutive":
                other["layer"] = found["previous_layer"].sel(layer=where["layer"]).item()
            elif between == "layers":
                other["layer"] = one["other_layer"].item()
            else:
                other["head"] = one["other_head"].item()
            lists = others.sel(other)
            expected = np.mean([shared(ids.sel(where), lists.isel(position=q), n) for q in range(5)])
            assert float(one) == pytest.approx(expected, abs=1e-12)
    xr.testing.assert_identical(
        attnxr.overlap(here.isel(position=2), n=n, baseline=there),
        attnxr.overlap(here, n=n, baseline=there).isel(position=2),
    )


def test_a_baseline_that_is_none_is_refused(near: xr.Dataset, roberta: Case) -> None:
    other = roberta.model.encode(token_ids=roberta.token_ids[::-1])
    wrong = {
        "in common": near,
        "metric": roberta.model.neighbors(other, metric="dot", k=60),
        "layer": roberta.model.neighbors(other.isel(layer=[1, 2]), k=60),
        "as many": roberta.model.neighbors(other, k=5),
        "baseline has no": roberta.model.neighbors(other).drop_vars("neighbor_id"),
    }
    for named, baseline in wrong.items():
        with pytest.raises(InputError, match=named):
            attnxr.overlap(near, baseline=baseline)


SELECTIONS: list[tuple[str, dict[str, Any]]] = [
    *((between, chosen) for between in BETWEEN for chosen in ({"position": 3}, {"position": [5, 2]})),
    ("consecutive", {"head": 1}),
    ("layers", {"head": 1}),
    ("heads", {"layer": 1}),
    ("heads", {"layer": [2, 0]}),
]


@pytest.mark.parametrize(("between", "chosen"), SELECTIONS)
def test_selecting_before_equals_selecting_after(near: xr.Dataset, between: Any, chosen: dict[str, Any]) -> None:
    before = attnxr.overlap(near.isel(chosen), between=between)
    xr.testing.assert_identical(before, attnxr.overlap(near, between=between).isel(chosen))


def test_layers_and_heads_that_are_left_out_are_not_compared(near: xr.Dataset) -> None:
    layers = attnxr.overlap(near.isel(layer=[2, 0]), between="layers")
    xr.testing.assert_identical(layers, attnxr.overlap(near, between="layers").isel(layer=[2, 0], other_layer=[2, 0]))
    heads = attnxr.overlap(near.isel(head=[3, 1]), between="heads")
    xr.testing.assert_identical(heads, attnxr.overlap(near, between="heads").isel(head=[3, 1], other_head=[3, 1]))
    assert attnxr.overlap(near.isel(layer=[2, 0])).previous_layer.values.tolist() == [2]


def test_the_stream_has_layers_to_compare_and_no_heads(roberta: Case) -> None:
    stream = roberta.model.neighbors(roberta.enc, of="residual", space="embedding", k=9)
    found = attnxr.overlap(stream, between="layers").overlap
    assert found.dims == ("layer", "other_layer", "position")
    for layer, other, position in np.ndindex(*found.shape):
        ids = stream.neighbor_id
        assert found[layer, other, position] == shared(ids[layer, position], ids[other, position], 9)
    assert attnxr.overlap(stream).overlap.dims == ("layer", "position")
    with pytest.raises(InputError, match="heads"):
        attnxr.overlap(stream, between="heads")


WRONG: list[tuple[Callable[[xr.Dataset], Any], str]] = [
    (lambda near: attnxr.overlap(near, between="tokens"), "tokens"),
    (lambda near: attnxr.overlap(near, n=61), "61"),
    (lambda near: attnxr.overlap(near, n=0), "n=0"),
    (lambda near: attnxr.overlap(near, n="many"), "many"),
    (lambda near: attnxr.overlap(near.isel(layer=[1])), "two layers"),
    (lambda near: attnxr.overlap(near.isel(layer=1)), "two layers"),
    (lambda near: attnxr.overlap(near.isel(rank=0)), "rank"),
    (lambda near: attnxr.overlap(near.isel(rank=slice(1, None))), "ranks"),
    (lambda near: attnxr.overlap(near.isel(rank=[])), "narrowly"),
    (lambda near: attnxr.overlap(near.drop_vars("neighbor_id")), "neighbor_id"),
]


@pytest.mark.parametrize(("use", "named"), WRONG)
def test_what_cannot_be_is_refused(near: xr.Dataset, use: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        use(near)
