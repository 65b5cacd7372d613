"""p-values against chance: uniform where chance is all there is, the smallest possible where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import attnxr
from attnxr.analysis import nulls
from attnxr.errors import InputError
from tests.support import models, oracles
from tests.support.cases import Case
from tests.support.families import FAMILIES
from tests.support.oracles import Array

STATISTICS = ("nearest", "k_mean")
NULLS = ("rotation", "heads", "shuffled")


def sphere(rng: np.random.Generator, *shape: int) -> Array:
    """Directions that are uniform on the sphere."""
    normal = rng.standard_normal(shape)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def turned(rng: np.random.Generator, vectors: Array, radius: Array) -> Array:
    """Vectors (…, d) at Mahalanobis distances (…, 1) from the mean of vectors (V, d), in random directions."""
    root = np.linalg.cholesky(np.cov(vectors.T, bias=True))  # any root serves: the sphere has no preferred axes
    return vectors.mean(0) + radius * sphere(rng, *radius.shape[:-1], vectors.shape[1]) @ root.T


def drawn_by_chance(case: Case, rng: np.random.Generator) -> xr.Dataset:
    """Encodings of one layer of 70 texts in which all vectors are drawn from the rotation null, at random distances."""
    enc = case.model.encode(["Time flies like an arrow."] * 70).isel(layer=[1])
    encoding = enc["head_encoding"].values.copy()
    ids = enc.token_id.values[enc.text_id.values == 0]
    for place in range(len(ids)):
        here = np.flatnonzero(enc.text_position.values == place)
        vocabulary = case.oracle.vocabulary("value", int(case.oracle.position_ids(ids)[place]))
        for head, vectors in enumerate(vocabulary):
            encoding[0, head, here] = turned(rng, vectors, rng.uniform(0.5, 6, (len(here), 1)))
    return enc.assign(head_encoding=(enc["head_encoding"].dims, encoding))


def mahalanobis(z: Array, vectors: Array) -> float:
    deviation = z - vectors.mean(0)
    return float(np.sqrt(deviation @ np.linalg.solve(np.cov(vectors.T, bias=True), deviation)))


def two_statistics(metric: str, queries: Array, vectors: Array, k: int) -> Array:
    """Nearest and mean of the k nearest of vectors (…, d) among (V, d): (2, …)."""
    nearest = np.sort(oracles.distances(metric, queries, vectors), axis=-1)[..., :k]
    return np.stack([nearest[..., 0], nearest.mean(-1)])


@pytest.mark.parametrize("metric", ["cosine", "centered_cosine", "euclidean"])
def test_rotation_is_calibrated(roberta: Case, metric: Any) -> None:
    """2,240 vectors drawn from the null itself, at random distances: their p-values are uniform."""
    rng, draws = np.random.default_rng(12), 29
    enc = drawn_by_chance(roberta, rng)
    found = attnxr.significance(roberta.model, enc, draws=draws, metric=metric)
    assert found.nearest_p.size >= 2000
    for name in STATISTICS:
        p = found[f"{name}_p"].values.ravel()
        np.testing.assert_allclose(p * (1 + draws), np.rint(p * (1 + draws)), atol=1e-9)
        # p takes the values 1/30 … 30/30; spread over the step below each, it is uniform on the interval.
        smooth = p - rng.uniform(size=p.size) / (1 + draws)
        assert scipy.stats.kstest(smooth, "uniform").pvalue > 1e-3
        assert scipy.stats.chisquare(np.bincount(np.rint(p * (1 + draws)).astype(int))[1:]).pvalue > 1e-3


def test_heads_is_calibrated_in_each_head(tiny: Case) -> None:
    """Vectors that have nothing to do with any head: each rank is as likely, in heads of any density."""
    rng, repeats = np.random.default_rng(21), 40
    enc = tiny.model.encode([tiny.text] * repeats).isel(layer=[0])
    scale = rng.uniform(0.2, 3, (1, 1, 1, enc.sizes["feature"]))
    random = (0.5 + scale * rng.standard_normal(enc["head_encoding"].shape)).astype(np.float32)
    found = attnxr.significance(tiny.model, enc.assign(head_encoding=(enc["head_encoding"].dims, random)), null="heads")
    n = enc.sizes["position"]
    for name in STATISTICS:
        ranks = np.rint(found[f"{name}_p"].values[0] * 4).astype(int)
        for of_head in ranks:
            assert scipy.stats.chisquare(np.bincount(of_head, minlength=5)[1:]).pvalue > 1e-3
        assert abs((ranks == 1).mean() - 1 / 4) < 4 * np.sqrt(3 / 16 / n / 4)


def test_the_layer_of_heads_is_calibrated(tiny: Case) -> None:
    rng, p = np.random.default_rng(22), []
    enc = tiny.enc.isel(position=[1, 2])
    for _ in range(60):
        random = rng.standard_normal(enc["head_encoding"].shape).astype(np.float32)
        found = attnxr.significance(
            tiny.model, enc.assign(head_encoding=(enc["head_encoding"].dims, random)), null="heads", k=1
        )
        p.append(found.nearest_layer_p.values)
    smooth = np.concatenate(p) - rng.uniform(size=180) / 24  # 4! ways
    assert scipy.stats.kstest(smooth, "uniform").pvalue > 1e-3


def test_shuffled_is_calibrated(bert: Case) -> None:
    """Texts that are random orders themselves: one p-value of each is uniform."""
    rng = np.random.default_rng(3)
    words = ["time", "flies", "like", "an", "arrow"]
    texts = [" ".join(rng.permutation(words)) for _ in range(150)]
    enc = bert.model.encode(texts).isel(layer=[1], head=[2])
    enc = enc.isel(position=np.flatnonzero(enc.token.values == "arrow"))
    found = attnxr.significance(bert.model, enc, null="shuffled", draws=4)
    assert found.nearest_p.shape == (1, 1, 150)
    for name in STATISTICS:
        smooth = found[f"{name}_p"].values.ravel() - rng.uniform(size=150) / 5
        assert scipy.stats.kstest(smooth, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("metric", ["cosine", "centered_cosine", "euclidean"])
def test_rotation_sees_a_head_that_attends_only_to_itself(case: Case, metric: Any) -> None:
    """At layer 0 such a head writes the value of the own token: nothing can be nearer."""
    enc = case.enc.isel(layer=[0])
    enc = enc.assign(head_encoding=(enc["head_encoding"].dims, enc["value_vector"].values))
    found = attnxr.significance(case.model, enc, k=1, draws=19, metric=metric)
    for name in STATISTICS:
        assert (found[f"{name}_p"] == 1 / 20).all()
        assert (found[f"{name}_q"] == 1 / 20).all()
        assert (found[f"{name}_layer_p"] == 1 / 20).all()
        assert (found[name] < found[f"{name}_null"]).all()


def test_rotation_sees_attention_that_has_nothing_else_to_see(minilm: Case) -> None:
    """With the causal mask on, the first position attends to itself alone."""
    enc = minilm.model.encode("Time flies.", causal=True).isel(layer=[0], position=[0])
    assert (attnxr.significance(minilm.model, enc).nearest_p == 1 / 100).all()


@pytest.mark.parametrize("metric", oracles.METRICS)
def test_rotation_equals_the_brute_force(tiny: Case, metric: Any) -> None:
    """With as many draws of its own, within the error of both."""
    enc, rng, draws, k = tiny.enc.isel(position=[1, 5]), np.random.default_rng(5), 400, 5
    found = attnxr.significance(tiny.model, enc, k=k, draws=draws, metric=metric)
    for position in enc.position.values:
        for head, vectors in enumerate(tiny.vocabulary("value", position)):
            for layer in range(3):
                here = {"layer": layer, "head": head, "position": position}
                z = enc["head_encoding"].sel(here).values.astype(np.float64)
                null = turned(rng, vectors, np.full((draws, 1), mahalanobis(z, vectors)))
                true = two_statistics(metric, z, vectors, k)
                chance = two_statistics(metric, null, vectors, k)
                for name, observed, drawn in zip(STATISTICS, true, chance, strict=True):
                    one = found.sel(here)
                    assert abs(one[name] - observed) <= oracles.tolerances(metric, z, vectors).max()
                    p = (1 + (drawn <= observed).sum()) / (1 + draws)
                    error = np.sqrt(2 * max(p * (1 - p), 1 / draws) / draws)
                    assert abs(one[f"{name}_p"] - p) < 5 * error
                    assert abs(one[f"{name}_null"] - drawn.mean()) < 5 * drawn.std() * np.sqrt(2 / draws)


def test_heads_equals_the_brute_force(case: Case) -> None:
    k, layers = 7, [0, 2]
    enc = case.enc.isel(layer=layers, position=[1, 3])
    found = attnxr.significance(case.model, enc, null="heads", k=k)
    assert found.attrs["draws"] == case.model.n_heads - 1
    for position in enc.position.values:
        vocabulary = case.vocabulary("value", position)
        for layer, head in np.ndindex(2, case.model.n_heads):
            z = enc["head_encoding"].sel(position=position).isel(layer=layer).values
            each = two_statistics("cosine", z, vocabulary[head], k)
            one = found.sel(position=position).isel(layer=layer, head=head)
            for i, name in enumerate(STATISTICS):
                assert abs(one[name] - each[i, head]) < 1e-6
                assert float(one[f"{name}_p"]) == (each[i] <= each[i, head]).sum() / len(z)
                assert float(one[f"{name}_far_p"]) == (each[i] >= each[i, head]).sum() / len(z)
                assert abs(one[f"{name}_null"] - np.delete(each[i], head).mean()) < 1e-6


def test_shuffled_follows_the_tokens_to_their_places(bert: Case) -> None:
    """Two words have two orders: the mean of the draws tells how many were which, the same for every vector."""
    model, draws = bert.model, 8
    enc = model.encode("fruit flies")
    swapped = model.encode("flies fruit").isel(position=[0, 2, 1, 3])
    assert swapped.token.values.tolist() == enc.token.values.tolist()
    found = attnxr.significance(model, enc.isel(head=[1, 3]), null="shuffled", k=3, draws=draws)
    other = model.neighbors(swapped.isel(head=[1, 3]), k=3).distance.values.astype(np.float64)
    numbers = set()
    for name, there in zip(STATISTICS, (other[..., 0], other.mean(-1)), strict=True):
        here = found[name].values.astype(np.float64)
        moved = np.abs(here - there) > 1e-3
        assert moved[1:].any(axis=(0, 1)).all()
        number = (found[f"{name}_null"].values - here)[moved] / (there - here)[moved] * draws
        np.testing.assert_allclose(number, np.rint(number), atol=0.05)
        numbers |= set(np.rint(number))
        nearer = np.where(there <= here, draws, draws - np.rint(number[0]))  # the own order ties, and counts
        np.testing.assert_allclose(found[f"{name}_p"].values[moved], ((1 + nearer) / (1 + draws))[moved])
    assert len(numbers) == 1
    assert 0 < numbers.pop() < draws


def test_ties_count_as_nearer(bert: Case) -> None:
    """A text of one word has one order."""
    found = attnxr.significance(bert.model, bert.model.encode("flies"), null="shuffled", draws=3)
    assert all((found[f"{name}_{kind}"] == 1).all() for name in STATISTICS for kind in "pq")


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize(("within", "families"), [("layer", 3), ("head", 12), ("all", 1)])
def test_q_values_are_those_of_benjamini_and_hochberg(tiny: Case, null: Any, within: Any, families: int) -> None:
    found = attnxr.significance(tiny.model, tiny.enc, null=null, within=within)
    assert found.attrs["within"] == within
    assert found.attrs["family_size"] == found.nearest_p.size // families
    for name in (*STATISTICS, "own"):
        for p, q in zip(*(found[f"{name}_{of}"].values.reshape(families, -1) for of in "pq"), strict=True):
            true = [min(1.0, min(x * p.size / (p <= x).sum() for x in p if x >= value)) for value in p]
            np.testing.assert_allclose(q, true)


def test_a_layer_is_corrected_alone_unless_told_otherwise(tiny: Case) -> None:
    """A layer that is all signal does not lend it to another."""
    enc = tiny.enc.assign(head_encoding=(tiny.enc["head_encoding"].dims, tiny.enc["head_encoding"].values.copy()))
    enc["head_encoding"][0] = enc["value_vector"].values[0]
    together = attnxr.significance(tiny.model, enc)
    alone = attnxr.significance(tiny.model, enc.isel(layer=[2]))
    np.testing.assert_array_equal(together.nearest_q.sel(layer=[2]), alone.nearest_q)
    pooled = attnxr.significance(tiny.model, enc, within="all")
    assert (pooled.nearest_q.sel(layer=2) < together.nearest_q.sel(layer=2)).any()


def test_own_rank_is_its_own_p_value(tiny: Case) -> None:
    """Of a token drawn at random from the vocabulary it is uniform; of one that was written, the smallest."""
    near, rng = tiny.model.neighbors(tiny.enc, k=1), np.random.default_rng(2)
    found = attnxr.significance(tiny.model, tiny.enc, draws=3)
    np.testing.assert_allclose(found.own_p, near.own_rank / tiny.model.vocab_size)
    p = []
    for _ in range(20):
        enc = tiny.model.encode(token_ids=rng.integers(tiny.model.vocab_size, size=30).tolist())
        enc = enc.isel(layer=[0], head=[0])
        random = rng.standard_normal(enc["head_encoding"].shape).astype(np.float32)
        given = enc.assign(head_encoding=(enc["head_encoding"].dims, random))
        p.append(attnxr.significance(tiny.model, given, draws=1).own_p.values.ravel())
    assert scipy.stats.kstest(np.concatenate(p), "uniform").pvalue > 1e-3


def test_both_tails_and_a_whole_layer(tiny: Case) -> None:
    """Opposite to all words everything is farther than chance; on words, a layer as a whole is nearer."""
    moments = tiny.model.moments(tiny.enc, include=["vocabulary_mean"])
    far = tiny.enc.assign(
        head_encoding=-moments["vocabulary_mean"].astype(np.float32) * np.ones((3, 1, 1, 1), np.float32)
    )
    far = far.assign(head_encoding=far["head_encoding"].transpose(*tiny.enc["head_encoding"].dims))
    found = attnxr.significance(tiny.model, far, metric="dot", draws=19)
    nearest = tiny.enc.assign(
        head_encoding=(tiny.enc["head_encoding"].dims, np.repeat(tiny.enc["value_vector"].values[:1], 3, 0))
    )
    near = attnxr.significance(tiny.model, nearest, draws=19)
    assert (near.nearest_far_p == 1).all()
    assert (near.nearest_layer_p == 1 / 20).all()
    # Each draw is nearer or farther, or both where it ties.
    assert ((found.nearest_p + found.nearest_far_p) * 20 >= 21 - 1e-9).all()
    assert found.nearest_far_p.mean() < found.nearest_p.mean()


def test_the_layer_of_rotation_is_calibrated(tiny: Case) -> None:
    rng, p = np.random.default_rng(31), []
    enc = tiny.enc.isel(layer=[1], position=[2])
    vocabulary = tiny.vocabulary("value", 2)
    for seed in range(100):
        random = np.stack([turned(rng, vectors, np.full((1,), 2.0)) for vectors in vocabulary])
        encoding = random[None, :, None].astype(np.float32)
        found = attnxr.significance(
            tiny.model, enc.assign(head_encoding=(enc["head_encoding"].dims, encoding)), draws=19, seed=seed
        )
        p.append(float(found.nearest_layer_p[0]))
    smooth = np.array(p) - rng.uniform(size=100) / 20
    assert scipy.stats.kstest(smooth, "uniform").pvalue > 1e-3


OF_EACH_KIND = [("rotation", "cosine"), ("rotation", "centered_cosine"), ("heads", "dot"), ("shuffled", "cosine")]
SLICES: list[dict[str, Any]] = [
    {"layer": [2, 0], "head": [3, 1]},
    {"position": [6, 2, 2]},
    {"layer": 1},
    {"layer": 1, "head": 2, "position": 3},
    {"position": 4},
]


@pytest.mark.parametrize("chosen", SLICES)
@pytest.mark.parametrize(("null", "metric"), OF_EACH_KIND)
def test_a_selection_has_the_p_values_of_the_selection(tiny: Case, null: Any, metric: Any, chosen: Any) -> None:
    options: dict[str, Any] = {"k": 4, "draws": None if null == "heads" else 5, "metric": metric}
    whole = attnxr.significance(tiny.model, tiny.enc, null=null, **options).isel(chosen)
    if null == "heads" and "head" in chosen:
        with pytest.raises(InputError, match="Select from the result"):
            attnxr.significance(tiny.model, tiny.enc.isel(chosen), null=null, **options)
        return
    part = attnxr.significance(tiny.model, tiny.enc.isel(chosen), null=null, **options)
    of_all = ["own_q", *(f"{name}_{of}" for name in STATISTICS for of in ("q", "layer_p"))]
    xr.testing.assert_allclose(part.drop_vars(of_all), whole.drop_vars(of_all), rtol=1e-5, atol=1e-6)
    assert {**part.attrs, "family_size": 0} == {**whole.attrs, "family_size": 0}


def test_several_texts_are_shuffled_each_for_itself(tiny: Case) -> None:
    texts = ["Fruit flies like a banana.", "Time flies."]
    together = attnxr.significance(tiny.model, tiny.model.encode(texts), null="shuffled", draws=6)
    alone = attnxr.significance(tiny.model, tiny.model.encode(texts[0]), null="shuffled", draws=6)
    first = together.isel(position=together.text_id.values == 0)
    np.testing.assert_allclose(first.nearest_p, alone.nearest_p)
    np.testing.assert_allclose(first.k_mean_null, alone.k_mean_null, atol=1e-6)


@pytest.mark.parametrize("null", ["rotation", "shuffled"])
def test_the_seed_decides(tiny: Case, null: Any) -> None:
    one, again, other = (attnxr.significance(tiny.model, tiny.enc, null=null, draws=6, seed=seed) for seed in (4, 4, 5))
    xr.testing.assert_identical(one, again)
    assert (one.nearest_null != other.nearest_null).any()


def test_many_draws_come_in_parts(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for null, draws in [("rotation", 7), ("heads", None), ("shuffled", 7)]:
        at_once = attnxr.significance(tiny.model, tiny.enc, null=null, draws=draws)
        told: list[float] = []
        with monkeypatch.context() as patched:
            patched.setattr("attnxr.analysis.nulls._BYTES", 4_000)
            in_parts = attnxr.significance(tiny.model, tiny.enc, null=null, draws=draws, progress=told.append)
        xr.testing.assert_allclose(at_once, in_parts, atol=1e-6)
        assert told == sorted(told)
        assert told[-1] == pytest.approx(1)
        assert len(told) > 2


OTHERS = [
    ("gpt2", "value", "key", "heads"),
    ("mistral", "query", "key", "rotation"),
    ("mistral", "key", "value", "rotation"),
    ("gpt2", "hidden", "embedding", "rotation"),
    ("gpt2", "residual", "embedding", "shuffled"),
    ("gpt2", "contribution", "embedding", "shuffled"),
    ("ctrl", "encoding", "value", "rotation"),
]


@pytest.mark.parametrize(("family", "of", "space", "null"), OTHERS)
def test_other_vectors_and_spaces(family: str, of: Any, space: Any, null: Any) -> None:
    """What is observed is what neighbors finds, and dimensions are those of its answer."""
    model = attnxr.Model(FAMILIES[family].build())
    include = ("query_vector", "key_vector", "value_vector", "residual", "hidden")
    causal = False if null == "shuffled" else None
    enc = model.encode(token_ids=[11, 40, 23, 57, 8], include=include, causal=causal)
    near = model.neighbors(enc, k=3, of=of, space=space)
    found = attnxr.significance(model, enc, null=null, k=3, of=of, space=space)
    assert found.nearest_p.dims == near.own_rank.dims
    np.testing.assert_array_equal(found.nearest, near.distance.isel(rank=0))
    np.testing.assert_allclose(found.k_mean, near.distance.mean("rank"), rtol=1e-6)
    assert 0 < found.nearest_p.min() < found.nearest_p.max() <= 1


def test_a_space_without_variance_in_some_directions_is_turned_in_the_others() -> None:
    """Values of half the features: what an encoding has in the other half stays."""
    hf_model = models.tiny_bert()
    value = hf_model.encoder.layer[0].attention.self.value
    value.weight.data[4:8] = 0  # of head 0
    model, oracle, rng = attnxr.Model(hf_model), oracles.Bert(hf_model), np.random.default_rng(8)
    enc = model.encode(token_ids=list(range(20, 58))).isel(layer=[1], head=[0])
    encoding = enc["head_encoding"].values.copy()
    for position in range(38):
        vectors = oracle.vocabulary("value", position)[0]
        assert np.ptp(vectors[:, 4:], axis=0).max() == 0
        encoding[0, 0, position, :4] = turned(rng, vectors[:, :4], np.full((1, 1), 2.0))
        encoding[0, 0, position, 4:] = vectors[0, 4:] + 3
    found = attnxr.significance(
        model, enc.assign(head_encoding=(enc["head_encoding"].dims, encoding)), metric="euclidean"
    )
    for name in STATISTICS:
        assert (found[name] > 6).all()  # sqrt(4 · 3²)
        assert (found[f"{name}_null"] > 6).all()
        smooth = found[f"{name}_p"].values.ravel() - rng.uniform(size=38) / 100
        assert scipy.stats.kstest(smooth, "uniform").pvalue > 1e-3


def test_power_is_whole_on_a_word_and_grows_towards_it(tiny: Case) -> None:
    """At cosine 1 stands the word itself: nothing is nearer, in any draw."""
    enc = tiny.model.encode([tiny.text] * 8).isel(layer=[0, 2])
    found = attnxr.significance_power(tiny.model, enc, cosines=(0.3, 0.8, 1.0), draws=39)
    assert (found.power.sel(cosine=1) == 1).all()
    assert (found.power.diff("cosine") > 0).all()
    assert ((found.cosine_found > 0.3) & (found.cosine_found < 1)).all()
    again = attnxr.significance_power(tiny.model, enc, cosines=(0.3, 0.8, 1.0), draws=39)
    xr.testing.assert_identical(found, again)
    for options in ({"cosines": (0.9, 0.5)}, {"cosines": (2,)}, {"alpha": 0}, {"draws": 9}):
        with pytest.raises(InputError, match="xpected"):
            attnxr.significance_power(tiny.model, enc, **options)


def test_power_equals_the_brute_force(tiny: Case) -> None:
    """Critical distances and mixtures of the oracle's own, in float64."""
    enc, rng, cosine = tiny.model.encode([tiny.text] * 12).isel(layer=[1]), np.random.default_rng(6), 0.8
    found = attnxr.significance_power(tiny.model, enc, cosines=(cosine,), draws=39)
    hits = []
    for position in range(tiny.enc.sizes["position"]):
        for head, vectors in enumerate(tiny.vocabulary("value", position)):
            z = tiny.enc["head_encoding"].values[1, head, position].astype(np.float64)
            null = turned(rng, vectors, np.full((400, 1), mahalanobis(z, vectors)))
            critical = np.quantile(two_statistics("cosine", null, vectors, 1)[0], 0.05)
            word = vectors[rng.integers(len(vectors), size=200)]
            unit = word / np.linalg.norm(word, axis=-1, keepdims=True)
            across = null[:200] - (null[:200] * unit).sum(-1, keepdims=True) * unit
            across /= np.linalg.norm(across, axis=-1, keepdims=True)
            mixed = cosine * unit + np.sqrt(1 - cosine**2) * across
            # The null is of the mixture's own distance from the centroid: that of the turned vector, nearly.
            hits.append((two_statistics("cosine", mixed, vectors, 1)[0] <= critical).mean())
    assert abs(float(found.power[0, 0]) - np.mean(hits)) < 0.1


def test_survives_a_file(tiny: Case, tmp_path: Path) -> None:
    found = attnxr.significance(tiny.model, tiny.enc, draws=3)
    found.to_netcdf(tmp_path / "p.nc")
    with xr.open_dataset(tmp_path / "p.nc") as back:
        xr.testing.assert_identical(back.load(), found)


def test_refuses_before_it_computes_what_could_not_be_significant() -> None:
    """Three spaces: p is 1/3 at best, and 1/6 for a layer. A causal mask: a token's place fixes how much it sees."""
    model = attnxr.Model(FAMILIES["mistral"].build())
    assert model.n_kv_heads < 4
    enc, told = model.encode(token_ids=[11, 40, 23]), []
    with pytest.raises(InputError, match=r"0\.05"):
        attnxr.significance(model, enc, null="heads", progress=told.append)
    with pytest.raises(InputError, match="place"):
        attnxr.significance(model, enc, null="shuffled", progress=told.append)
    assert not told
    both_ways = model.encode(token_ids=[11, 40, 23], causal=False)
    assert attnxr.significance(model, both_ways, null="shuffled", draws=3).nearest_p.max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"within": "text"}, "layer"),
        ({"null": "bootstrap"}, "rotation"),
        ({"draws": 0}, "1 or more"),
        ({"draws": 2.5}, "whole number"),
        ({"seed": -1}, "0 or more"),
        ({"null": "heads", "draws": 9}, "no draws"),
        ({"of": "contribution", "space": "embedding"}, "of='encoding'"),
        ({"null": "heads", "of": "contribution", "space": "embedding"}, "another null"),
        ({"k": 0}, "k=0"),
        ({"metric": "manhattan"}, "manhattan"),
    ],
)
def test_refuses_what_has_no_meaning(tiny: Case, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attnxr.significance(tiny.model, tiny.enc, **options)
    with pytest.raises(InputError, match="expected the xarray Dataset"):
        attnxr.significance(tiny.model, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9, 1.0])
def test_vectors_nearer_than_all_draws_are_found_without_looking_at_all_of_them(
    roberta: Case, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnxr.analysis.nulls._BYTES", 40_000)  # some positions at a time
    options = {"metric": "cosine", "of": "encoding", "space": "value", "vocab_layer": "input", "positional": True}
    asked = nulls.Asked(roberta.model, roberta.enc[["head_encoding"]], "head_encoding", 1, options)
    nearest = np.full(asked.vectors().shape[:3], np.inf)
    for here, found, _, _ in nulls.rotation(asked, 19, 4, lambda fraction: None):
        nearest[:, :, here] = found[:, 0].min(axis=0)
    rng = np.random.default_rng(0)
    observed = np.where(rng.random(nearest.shape) < share, nearest - 1e-4, nearest)
    passed = nulls.nearer_than_all(asked, observed, 19, 4)
    np.testing.assert_array_equal(passed, observed < nearest)
