"""Maps: each point is what it says, coordinates and figures are those of slow references, and can be had again."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr import schema
from attnxr.errors import InputError
from tests.query.test_grid import with_head
from tests.support import oracles
from tests.support.cases import Case
from tests.support.families import FAMILIES
from tests.test_schema import every_format

METRICS = ("cosine", "euclidean", "centered_cosine")
SELECTIONS = {"token over layers": {"head": 3, "position": 2}, "head over tokens": {"layer": 1, "head": 2}}
every_selection = pytest.mark.parametrize("chosen", SELECTIONS.values(), ids=SELECTIONS)


def points(case: Case, near: xr.Dataset, metric: str) -> list[tuple[Any, oracles.Array]]:
    """What is on a map of one head, from the float64 oracle: kind, layer or id, position; and its prepared vector."""
    near = near.expand_dims([dim for dim in ("layer", "position") if dim not in near.dims])
    head = int(near["head"])
    encodings: list[tuple[Any, oracles.Array]] = []
    entries: dict[Any, oracles.Array] = {}
    for layer in near["layer"].values:
        for position in near["position"].values:
            vocabulary = case.vocabulary("value", position)[head]
            centre = vocabulary.mean(0) if metric == "centered_cosine" else 0
            z = case.enc["head_encoding"].sel(layer=layer, head=head, position=position).values.astype(np.float64)
            here = near.sel(layer=layer, position=position)
            encodings.append((("vector", layer, position), prepared(z - centre, metric)))
            ids = {*here["neighbor_id"].values.tolist(), int(here["token_id"])}
            entries |= {("entry", i, position): prepared(vocabulary[i] - centre, metric) for i in ids}
    return [*encodings, *entries.items()]


def prepared(vector: oracles.Array, metric: str) -> oracles.Array:
    return vector if metric == "euclidean" else vector / np.linalg.norm(vector)


def trustworthiness(vectors: oracles.Array, place: oracles.Array, k: int) -> float:
    """Formula 1 of Venna and Kaski 2001, by loops."""
    n, total = len(vectors), 0
    for i in range(n):
        order = sorted((float(np.linalg.norm(vectors[i] - vectors[j])), j) for j in range(n) if j != i)
        rank = {j: r for r, (_, j) in enumerate(order, start=1)}
        on_map = sorted((float(np.linalg.norm(place[i] - place[j])), j) for j in range(n) if j != i)
        total += sum(max(0, rank[j] - k) for _, j in on_map[:k])
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * total


def keys(found: xr.Dataset) -> list[Any]:
    """Which of `points` each point is."""
    at = zip(found.kind.values, found.layer.values, found.token_id.values, found.position.values, strict=True)
    return [("vector", layer, p) if kind == "encoding" else ("entry", i, p) for kind, layer, i, p in at]


@every_selection
@pytest.mark.parametrize("metric", METRICS)
def test_pca_equals_the_eigenvectors_of_the_brute_force(tiny: Case, metric: Any, chosen: dict[str, int]) -> None:
    near = tiny.model.neighbors(tiny.enc, k=6, metric=metric).sel(chosen)
    found = attnxr.encoding_map(tiny.model, tiny.enc, near, n_components=3, n_neighbors=4)
    expected = dict(points(tiny, near, metric))
    assert sorted(keys(found)) == sorted(expected)
    vectors = np.stack([expected[key] for key in keys(found)])
    centred = vectors - vectors.mean(0)
    variance, axes = np.linalg.eigh(centred.T @ centred)
    np.testing.assert_allclose(found.explained_variance_ratio, variance[::-1][:3] / variance.sum(), rtol=1e-4)
    for i in range(3):
        true = centred @ axes[:, -1 - i]
        place = found.coordinate.values[:, i]
        np.testing.assert_allclose(place * np.sign(place @ true), true, atol=1e-3 * np.abs(true).max())
    assert abs(float(found.trustworthiness) - trustworthiness(vectors, found.coordinate.values, 4)) < 1e-3


@every_selection
def test_a_full_map_keeps_the_distances_of_the_metric(tiny: Case, chosen: dict[str, int]) -> None:
    """With as many components as features, |a − b|² = 2 (1 − cos) for each vector and each neighbour."""
    near = tiny.model.neighbors(tiny.enc, k=6).sel(chosen)
    n_features = tiny.enc.sizes["feature"]
    found = attnxr.encoding_map(tiny.model, tiny.enc, near, n_components=n_features)
    place = dict(zip(keys(found), found.coordinate.values, strict=True))
    near = near.expand_dims([dim for dim in ("layer", "position") if dim not in near.dims])
    for layer in near.layer.values:
        for position in near.position.values:
            here = near.sel(layer=layer, position=position)
            for i, distance in zip(here.neighbor_id.values, here.distance.values, strict=True):
                apart = np.linalg.norm(place["vector", layer, position] - place["entry", i, position])
                np.testing.assert_allclose(apart**2 / 2, distance, atol=1e-5)


def test_points_say_what_they_are(roberta: Case) -> None:
    near = roberta.model.neighbors(roberta.enc, k=4).sel(head=0, position=[2, 5])
    found = attnxr.encoding_map(roberta.model, roberta.enc, near)
    vocabulary = roberta.model.vocabulary
    vectors = found.isel(point=found.kind.values == "encoding")
    assert vectors.layer.values.tolist() == [0, 0, 1, 1, 2, 2]
    assert vectors.position.values.tolist() == [2, 5] * 3
    assert vectors.token.values.tolist() == [str(roberta.enc.token.values[p]) for p in (2, 5)] * 3
    assert not vectors.is_own.any()
    assert not vectors.best_rank.any()
    assert (found["head"] == 0).all()
    owners: dict[Any, list[tuple[int, int]]] = defaultdict(list)  # layers and ranks of an entry at a position
    for layer in range(3):
        for position in (2, 5):
            here = near.sel(layer=layer, position=position)
            for rank, i in zip(here["rank"].values.tolist(), here.neighbor_id.values.tolist(), strict=True):
                owners[i, position].append((layer, rank))
            owners[int(here.token_id), position].append((layer, 0))
    entries = found.isel(point=found.kind.values == "vocabulary")
    assert entries.sizes["point"] == len(owners)
    for p in range(entries.sizes["point"]):
        here = entries.isel(point=p)
        i, position = int(here.token_id), int(here.position)
        layers = {layer for layer, _ in owners[i, position]}
        ranks = [rank for _, rank in owners[i, position] if rank]
        assert int(here.layer) == (layers.pop() if len(layers) == 1 else -1)
        assert int(here.best_rank) == min(ranks, default=0)
        assert bool(here.is_own) == (i == int(near.token_id.sel(position=position)))
        assert (str(here.token.values), str(here.text.values)) == (vocabulary.token[i], vocabulary.text[i])


def test_without_positions_an_entry_is_one_point(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=5, positional=False).sel(layer=2, head=1)
    found = attnxr.encoding_map(tiny.model, tiny.enc, near)
    ids = found.token_id.values[found.kind.values == "vocabulary"]
    assert sorted(ids) == sorted({*near.neighbor_id.values.ravel(), *near.token_id.values})
    with_positions = tiny.model.neighbors(tiny.enc, k=5).sel(layer=2, head=1)
    assert attnxr.encoding_map(tiny.model, tiny.enc, with_positions).sizes["point"] > found.sizes["point"]


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_neighbourhoods_are_kept_and_the_map_can_be_made_again(minilm: Case, method: Any) -> None:
    near = minilm.model.neighbors(minilm.enc, k=10).sel(layer=0, head=4)
    made = [attnxr.encoding_map(minilm.model, minilm.enc, near, method=method, seed=seed) for seed in (5, 5)]
    xr.testing.assert_identical(*made)
    found = made[0]
    assert "explained_variance_ratio" not in found
    assert found.coordinate.dtype == np.float64
    assert np.isfinite(found.coordinate).all()
    expected = dict(points(minilm, near, "cosine"))
    vectors = np.stack([expected[key] for key in keys(found)])
    k = found.attrs["n_neighbors"]
    assert abs(float(found.trustworthiness) - trustworthiness(vectors, found.coordinate.values, k)) < 1e-3
    assert float(found.trustworthiness) > 0.8  # UMAP comes to other maps on other processors
    anywhere = np.random.default_rng(0).permutation(found.coordinate.values)
    assert trustworthiness(vectors, anywhere, k) < 0.7


def test_a_neighbourhood_is_a_third_of_few_points_and_15_of_many(minilm: Case) -> None:
    near = minilm.model.neighbors(minilm.enc, k=15).sel(layer=0, head=4)
    assert attnxr.encoding_map(minilm.model, minilm.enc, near).attrs["n_neighbors"] == 15
    few = attnxr.encoding_map(minilm.model, minilm.enc, near.isel(position=[1], rank=slice(8)), method="tsne")
    assert few.attrs["n_neighbors"] == few.sizes["point"] // 3
    assert few.attrs["k"] == 8


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
@pytest.mark.parametrize("n_components", [1, 4])
def test_few_points_in_any_number_of_dimensions(tiny: Case, method: Any, n_components: int) -> None:
    near = tiny.model.neighbors(tiny.enc, k=5).isel(layer=[0], head=[0], position=[3])
    found = attnxr.encoding_map(tiny.model, tiny.enc, near, method=method, n_components=n_components)
    assert found.coordinate.shape == (found.sizes["point"], n_components)
    assert found.sizes["point"] < 8
    assert np.isfinite(found.coordinate).all()


OF_THE_STREAM: list[Any] = [
    ("hidden", "embedding", {}),
    ("residual", "unembedding", {"position": 2}),
    ("contribution", "embedding", {"layer": 1, "position": [1, 3]}),
]


@pytest.mark.parametrize(("of", "space", "chosen"), OF_THE_STREAM)
def test_the_stream_is_mapped_too(of: Any, space: Any, chosen: dict[str, Any]) -> None:
    _, model, enc = with_head("gpt2")
    near = model.neighbors(enc, k=4, of=of, space=space).isel(chosen)
    found = attnxr.encoding_map(model, enc, near)
    count = near.own_rank.size
    assert found.kind.values.tolist().count("encoding") == count
    assert ("head" in found.coords) == (of == "contribution")
    if of == "contribution":  # all heads write into one stream
        assert found["head"].values[:count].tolist() == np.repeat(range(4), 2).tolist()
        assert -1 in found["head"].values[count:]
    full = attnxr.encoding_map(model, enc, near, n_components=min(found.sizes["point"], 32)).coordinate.values
    both = model.vocabulary_encodings(enc, [0], of=of, space=space)
    vectors = both.vector.isel(chosen).values.reshape(count, -1)
    true = oracles.distances("cosine", vectors, vectors)
    apart = np.linalg.norm(full[:count, None] - full[None, :count], axis=-1) ** 2 / 2
    np.testing.assert_allclose(apart, true, atol=1e-6)


def test_heads_that_share_keys_and_turned_keys() -> None:
    model = attnxr.Model(FAMILIES["qwen3"].build())
    enc = model.encode(token_ids=[11, 40, 23, 40, 57, 8], include=["key_vector"])
    near = model.neighbors(enc, k=5, of="key", space="key").sel(kv_head=1, layer=0)
    found = attnxr.encoding_map(model, enc, near)
    assert (found["kv_head"] == 1).all()
    own = found.isel(point=found.is_own.values)
    vectors = found.isel(point=found.kind.values == "encoding")
    for p in vectors.position.values:  # layer 0: a key is the own token's
        here = own.isel(point=own.position.values == p)
        there = vectors.isel(point=vectors.position.values == p)
        np.testing.assert_allclose(here.coordinate.values[0], there.coordinate.values[0], atol=1e-5)


def test_several_texts(tiny: Case) -> None:
    enc = tiny.model.encode(["Time flies.", "Fruit flies like a banana."])
    near = tiny.model.neighbors(enc, k=4, metric="centered_cosine").sel(layer=1, head=0)
    found = attnxr.encoding_map(tiny.model, enc, near)
    n = enc.sizes["position"]
    assert found.text_id.values[:n].tolist() == enc.text_id.values.tolist()
    assert found.text_position.values[:n].tolist() == enc.text_position.values.tolist()
    assert found.source.values.tolist() == enc.source.values.tolist()


@every_selection
def test_encodings_may_be_selected_or_whole(tiny: Case, chosen: dict[str, int]) -> None:
    near = tiny.model.neighbors(tiny.enc, k=4)
    whole = attnxr.encoding_map(tiny.model, tiny.enc, near.sel(chosen))
    xr.testing.assert_identical(attnxr.encoding_map(tiny.model, tiny.enc.sel(chosen), near.sel(chosen)), whole)


def test_neighbours_by_inner_product_are_mapped_by_another_metric(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=6, metric="dot").sel(layer=1, head=0)
    found = attnxr.encoding_map(tiny.model, tiny.enc, near, metric="euclidean")
    assert (found.attrs["metric"], found.attrs["neighbors_metric"]) == ("euclidean", "dot")
    with pytest.raises(InputError, match="'dot' is no distance"):
        attnxr.encoding_map(tiny.model, tiny.enc, near)


def test_every_variable_is_declared_and_says_what_it_means(roberta: Case) -> None:
    near = roberta.model.neighbors(roberta.enc, k=6).sel(layer=1, head=0)
    found = attnxr.encoding_map(roberta.model, roberta.enc, near)
    assert set(found.variables) == set(schema.MAP) - {"kv_head", "text_id", "text_position"} | {"component"}
    for name in set(found.variables) - {"component"}:
        spec = schema.MAP[name]
        assert found[name].attrs.items() >= spec.attrs.items()
        assert found[name].dims == spec.dims
        assert found[name].dtype == ("object" if spec.dtype == "str" else spec.dtype)
    assert near.attrs.items() <= found.attrs.items()


@every_format
def test_round_trip(roberta: Case, tmp_path: Path, round_trip: Any) -> None:
    near = roberta.model.neighbors(roberta.enc, k=6).sel(layer=1, head=0)
    found = attnxr.encoding_map(roberta.model, roberta.enc, near)
    xr.testing.assert_identical(round_trip(found, tmp_path), found)


def test_what_comes_from_a_file_gives_the_same(roberta: Case, tmp_path: Path) -> None:
    near = roberta.model.neighbors(roberta.enc, k=6).sel(layer=1, head=0)
    found = attnxr.encoding_map(roberta.model, roberta.enc, near)
    near.to_netcdf(tmp_path / "near.nc")
    roberta.enc.to_netcdf(tmp_path / "enc.nc")
    with xr.open_dataset(tmp_path / "near.nc") as again, xr.open_dataset(tmp_path / "enc.nc") as enc:
        xr.testing.assert_identical(attnxr.encoding_map(roberta.model, enc, again), found)


def test_what_cannot_be_mapped_is_refused(roberta: Case) -> None:
    model, enc = roberta.model, roberta.enc
    near = model.neighbors(enc, k=6).sel(head=0)
    other = model.encode("A dog!")
    same = model.neighbors(enc, k=6, vocab_layer="same").sel(head=0)
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        ((enc, near), {"method": "mds"}, "mds"),
        ((enc, near), {"metric": "manhattan"}, "manhattan"),
        ((enc, near), {"n_components": 0}, "n_components"),
        ((enc, near), {"n_components": 9}, "n_components"),
        ((enc, near), {"n_neighbors": 1}, "n_neighbors"),
        ((enc, near), {"n_neighbors": 10_000}, "less than half"),
        ((enc, near), {"n_neighbors": 0.5}, "whole number"),
        ((enc, near), {"seed": -1}, "seed"),
        ((enc, model.neighbors(enc, k=6)), {}, "4 heads"),
        ((enc, same), {}, "3 layers"),
        ((enc, near.isel(layer=0, position=0, rank=slice(1))), {}, "too few"),
        ((other, near), {}, "token_ids"),
        ((enc.isel(layer=[0]), near), {}, "only the layers \\[0\\]"),
        ((enc, enc), {}, "neighbor_id"),
        ((near, near), {}, "head_encoding"),
        ((enc, near.drop_attrs()), {}, "attrs"),
        ((enc.isel(feature=slice(4)), near), {}, "vectors of 4"),
    ]
    for arguments, options, named in wrong:
        with pytest.raises(InputError, match=named):
            attnxr.encoding_map(model, *arguments, **options)
    assert attnxr.encoding_map(model, enc, same.sel(layer=1)).sizes["point"] > 5


def test_without_umap_learn_the_error_says_how_to_get_it(roberta: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    near = roberta.model.neighbors(roberta.enc, k=6).sel(layer=1, head=0)
    with pytest.raises(InputError, match="pip install umap-learn"):
        attnxr.encoding_map(roberta.model, roberta.enc, near, method="umap")
