"""A pursuit is the slow float64 one, finds what a vector was made of, and is held against chance."""

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
from attnxr.options import VARIABLE
from tests.analysis.test_significance import drawn_by_chance
from tests.support import models, oracles
from tests.support.cases import HEAD_VECTORS, Case
from tests.support.families import FAMILIES, build
from tests.support.oracles import Array
from tests.support.witness import Witness

TEXT = [11, 40, 23, 40, 57, 8]


def check(found: xr.Dataset, vectors: Array, vocabulary: Array) -> list[bool]:
    """Check the pursuits of vectors (…, d) among entries (V, d); tells which are those of the oracle, ties aside."""
    return [
        oracles.check_pursuit(
            found.entry_id.values[index], found.weight.values[index], found.explained.values[index], z, vocabulary
        )
        for index, z in ((index, vectors[index]) for index in np.ndindex(*vectors.shape[:-1]))
    ]


def with_encodings(enc: xr.Dataset, vectors: Array) -> xr.Dataset:
    return enc.assign(head_encoding=(enc["head_encoding"].dims, vectors.astype(np.float32)))


@pytest.mark.parametrize("positional", [True, False])
@pytest.mark.parametrize("space", HEAD_VECTORS)
def test_equals_the_slow_pursuit(case: Case, space: Any, positional: bool) -> None:
    chosen = {"layer": [0, -1], "head": [0, 3], "position": [0, 3]}
    enc = case.enc.isel(chosen)
    found = attnxr.decompose(case.model, enc, n=6, space=space, positional=positional)
    assert found.entry_id.dims == ("layer", "head", "position", "step")
    same = []
    for i, position in enumerate(chosen["position"]):
        vocabulary = case.vocabulary(space, position, positional)
        for h, head in enumerate(chosen["head"]):
            here = {"head": h, "position": i}
            same += check(found.isel(here), enc["head_encoding"].isel(here).values, vocabulary[head])
    assert np.mean(same) > 0.9


FAMILY_CASES = [
    pytest.param("mistral", "encoding", "value", 0, id="shared heads"),
    pytest.param("mistral", "value", "value", 0, id="vectors of shared heads"),
    pytest.param("mistral", "query", "key", 0, id="turned keys of shared heads"),
    pytest.param("qwen3", "encoding", "query", 0, id="turned queries"),
    pytest.param("gpt2", "encoding", "value", "same", id="each layer's own"),
    pytest.param("ctrl", "encoding", "value", 0, id="one pass for each position"),
    pytest.param("roberta", "hidden", "embedding", 0, id="the stream"),
]


@pytest.mark.parametrize(("family", "of", "space", "vocab_layer"), FAMILY_CASES)
def test_equals_it_on_every_path(family: str, of: Any, space: Any, vocab_layer: Any) -> None:
    model = attnxr.Model(FAMILIES[family].build())
    witness = Witness(FAMILIES[family])
    enc = model.encode(token_ids=TEXT, include=[] if of == "encoding" else [VARIABLE[of]])
    asked: Any = "input" if vocab_layer == 0 else vocab_layer
    found = attnxr.decompose(model, enc, n=4, of=of, space=space, vocab_layer=asked, include="approximation")
    vectors = enc[VARIABLE[of]].values.astype(np.float64)
    mean = model.moments(enc, of=of, space=space, vocab_layer=asked, include=["vocabulary_mean"]).vocabulary_mean
    left = np.linalg.norm(vectors[..., None, :] - found.approximation.values, axis=-1)
    size = np.linalg.norm(vectors - mean.values, axis=-1)
    np.testing.assert_allclose(1 - (left / size[..., None]) ** 2, found.explained, rtol=0, atol=1e-5)
    same = []
    for layer, position in [(0, 0), (2, 4)]:
        vocabulary = witness.vocabulary(space, TEXT, position, layer if vocab_layer == "same" else vocab_layer)
        here = found.isel(layer=layer, position=position)
        if of == "hidden":
            same += check(here, vectors[layer, position], vocabulary[0])
            continue
        for head in range(vectors.shape[1]):
            of_head = here.isel({here.entry_id.dims[0]: head})
            same += check(
                of_head, vectors[layer, head, position], vocabulary[head * len(vocabulary) // len(vectors[0])]
            )
    assert np.mean(same) > 0.7


def test_contributions_are_pursued_among_the_embeddings(bert: Case) -> None:
    of: Any = {"of": "contribution", "space": "embedding"}
    found = attnxr.decompose(bert.model, bert.enc, n=4, **of)
    vocabulary = bert.oracle.embed(np.arange(bert.model.vocab_size), 2)
    vector = bert.model.vocabulary_encodings(bert.enc, [0], **of).vector.isel(position=2).values
    assert all(check(found.isel(position=2), vector, vocabulary))
    with pytest.raises(InputError, match=r"draws=9 was given with of='contribution'"):
        attnxr.decompose(bert.model, bert.enc, draws=9, **of)


def planted(model: attnxr.Model, enc: xr.Dataset, entries: Array, weights: Array) -> xr.Dataset:
    """Encodings in which every vector is the mean encoding plus weighted entries (head, step)."""
    ids = xr.DataArray(entries, dims=("head", "step"), coords={"head": enc["head"]})
    u = model.vocabulary_encodings(enc, ids).vocabulary_encoding.transpose(..., "step", "feature").values
    mean = model.moments(enc, include=["vocabulary_mean"]).vocabulary_mean.values
    return with_encodings(enc, mean + np.einsum("s,...sf->...f", weights, u - mean[..., None, :]))


def test_what_a_vector_was_made_of_is_found() -> None:
    """Of 40 entries in 64 features no few make up for others: all three are found, and nothing else."""
    model = attnxr.Model(models.tiny_bert(vocab_size=40, hidden_size=256))
    enc = model.encode(token_ids=[11, 7, 30, 22])
    rng = np.random.default_rng(0)
    entries = np.stack([rng.choice(40, 3, replace=False) for _ in range(4)])
    weights = np.array([4.0, 2.0, 1.0])
    found = attnxr.decompose(model, planted(model, enc, entries, weights), n=6)
    order = found.entry_id.values[..., :3].argsort(-1)
    as_made = np.broadcast_to(np.sort(entries)[:, None], (3, 4, 4, 3))
    np.testing.assert_array_equal(np.take_along_axis(found.entry_id.values, order, -1), as_made)
    of_made = np.broadcast_to(weights[entries.argsort(-1)][:, None], (3, 4, 4, 3))
    np.testing.assert_allclose(np.take_along_axis(found.weight.values, order, -1), of_made, rtol=1e-4)
    np.testing.assert_allclose(found.explained[..., 2:], 1, atol=1e-9)
    assert (found.entry_id[..., 3:] == -1).all()
    assert np.isnan(found.weight[..., 3:]).all()
    assert (found.entry[..., 3:] == "").all()
    assert (found.entry_text[..., 3:] == "").all()
    assert not found.in_sequence[..., 3:].any()


def test_one_entry_alone_is_found_in_one_step(tiny: Case) -> None:
    entries = np.arange(20, 20 + tiny.enc.sizes["head"])[:, None]
    found = attnxr.decompose(tiny.model, planted(tiny.model, tiny.enc, entries, np.array([2.5])))
    np.testing.assert_array_equal(found.entry_id[..., 0], np.broadcast_to(entries, found.entry_id.shape[:-1]))
    np.testing.assert_allclose(found.weight[..., 0], 2.5, rtol=1e-5)
    assert (found.entry_id[..., 1:] == -1).all()


def test_the_vocabularys_mean_is_made_of_nothing(tiny: Case) -> None:
    """What float32 leaves of ū is no entry; nor is anything where z is the mean to the last bit."""
    mean = tiny.model.moments(tiny.enc, include=["vocabulary_mean"]).vocabulary_mean.values
    found = attnxr.decompose(tiny.model, with_encodings(tiny.enc, mean), draws=4)
    assert (found.entry_id == -1).all()
    assert (np.isnan(found.explained) | (found.explained == 0)).all()
    assert (np.isnan(found.explained_p) | (found.explained_p == 1)).all()


def test_shares_rise_and_a_shorter_pursuit_is_the_start_of_a_longer_one(tiny: Case) -> None:
    d = tiny.enc.sizes["feature"]
    found = attnxr.decompose(tiny.model, tiny.enc, n=d)
    assert (found.explained.diff("step") >= -1e-12).all()
    assert ((found.explained > 0) & (found.explained <= 1)).all()
    assert (found.explained.isel(step=-1).mean() > 0.95).item()
    assert (found.weight.fillna(0) >= 0).all()
    shorter = attnxr.decompose(tiny.model, tiny.enc, n=2)
    xr.testing.assert_identical(shorter.entry_id, found.entry_id.isel(step=slice(2)))
    xr.testing.assert_identical(shorter.explained, found.explained.isel(step=slice(2)))
    assert (shorter.weight != found.weight.isel(step=slice(2))).any()


def test_approximations_are_the_sums(tiny: Case) -> None:
    found = attnxr.decompose(tiny.model, tiny.enc, n=3, vocab_layer="same", include=["approximation"])
    assert found.approximation.dims == ("layer", "head", "position", "step", "feature")
    assert found.approximation.dtype == np.float32
    u = tiny.model.vocabulary_encodings(tiny.enc, found.entry_id, vocab_layer="same").vocabulary_encoding
    mean = tiny.model.moments(tiny.enc, vocab_layer="same", include=["vocabulary_mean"]).vocabulary_mean
    sums = mean + (found.weight * (u - mean)).sum("step")
    np.testing.assert_allclose(found.approximation.isel(step=-1), sums.transpose(*mean.dims), atol=1e-5)
    assert "approximation" not in attnxr.decompose(tiny.model, tiny.enc, n=3)


def test_names_are_those_of_the_ids(tiny: Case) -> None:
    found = attnxr.decompose(tiny.model, tiny.enc, n=2)
    ids = found.entry_id.values
    assert (ids >= 0).all()
    np.testing.assert_array_equal(found.entry, tiny.model.vocabulary.token[ids])
    np.testing.assert_array_equal(found.entry_text, tiny.model.vocabulary.text[ids])
    np.testing.assert_array_equal(found.in_sequence, np.isin(ids, tiny.token_ids))
    assert found.attrs["n"] == 2
    assert (found.attrs["of"], found.attrs["space"], found.attrs["vocab_layer"]) == ("encoding", "value", "input")


def test_several_texts_equal_each_alone(tiny: Case) -> None:
    texts = ["Time flies.", "Fruit flies like a banana."]
    together = attnxr.decompose(tiny.model, tiny.model.encode(texts), n=3, draws=3)
    for i, text in enumerate(texts):
        alone = attnxr.decompose(tiny.model, tiny.model.encode(text), n=3)
        here = together.isel(position=together.text_id.values == i)
        for name in ("entry_id", "in_sequence"):
            np.testing.assert_array_equal(here[name], alone[name])
        for name in ("weight", "explained"):
            np.testing.assert_allclose(here[name], alone[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "chosen",
    [
        {"head": [2, 0], "position": [4, 1]},
        {"layer": 1, "head": 3, "position": 2},
        {"layer": slice(1, 3), "position": 5},
        {"head": 1},
    ],
)
@pytest.mark.parametrize("vocab_layer", ["input", "same"])
def test_a_selection_gives_the_selection(tiny: Case, chosen: dict[str, Any], vocab_layer: Any) -> None:
    options: Any = {"n": 3, "draws": 5, "vocab_layer": vocab_layer, "include": "approximation"}
    expected = attnxr.decompose(tiny.model, tiny.enc, **options).isel(chosen)
    found = attnxr.decompose(tiny.model, tiny.enc.isel(chosen), **options)
    xr.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert found.attrs == expected.attrs


def test_grouped_heads_of_a_real_tokenizer(tmp_path: Path) -> None:
    hf_model = build("llama", {"vocab_size": models.VOCABULARY_SIZE, "num_key_value_heads": 2})
    model = attnxr.Model(hf_model, models.byte_level_tokenizer())
    enc = model.encode(models.SENTENCE, include=["value_vector"])
    found = attnxr.decompose(model, enc, of="value", n=2, draws=3)
    assert found.explained_p.dims == ("layer", "kv_head", "position", "step")
    # Of layer 0, a value is its own token's vocabulary encoding, wherever it stands.
    own = found.isel(layer=0, step=0)
    np.testing.assert_array_equal(own.entry_id, np.broadcast_to(enc.token_id, own.entry_id.shape))
    np.testing.assert_allclose(own.weight, 1, rtol=1e-5)
    assert (found.entry_id.isel(layer=0, step=1) == -1).all()
    found.to_netcdf(tmp_path / "it.nc")
    with xr.open_dataset(tmp_path / "it.nc") as opened:
        xr.testing.assert_identical(opened.load(), found)


def test_p_values_are_calibrated(roberta: Case) -> None:
    """2,240 vectors drawn from the null itself: each of their p-values is uniform."""
    enc, draws = drawn_by_chance(roberta, np.random.default_rng(12)), 19
    found = attnxr.decompose(roberta.model, enc, n=3, draws=draws)
    assert found.attrs["null"] == "rotation"
    assert found.explained_p.size >= 6000
    for step in range(3):
        p = found.explained_p.values[..., step].ravel() * (1 + draws)
        np.testing.assert_allclose(p, np.rint(p), atol=1e-9)
        counts = np.bincount(np.rint(p).astype(int), minlength=2 + draws)[1:]
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_p_values_are_counted_from_the_draws(tiny: Case) -> None:
    """Where an entry stands alone no draw is as near; a draw's shares are those of the slow pursuit."""
    one = planted(tiny.model, tiny.enc, np.full((4, 1), 33), np.array([1.0]))
    alone = attnxr.decompose(tiny.model, one, n=2, draws=19)
    assert (alone.explained_p.isel(step=0) == 1 / 20).all()
    for seed in (0, 1):
        found = attnxr.decompose(tiny.model, tiny.enc, n=2, draws=9, seed=seed)
        again = attnxr.decompose(tiny.model, tiny.enc, n=2, draws=9, seed=seed)
        xr.testing.assert_identical(found, again)
    other = attnxr.decompose(tiny.model, tiny.enc, n=2, draws=9, seed=0)
    assert (found.explained_p != other.explained_p).any()
    # Of as many entries as there are features all is explained, by any draw too: no share is larger than another.
    all_of_it = attnxr.decompose(tiny.model, tiny.enc.isel(layer=[1], position=[2]), n=8, draws=9)
    explained = all_of_it.explained.values > 1 - 1e-9
    assert (all_of_it.explained_p.values[explained] > 0.1).all()


def test_layer_0_is_known_but_for_the_positions() -> None:
    """The numbers that the docstring gives."""
    model = attnxr.load_model("minilm")
    enc = model.encode(models.SENTENCE).isel(layer=[0])
    tokens = np.unique(enc.token_id.values)
    mass = np.stack([enc.attention.values[..., enc.token_id.values == t].sum(-1) for t in tokens], axis=-1)
    u = model.vocabulary_encodings(enc, tokens.tolist()).vocabulary_encoding.values
    of_position = with_encodings(enc, np.einsum("...t,...tf->...f", mass, u))
    expected = {"text": (0.27, 0.64, 0.26, 0.53), "position": (0.43, 0.97, 0.33, 0.79)}
    most, strong = tokens[mass.argmax(-1)], mass.max(-1) > 0.5
    for given, name in ((enc, "text"), (of_position, "position")):
        found = attnxr.decompose(model, given)
        first = found.entry_id.values[..., 0] == most
        here = found.entry_id.values[..., None] == tokens
        weights = (here * found.weight.fillna(0).values[..., None]).sum(-2)
        numbers = (
            first.mean(),
            first[strong].mean(),
            (mass * here.any(-2)).sum(-1).mean(),
            np.corrcoef(weights.ravel(), mass.ravel())[0, 1],
        )
        np.testing.assert_allclose(numbers, expected[name], atol=0.015)
        if name == "text":
            assert abs(found.in_sequence.values[..., 0].mean() - 0.71) < 0.015
            assert abs(found.explained.isel(step=-1).mean() - 0.95) < 0.01
    options = {"of": "encoding", "space": "value", "vocab_layer": "input", "positional": True}
    asked = nulls.Asked(model, enc, "head_encoding", 1, options | {"metric": "centered_cosine"})
    ((_, by_chance, _),) = nulls.turned(asked, 10, 0, lambda fraction: None)
    assert abs(model.pursuit(by_chance).explained.isel(step=-1).mean() - 0.94) < 0.01


def test_progress_is_told_and_can_cancel(tiny: Case) -> None:
    told: list[float] = []
    attnxr.decompose(tiny.model, tiny.enc, n=3, vocab_layer="same", draws=2, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < 0.2
    assert told[-1] == 1

    def cancel(fraction: float) -> None:
        if fraction > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attnxr.decompose(tiny.model, tiny.enc, n=3, progress=cancel)


def test_parts_of_a_text_are_pursued_as_the_whole(tiny: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = attnxr.decompose(tiny.model, tiny.enc, n=3)
    monkeypatch.setattr("attnxr.query.pursuit._BYTES", 1)
    xr.testing.assert_identical(attnxr.decompose(tiny.model, tiny.enc, n=3), whole)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 9}, "n=9 was given; expected a whole number, 1 to 8"),
        ({"n": 2.5}, "n=2.5"),
        ({"n": True}, "n=True"),
        ({"draws": -1}, "draws=-1"),
        ({"seed": -1, "draws": 1}, "seed=-1"),
        ({"include": "rest"}, "rest"),
        ({"of": "words"}, "words"),
        ({"space": "embedding"}, "no meaning"),
        ({"vocab_layer": 7}, "vocab_layer=7"),
    ],
)
def test_bad_options_are_refused(tiny: Case, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        attnxr.decompose(tiny.model, tiny.enc, **options)


def test_encodings_of_another_model_are_refused(roberta: Case, bert: Case) -> None:
    with pytest.raises(InputError, match="fingerprint"):
        attnxr.decompose(roberta.model, bert.enc)
    with pytest.raises(InputError, match="DataArray"):
        attnxr.decompose(roberta.model, roberta.enc.head_encoding)
