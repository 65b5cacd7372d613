"""Hubs, what local scaling and centring do to them, and rogue dimensions, against slow versions of the formulas."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from attnxr.options import VARIABLE
from tests.support import models, oracles
from tests.support.cases import Case
from tests.support.families import FAMILIES
from tests.support.oracles import Array
from tests.support.witness import Witness

TEXTS = ["Time flies like an arrow.", "Fruit flies like a banana.", "Nobody knows before looking."]


@pytest.fixture(scope="module")
def several(tiny: Case) -> xr.Dataset:
    return tiny.model.encode(TEXTS)


def occurrences(near: xr.Dataset) -> Counter[int]:
    return Counter(near.neighbor_id.values.ravel().tolist())


def skewness(counts: Array) -> float:
    deviation = counts - counts.mean()
    return float((deviation**3).mean() / (deviation**2).mean() ** 1.5)


# Hubness


@pytest.mark.parametrize("over", [("position",), ("head", "position"), ("layer", "head", "position"), ("layer",)])
def test_counts_whose_neighbours_entries_are(tiny: Case, over: Any) -> None:
    near = tiny.model.neighbors(tiny.enc, k=5)
    found = attnxr.hubness(near, hubs=4, over=over)
    kept = [dim for dim in ("layer", "head", "position") if dim not in over]
    assert found.occurrence.dims == (*kept, "vocab")
    size = tiny.model.vocab_size
    for index in np.ndindex(*[near.sizes[dim] for dim in kept]):
        here = dict(zip(kept, index, strict=True))
        one, counts = found.isel(here), occurrences(near.isel(here))
        np.testing.assert_array_equal(one.occurrence, [counts[v] for v in range(size)])
        np.testing.assert_allclose(one.skewness, skewness(one.occurrence.values))
        ranked = sorted(counts, key=lambda v: (-counts[v], v))[:4]
        assert one.hub_id.values.tolist() == ranked
        assert one.hub_occurrence.values.tolist() == [counts[v] for v in ranked]
        assert one.hub.values.tolist() == tiny.model.vocabulary.token[ranked].tolist()
        assert one.hub_text.values.tolist() == tiny.model.vocabulary.text[ranked].tolist()
    assert found.attrs["vectors"] == np.prod([near.sizes[dim] for dim in over])


def test_chance_skewness_is_that_of_random_neighbours(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=8)
    rng = np.random.default_rng(0)
    size, n = tiny.model.vocab_size, 14 * 4 * 3
    picked = np.argsort(rng.uniform(size=(300, n, size)).astype(np.float32), axis=-1)[..., :8]
    counts = np.array([np.bincount(each.ravel(), minlength=size) for each in picked])
    pooled = (counts - 8 * n / size).ravel()
    simulated = (pooled**3).mean() / (pooled**2).mean() ** 1.5
    near = near.isel(position=slice(14))
    found = attnxr.hubness(near, over=("layer", "head", "position"))
    assert found.attrs["vectors"] == n
    assert abs(float(found.chance_skewness) - simulated) < 0.05


def test_everybodys_neighbours_and_nobodys(tiny: Case) -> None:
    size = tiny.model.vocab_size
    everything = attnxr.hubness(tiny.model.neighbors(tiny.enc, k=size))
    assert (everything.occurrence == tiny.enc.sizes["position"]).all()
    assert (everything.skewness == 0).all()
    assert everything.chance_skewness == 0
    one = attnxr.hubness(tiny.model.neighbors(tiny.enc.isel(position=[2]), k=2), hubs=5)
    assert (one.hub_id.isel(hub_rank=slice(2)) >= 0).all()
    assert (one.hub_id.isel(hub_rank=slice(2, 5)) == -1).all()
    assert (one.hub.isel(hub_rank=slice(2, 5)) == "").all()
    assert (one.hub_occurrence.isel(hub_rank=slice(2, 5)) == 0).all()


def test_counts_selections_and_other_vectors(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=5)
    whole = attnxr.hubness(near)
    xr.testing.assert_identical(attnxr.hubness(near.isel(layer=1, head=[2, 0])), whole.isel(layer=1, head=[2, 0]))
    fewer = attnxr.hubness(near.isel(rank=slice(3)))
    xr.testing.assert_identical(fewer, attnxr.hubness(tiny.model.neighbors(tiny.enc, k=3)))
    stream = tiny.model.neighbors(tiny.enc, k=3, of="hidden", space="embedding")
    assert attnxr.hubness(stream).skewness.dims == ("layer",)


def test_hubness_refuses_what_it_cannot_count(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=4)
    for dataset, options, message in [
        (tiny.enc, {}, "neighbor_id"),
        (near.isel(rank=[1, 2]), {}, "ranks"),
        (near.isel(rank=2), {}, "'rank'"),
        (near.isel(position=2), {}, "over"),
        (near, {"over": ("vocab",)}, "over"),
        (near, {"over": ()}, "over"),
        (near, {"over": "position"}, "over"),
        (near, {"hubs": 0}, "hubs=0"),
    ]:
        with pytest.raises(InputError, match=message):
            attnxr.hubness(dataset, **options)


# Local scaling


def slow_csls(cosine: Array, local: int) -> Array:
    """CSLS of cosines (positions, V), one pair at a time."""
    out = np.empty(cosine.shape)
    of_vector = [np.mean(sorted(row)[::-1][:local]) for row in cosine.tolist()]
    of_entry = [np.mean(sorted(column)[::-1][:local]) for column in cosine.T.tolist()]
    for p, v in np.ndindex(*cosine.shape):
        out[p, v] = 2 * cosine[p, v] - of_vector[p] - of_entry[v]
    return out


@pytest.mark.parametrize("local", [3, 10, 60])
def test_csls_equals_the_definition(tiny: Case, several: xr.Dataset, local: int) -> None:
    found = attnxr.csls_neighbors(tiny.model, several, k=6, local=local)
    for layer, head in [(0, 1), (2, 3)]:
        cosine = []
        for i in np.unique(several.text_id):
            ids = several.token_id.values[several.text_id.values == i]
            z = several["head_encoding"].values[layer, head, several.text_id.values == i]
            for query, position_id in zip(z, tiny.oracle.position_ids(ids), strict=True):
                vectors = tiny.oracle.vocabulary("value", int(position_id))[head]
                cosine.append(1 - oracles.distances("cosine", query, vectors))
        true = -slow_csls(np.array(cosine), local)
        here = found.isel(layer=layer, head=head)
        tolerance = np.full(true.shape, 1e-5)
        oracles.check_neighbors(here.neighbor_id.values, here.distance.values, true, tolerance)
        for p, own in enumerate(several.token_id.values):
            one = here.isel(position=p)
            oracles.check_own(one.own_rank.values, one.own_distance.values, true[p], tolerance[p], int(own))
    assert found.attrs["metric"] == "csls"


def test_csls_neighbours_look_like_neighbours(tiny: Case, several: xr.Dataset) -> None:
    found, near = attnxr.csls_neighbors(tiny.model, several, k=200), tiny.model.neighbors(several, k=200)
    assert {name: (found[name].dims, found[name].dtype) for name in found.variables} == {
        name: (near[name].dims, near[name].dtype) for name in near.variables
    }
    np.testing.assert_array_equal(found.neighbor.values, tiny.model.vocabulary.token[found.neighbor_id.values])
    for i in range(len(TEXTS)):
        here = found.isel(position=found.text_id.values == i)
        expected = np.isin(here.neighbor_id.values, here.token_id.values)
        np.testing.assert_array_equal(here.in_sequence.values, expected)


def test_csls_of_one_vector_is_an_order_of_its_own(tiny: Case) -> None:
    """Alone, a vector is every entry's nearest: 2 S − r_T − S = S − r_T, the order of the cosine."""
    enc = tiny.enc.isel(layer=1, head=2, position=[3])
    found, near = attnxr.csls_neighbors(tiny.model, enc, k=9, local=5), tiny.model.neighbors(enc, k=9)
    np.testing.assert_array_equal(found.neighbor_id, near.neighbor_id)
    np.testing.assert_array_equal(found.own_rank, near.own_rank)
    shifted = near.distance - 1 + (1 - near.distance.isel(rank=slice(5))).mean("rank")
    np.testing.assert_allclose(found.distance, shifted, atol=1e-6)


def test_equal_entries_come_in_the_order_of_their_ids() -> None:
    hf_model = models.tiny_bert()
    words = hf_model.embeddings.word_embeddings.weight.data
    words[100:140] = words[60]
    model = attnxr.Model(hf_model)
    found = attnxr.csls_neighbors(model, model.encode(token_ids=[60]).isel(layer=[0]), k=41)
    assert (found.neighbor_id == [60, *range(100, 140)]).all()
    assert (found.own_rank == 1).all()


@pytest.mark.parametrize("room", [1, 100_000])
def test_csls_computes_in_parts(tiny: Case, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    whole = attnxr.csls_neighbors(tiny.model, tiny.enc)
    stream = attnxr.csls_neighbors(tiny.model, tiny.enc, of="residual", space="embedding")
    monkeypatch.setattr("attnxr.analysis.csls._BYTES", room)
    xr.testing.assert_identical(attnxr.csls_neighbors(tiny.model, tiny.enc), whole)
    again = attnxr.csls_neighbors(tiny.model, tiny.enc, of="residual", space="embedding")
    xr.testing.assert_identical(again, stream)


@pytest.mark.parametrize(("of", "space"), [("key", "value"), ("contribution", "embedding"), ("hidden", "embedding")])
def test_csls_of_other_vectors(of: Any, space: Any) -> None:
    model = attnxr.Model(FAMILIES["mistral"].build())
    enc = model.encode(token_ids=[11, 40, 23, 57, 8], include=("key_vector", "hidden"))
    found = attnxr.csls_neighbors(model, enc, k=67, local=3, of=of, space=space)
    assert found.neighbor_id.dims == model.neighbors(enc, k=67, of=of, space=space).neighbor_id.dims
    cosine = 1 - model.distances(enc, of=of, space=space).distance.isel(layer=1).values.astype(np.float64)
    ids, distance = (found.isel(layer=1)[name].values for name in ("neighbor_id", "distance"))
    if of == "hidden":
        cosine, ids, distance = cosine[None], ids[None], distance[None]
    for head in range(len(ids)):
        true = -slow_csls(cosine[head], 3)
        oracles.check_neighbors(ids[head], distance[head], true, np.full(true.shape, 1e-6))


def test_csls_follows_a_selection_of_layers_and_heads(tiny: Case) -> None:
    whole = attnxr.csls_neighbors(tiny.model, tiny.enc, k=4)
    for chosen in [{"layer": 1}, {"layer": [2, 0], "head": 3}, {"head": [1, 1]}]:
        xr.testing.assert_identical(attnxr.csls_neighbors(tiny.model, tiny.enc.isel(chosen), k=4), whole.isel(chosen))


# Remedies


def test_remedies_show_what_they_change(tiny: Case, several: xr.Dataset) -> None:
    k = 6
    found = attnxr.hubness_remedies(tiny.model, several, k=k)
    near = {
        "cosine": tiny.model.neighbors(several, k=k),
        "centered_cosine": tiny.model.neighbors(several, k=k, metric="centered_cosine"),
        "csls": attnxr.csls_neighbors(tiny.model, several, k=k),
    }
    assert found["metric"].values.tolist() == list(near)
    for metric, one in near.items():
        here = found.sel(metric=metric)
        np.testing.assert_array_equal(here.own_rank, one.own_rank)
        counted = attnxr.hubness(one, hubs=1)
        np.testing.assert_array_equal(here.skewness, counted.skewness)
        np.testing.assert_array_equal(here.largest_occurrence, counted.hub_occurrence.isel(hub_rank=0))
        for index in [(0, 0, 0), (2, 3, 5)]:
            both = set(one.neighbor_id.values[index]) & set(near["cosine"].neighbor_id.values[index])
            assert float(here.overlap[index]) == len(both) / k
    assert (found.overlap.sel(metric="cosine") == 1).all()
    pooled = attnxr.hubness_remedies(tiny.model, several, k=k, over=("layer", "head", "position"))
    assert pooled.skewness.dims == ("metric",)


def test_local_scaling_lowers_a_hub(tiny: Case, several: xr.Dataset) -> None:
    """All encodings are given a common part, along one entry's: it is everybody's neighbour, and then is not."""
    enc = several.isel(layer=[1], head=[0])
    hub = tiny.oracle.vocabulary("value", int(tiny.oracle.position_ids(enc.token_id.values)[1]))[0, 77]
    encoding = enc["head_encoding"].values + 3 * hub.astype(np.float32)
    enc = enc.assign(head_encoding=(enc["head_encoding"].dims, encoding))
    found = attnxr.hubness_remedies(tiny.model, enc, k=5).isel(layer=0, head=0)
    before, after = (found.sel(metric=metric) for metric in ("cosine", "csls"))
    assert before.skewness > 1.5 * found.chance_skewness
    assert after.skewness < before.skewness
    assert after.largest_occurrence < before.largest_occurrence


# Rogue dimensions


@pytest.mark.parametrize("positional", [True, False])
def test_contributions_equal_the_mean_over_all_pairs(tiny: Case, positional: bool) -> None:
    enc = tiny.enc.isel(position=[1, 4, 6])
    found = attnxr.rogue_dimensions(tiny.model, enc, top=2, positional=positional)
    for layer, head in [(0, 0), (2, 1)]:
        z = enc["head_encoding"].values[layer, head].astype(np.float64)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        u = [tiny.vocabulary("value", p, positional)[head] for p in enc.position.values]
        u = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in u]
        among = np.mean([z[p] * z[q] for p in range(3) for q in range(3) if p != q], axis=0)
        between = np.mean([z[p] * u[p] for p in range(3)], axis=(0, 1))
        entries = np.mean([(u[p][:, None] * u[p]).mean((0, 1)) for p in range(3)], axis=0)
        for pairs, true in zip(("vectors", "vector and entry", "entries"), (among, between, entries), strict=True):
            here = found.sel(pairs=pairs).isel(layer=layer, head=head)
            np.testing.assert_allclose(here.contribution, true, atol=1e-6)
            np.testing.assert_allclose(here.expected_cosine, true.sum(), atol=1e-5)
            top = sorted(range(len(true)), key=lambda i: -true[i])[:2]
            assert here.top_feature.values.tolist() == top
            np.testing.assert_allclose(here.top_share, true[top] / true.sum(), rtol=1e-3)


def test_a_rogue_dimension_is_found(minilm: Case) -> None:
    enc = minilm.enc.isel(layer=[2])
    encoding = enc["head_encoding"].values.copy()
    encoding[:, 5, :, 17] += 100
    found = attnxr.rogue_dimensions(minilm.model, enc.assign(head_encoding=(enc["head_encoding"].dims, encoding)))
    one = found.sel(pairs="vectors").isel(layer=0, head=5)
    assert one.top_feature[0] == 17
    assert one.top_share[0] > 0.99
    assert one.expected_cosine > 0.99


def test_one_position_has_no_pairs_of_vectors(tiny: Case) -> None:
    found = attnxr.rogue_dimensions(tiny.model, tiny.enc.isel(position=3))
    whole = attnxr.rogue_dimensions(tiny.model, tiny.enc.isel(position=[3]))
    xr.testing.assert_allclose(found.drop_vars(set(found.coords) - set(whole.coords)), whole)
    assert np.isnan(found.contribution.sel(pairs="vectors")).all()
    assert np.isfinite(found.contribution.sel(pairs=["vector and entry", "entries"])).all()


@pytest.mark.parametrize(("of", "space"), [("query", "key"), ("hidden", "embedding"), ("value", "value")])
def test_rogue_dimensions_of_other_vectors(of: Any, space: Any) -> None:
    model, witness = attnxr.Model(FAMILIES["mistral"].build()), Witness(FAMILIES["mistral"])
    text = [11, 40, 23, 57, 8]
    enc = model.encode(token_ids=text, include=[VARIABLE[of]])
    found = attnxr.rogue_dimensions(model, enc, of=of, space=space).sel(pairs="vector and entry")
    z = enc[VARIABLE[of]].values if of != "hidden" else enc[VARIABLE[of]].values[:, None]
    contribution = found.contribution.values if of != "hidden" else found.contribution.values[:, None]
    vocabulary = [witness.vocabulary(space, text, p) for p in range(len(text))]
    for layer, head in np.ndindex(*z.shape[:2]):
        group = head * len(vocabulary[0]) // z.shape[1]
        true = np.mean(
            [
                z[layer, head, p] / np.linalg.norm(z[layer, head, p])
                * (u[group] / np.linalg.norm(u[group], axis=1, keepdims=True)).mean(0)
                for p, u in enumerate(vocabulary)
            ],
            axis=0,
        )  # fmt: skip
        np.testing.assert_allclose(contribution[layer, head], true, atol=1e-5)


def test_rogue_dimensions_of_a_selection(tiny: Case) -> None:
    whole = attnxr.rogue_dimensions(tiny.model, tiny.enc)
    for chosen in [{"layer": 1}, {"layer": [2, 0], "head": 3}]:
        xr.testing.assert_allclose(attnxr.rogue_dimensions(tiny.model, tiny.enc.isel(chosen)), whole.isel(chosen))


# All of them


def test_survive_a_file(tiny: Case, tmp_path: Path) -> None:
    near = tiny.model.neighbors(tiny.enc, k=5)
    for i, found in enumerate(
        [
            attnxr.hubness(near),
            attnxr.csls_neighbors(tiny.model, tiny.enc, k=5),
            attnxr.hubness_remedies(tiny.model, tiny.enc, k=5),
            attnxr.rogue_dimensions(tiny.model, tiny.enc),
        ]
    ):
        found.to_netcdf(tmp_path / f"{i}.nc")
        with xr.open_dataset(tmp_path / f"{i}.nc") as back:
            xr.testing.assert_identical(back.load(), found)


@pytest.mark.parametrize("function", ["csls_neighbors", "hubness_remedies", "rogue_dimensions"])
def test_refuse_what_has_no_meaning(tiny: Case, function: str) -> None:
    ask = getattr(attnxr, function)
    for options, message in [
        ({"of": "hidden"}, "no meaning"),
        ({"space": "nowhere"}, "nowhere"),
        ({"top": 0} if function == "rogue_dimensions" else {"local": 0}, "=0 was given"),
        ({"top": 99} if function == "rogue_dimensions" else {"k": 10**6}, "expected"),
    ]:
        with pytest.raises(InputError, match=message):
            ask(tiny.model, tiny.enc, **options)
    with pytest.raises(InputError, match="expected the xarray Dataset"):
        ask(tiny.model, {"head_encoding": 1})
    if function == "rogue_dimensions":
        with pytest.raises(InputError, match="of='encoding'"):
            ask(tiny.model, tiny.enc, of="contribution", space="embedding")
