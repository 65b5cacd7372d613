"""Effects of replacing what heads wrote, held against the definitions and against Model.replace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr.errors import InputError
from tests.support import models
from tests.support.cases import Case

BY = ["zero", "mean", "neighbor", "own", "random"]
DIMS = ("layer", "head", "position")


@pytest.fixture(scope="module")
def masked() -> attnxr.Model:
    """A RoBERTa with a head for language."""
    return attnxr.Model(models.tiny_roberta(transformers.RobertaForMaskedLM), models.byte_level_tokenizer())


@pytest.fixture(scope="module")
def enc(masked: attnxr.Model) -> xr.Dataset:
    return masked.encode("Time flies like an arrow.")


@pytest.fixture(scope="module")
def found(masked: attnxr.Model, enc: xr.Dataset) -> xr.Dataset:
    return attnxr.effects(masked, enc, by=BY, k=2, draws=3, seed=4)


def test_labels_say_what_was_put_there(masked: attnxr.Model, enc: xr.Dataset, found: xr.Dataset) -> None:
    labels = ["zero", "mean", "neighbor 1", "neighbor 2", "own", "random 1", "random 2", "random 3"]
    assert found["replacement"].values.tolist() == labels
    assert found["measure"].values.tolist() == ["hidden_change", "hidden_change_anywhere", "kl", "kl_anywhere"]
    assert found.recovered.dims == (*DIMS, "replacement", "measure")
    ids = found.replacement_id
    assert (ids.sel(replacement=["zero", "mean"]) == -1).all()
    near = masked.neighbors(enc, k=2, vocab_layer="same", metric="centered_cosine")
    np.testing.assert_array_equal(ids.sel(replacement=["neighbor 1", "neighbor 2"]), near.neighbor_id)
    np.testing.assert_array_equal(ids.sel(replacement="own")[1, 2], enc.token_id)
    token = found.replacement_token.sel(replacement="neighbor 2")
    np.testing.assert_array_equal(token, near.neighbor.sel(rank=2))
    np.testing.assert_array_equal(found.replacement_text.sel(replacement="neighbor 1"), near.neighbor_text.sel(rank=1))
    assert (found.replacement_text.sel(replacement="zero") == "").all()


def test_effects_are_those_of_the_vectors_of_the_definition(
    masked: attnxr.Model, enc: xr.Dataset, found: xr.Dataset
) -> None:
    """The vectors are made here from a float64 pass over the vocabulary, by loops."""
    base = masked.hf_model.roberta
    z = enc.head_encoding.values.astype(float)
    for layer, head, position in [(0, 1, 2), (1, 0, 5), (2, 3, 0)]:
        at = {"layer": layer, "head": head, "position": position}
        one = z[layer, head, position]
        u = own_encodings(base, layer, position, masked.vocab_size)[:, 8 * head : 8 * (head + 1)]
        centre = u.mean(axis=0)
        vectors = {"zero": 0 * one, "mean": z[layer, head].mean(axis=0)}
        for label in ("neighbor 1", "neighbor 2", "own", "random 3"):
            word = u[int(found.replacement_id.sel(replacement=label).isel(at))] - centre
            vectors[label] = centre + np.linalg.norm(one - centre) * word / np.linalg.norm(word)
        by = xr.DataArray(np.array(list(vectors.values())), dims=("replacement", "feature"))
        expected = masked.replace(enc.isel({name: [i] for name, i in at.items()}), by).squeeze(DIMS)
        kept = found.sel(replacement=list(vectors)).isel(at)
        for name in expected.data_vars:
            np.testing.assert_allclose(kept[name], expected[name], rtol=1e-3, atol=1e-6)
        for name in found["measure"].values:
            share = 1 - expected[name] / expected[name][1]
            np.testing.assert_allclose(kept.recovered.sel(measure=name), share, rtol=1e-2, atol=1e-3)


def own_encodings(base: Any, layer: int, position: int, size: int) -> np.ndarray:
    """What a layer's own value projection makes of the embedding of each vocabulary entry at a position: (V, H · d)."""
    with torch.no_grad():
        stream = base.embeddings(
            input_ids=torch.arange(size)[:, None], position_ids=torch.full((size, 1), position + 2)
        )
        return base.encoder.layer[layer].attention.self.value(stream)[:, 0].double().numpy()


def test_a_head_that_attends_only_to_itself_wrote_its_own_token() -> None:
    """At layer 0, in a text of one token: exactly nothing changes; at layer 1 it does, as the stream is another."""
    model = attnxr.Model(models.tiny_bert(transformers.BertForMaskedLM), models.wordpiece_tokenizer())
    alone = model.encode(token_ids=[77])
    assert (alone.attention == 1).all()
    found = attnxr.effects(model, alone, by=["own", "neighbor", "zero"])
    for name in ("hidden_change", "hidden_change_anywhere", "kl", "kl_anywhere", "logit_change"):
        assert (found[name].sel(layer=0, replacement=["own", "neighbor 1"]) == 0).all(), name
        assert (found[name].sel(layer=1, replacement="own") != 0).all(), name
        assert (found[name].sel(layer=0, replacement="zero") != 0).all(), name
    assert (found.replacement_id.sel(layer=0, replacement="neighbor 1") == 77).all()
    # The mean of one position is what stands there: it has no effect, of which no share is recovered.
    assert found.recovered.isnull().all()


def test_one_head_that_attends_only_to_itself_among_others() -> None:
    """Keys and queries of head 2 of layer 0 are the position's, so large that it sees nothing else."""
    hf_model = models.tiny_bert(transformers.BertForMaskedLM)
    attention = hf_model.bert.encoder.layer[0].attention.self
    text = [77, 90, 102, 120, 77]
    ids = torch.tensor([text])
    with torch.no_grad():
        stream = hf_model.bert.embeddings(input_ids=ids)[0]
        # What maps the five streams to five orthogonal directions.
        to = torch.linalg.pinv(stream) @ (30 * torch.eye(8)[: len(text)])
        for projection in (attention.query, attention.key):
            projection.weight[16:24] = to.T
            projection.bias[16:24] = 0
    model = attnxr.Model(hf_model, models.wordpiece_tokenizer())
    enc = model.encode(token_ids=text)
    weights = enc.attention.values[0]
    np.testing.assert_array_equal(weights[2], np.eye(5))
    assert weights[1].max() < 1
    change = attnxr.effects(model, enc, by="own").hidden_change_anywhere.isel(layer=0, replacement=0)
    assert (change.sel(head=2) == 0).all()
    assert (change.sel(head=[0, 1, 3]) > 1e-4).all()


def test_the_first_position_of_a_causal_model_wrote_its_own_token() -> None:
    hf_model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4, n_positions=20)
    )
    model = attnxr.Model(models.randomise(hf_model, seed=2))
    found = attnxr.effects(model, model.encode(token_ids=[5, 17, 80]), by="own").isel(replacement=0, layer=0)
    assert (found.hidden_change.sel(position=0) == 0).all()
    assert (found.kl_anywhere.sel(position=0) == 0).all()
    assert (found.hidden_change.sel(position=[1, 2]) > 1e-5).all()


def test_a_selection_has_the_same_numbers(masked: attnxr.Model, enc: xr.Dataset, found: xr.Dataset) -> None:
    mean = enc.head_encoding.mean("position")
    part = {"layer": [2, 1], "head": [3], "position": [4, 0]}
    options: dict[str, Any] = {"by": BY, "k": 2, "draws": 3, "seed": 4, "mean": mean}
    selected = attnxr.effects(masked, enc.isel(part), **options)
    xr.testing.assert_allclose(selected, found.isel(part), rtol=1e-3, atol=1e-5)
    xr.testing.assert_equal(selected.replacement_id, found.isel(part).replacement_id)
    at = {"layer": 1, "head": 0, "position": 3}
    one = attnxr.effects(masked, enc.isel(at), **options)
    assert one.hidden_change.dims == ("replacement",)
    xr.testing.assert_allclose(one, found.isel(at), rtol=1e-3, atol=1e-5)


def test_other_seeds_draw_other_words(masked: attnxr.Model, enc: xr.Dataset, found: xr.Dataset) -> None:
    options: dict[str, Any] = {"by": "random", "draws": 3}
    again, other = (attnxr.effects(masked, enc.isel(layer=[0]), **options, seed=seed) for seed in (4, 5))
    drawn = found.replacement_id.isel(layer=[0]).sel(replacement=again["replacement"])
    np.testing.assert_array_equal(again.replacement_id, drawn)
    assert (other.replacement_id != drawn).mean() > 0.9
    assert len(np.unique(drawn)) > 50


def test_an_array_of_the_callers(masked: attnxr.Model, enc: xr.Dataset) -> None:
    both = xr.concat([enc.head_encoding, 2 * enc.head_encoding], xr.Variable("factor", ["once", "twice"]))
    mean = 0 * enc.head_encoding.isel(position=0, drop=True)
    found = attnxr.effects(masked, enc, by=both, mean=mean)
    assert found["replacement"].values.tolist() == ["once", "twice"]
    assert (found.kl.sel(replacement="once") == 0).all()
    assert (found.recovered.sel(replacement="once") == 1).all()
    twice = masked.replace(enc, 2 * enc.head_encoding)
    np.testing.assert_allclose(found.kl.sel(replacement="twice"), twice.kl, rtol=1e-4, atol=1e-9)
    zero = masked.replace(enc, mean)
    share = 1 - twice.hidden_change / zero.hidden_change
    np.testing.assert_allclose(
        found.recovered.sel(replacement="twice", measure="hidden_change"), share, rtol=1e-3, atol=1e-4
    )
    assert (found.replacement_id == -1).all()
    assert (found.replacement_token == "").all()


def test_an_array_beside_named_kinds_keeps_its_place(masked: attnxr.Model, enc: xr.Dataset) -> None:
    here = enc.isel(layer=[1])
    twice = 2 * here.head_encoding
    found = attnxr.effects(masked, here, by=["own", twice, "zero", "own"])
    assert found["replacement"].values.tolist() == ["own", "given", "zero"]
    apart = [attnxr.effects(masked, here, by=by) for by in ("own", twice, "zero")]
    for i, one in enumerate(apart):
        xr.testing.assert_allclose(found.isel(replacement=[i]), one, rtol=1e-4, atol=1e-8)


def test_whole_heads_at_once(masked: attnxr.Model, enc: xr.Dataset) -> None:
    found = attnxr.effects(masked, enc, by=["zero", "own"], together=["position"])
    assert found.kl_anywhere.dims == ("layer", "head", "replacement")
    assert found["measure"].values.tolist() == ["hidden_change_anywhere", "kl_anywhere"]
    assert "replacement_id" not in found
    expected = masked.replace(enc, 0 * enc.head_encoding, together=["position"])
    np.testing.assert_allclose(found.kl_anywhere.sel(replacement="zero"), expected.kl_anywhere, rtol=1e-4)


def test_it_comes_back_from_a_file_as_it_was(found: xr.Dataset, tmp_path: Path) -> None:
    found.to_netcdf(tmp_path / "it.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "it.nc", engine="h5netcdf") as opened:
        xr.testing.assert_identical(opened.load(), found)


def test_several_texts(masked: attnxr.Model) -> None:
    several = masked.encode(["Time flies like an arrow.", "A dog!"])
    found = attnxr.effects(masked, several, by=["mean", "neighbor"])
    assert found.kl.dims == (*DIMS, "replacement")
    assert "text_id" in found.coords
    both = several.head_encoding.mean("position")
    expected = masked.replace(several, both)
    np.testing.assert_allclose(found.kl.sel(replacement="mean"), expected.kl, rtol=1e-4, atol=1e-9)


def test_progress_is_told_of_search_and_passes(masked: attnxr.Model, enc: xr.Dataset) -> None:
    told: list[float] = []
    attnxr.effects(masked, enc.isel(layer=[0]), progress=told.append)
    assert told == sorted(told)
    assert told[0] <= 0.1 < told[-1] == pytest.approx(1.0)
    assert len(set(told)) > 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "word"}, "by='word'"),
        ({"by": []}, "one or more"),
        ({"k": 0}, "k=0"),
        ({"k": 10**6}, "k=1000000"),
        ({"draws": 0}, "draws=0"),
        ({"seed": -1}, "seed=-1"),
        ({"metric": "near"}, "metric='near'"),
        ({"metric": "near", "by": "zero"}, "metric='near'"),
        ({"vocab_layer": "last", "by": "zero"}, "vocab_layer='last'"),
        ({"mean": 3}, "mean was given as int"),
        ({"together": ["word"]}, "together='word'"),
    ],
)
def test_wrong_options_are_refused(
    masked: attnxr.Model, enc: xr.Dataset, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        attnxr.effects(masked, enc, **options)


def test_arrays_that_do_not_fit_are_refused(masked: attnxr.Model, enc: xr.Dataset, bert: Case) -> None:
    z = enc.head_encoding
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"mean": z.isel(feature=[0]).mean("position")}, "mean has vectors of 1 features"),
        ({"mean": z.expand_dims(a=2)}, "mean has dimensions"),
        ({"mean": z.isel(layer=[0])}, "mean only the layers"),
        ({"by": z.expand_dims(a=2, b=2)}, "at most one"),
        ({"by": z.where(z > 0)}, "infinite or NaN"),
    ]
    for options, message in wrong:
        with pytest.raises(InputError, match=message):
            attnxr.effects(masked, enc, **options)
    with pytest.raises(InputError, match="fingerprint"):
        attnxr.effects(masked, bert.enc)
    with pytest.raises(InputError, match="joined"):
        attnxr.effects(masked, enc.assign_coords(position=enc.position + 90))


def test_the_nearest_words_of_minilm_say_more_than_random_ones_and_less_than_the_mean(minilm: Case) -> None:
    """The finding that this was built for, on a trained model."""
    model = minilm.model
    enc = model.encode(models.SENTENCE).isel(layer=[1, 5], head=slice(0, 12, 3))
    mean = model.encode(models.SENTENCE).head_encoding.mean("position")
    found = attnxr.effects(model, enc, by=["mean", "neighbor", "random"], mean=mean)
    assert list(found.data_vars)[:2] == ["hidden_change", "hidden_change_anywhere"]
    assert "kl" not in found  # it has no head for language
    share = found.recovered.sel(measure="hidden_change").median(("head", "position"))
    assert (share.sel(replacement="mean") == 0).all()
    nearest, random = (share.sel(replacement=label).values for label in ("neighbor 1", "random 1"))
    assert (nearest > random + 0.5).all()
    assert (nearest < 0.3).all()
