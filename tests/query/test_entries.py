"""Encodings of chosen vocabulary entries are the brute force's, on every path, and agree with the neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from attnxr.options import VARIABLE
from tests.query.test_grid import with_head
from tests.query.test_moments import EVERY_PATH
from tests.support import models, oracles
from tests.support.cases import HEAD_VECTORS, Case
from tests.support.families import FAMILIES, build
from tests.support.witness import Witness

TEXT = [11, 40, 23, 40, 57, 8]


def close(found: xr.DataArray, true: oracles.Array) -> None:
    assert oracles.relative_error(found.values, true) < 1e-5


@pytest.mark.parametrize("positional", [True, False])
@pytest.mark.parametrize("space", HEAD_VECTORS)
def test_equal_those_of_the_brute_force(case: Case, space: Any, positional: bool) -> None:
    near = case.model.neighbors(case.enc, k=4, space=space, positional=positional)
    found = case.model.vocabulary_encodings(case.enc, near.neighbor_id, space=space, positional=positional)
    u = found.vocabulary_encoding
    assert u.dims == ("layer", "head", "position", "rank", "feature")
    assert u.dtype == found.vector.dtype == np.float64
    np.testing.assert_array_equal(found.vector, case.enc["head_encoding"])
    for position in (0, 3):
        vocabulary = case.vocabulary(space, position, positional)
        here = near.neighbor_id.isel(position=position)
        for head in range(len(vocabulary)):
            close(u.isel(head=head, position=position), vocabulary[head][here.isel(head=head)])


@pytest.mark.parametrize("metric", oracles.METRICS[:3])
def test_distances_between_them_are_those_of_the_neighbours(tiny: Case, metric: Any) -> None:
    near = tiny.model.neighbors(tiny.enc, k=5, metric=metric)
    found = tiny.model.vocabulary_encodings(tiny.enc, near.neighbor_id)
    for index in np.ndindex(*near.own_rank.shape):
        true = oracles.distances(metric, found.vector.values[index], found.vocabulary_encoding.values[index])
        np.testing.assert_allclose(near.distance.values[index], true, rtol=1e-5, atol=1e-6)


FAMILY_CASES = [*EVERY_PATH, pytest.param("roberta", "contribution", "embedding", 0, id="contributions")]


@pytest.mark.parametrize(("family", "of", "space", "vocab_layer"), FAMILY_CASES)
def test_are_where_the_vectors_are_on_every_path(family: str, of: Any, space: Any, vocab_layer: Any) -> None:
    model = attnxr.Model(FAMILIES[family].build())
    witness = Witness(FAMILIES[family])
    enc = model.encode(token_ids=TEXT, include=[] if of in ("encoding", "contribution") else [VARIABLE[of]])
    asked: Any = "input" if vocab_layer == 0 else vocab_layer
    ids = [0, 40, 66]
    found = model.vocabulary_encodings(enc, ids, of=of, space=space, vocab_layer=asked).vocabulary_encoding
    for layer, position in [(0, 0), (2, 4)]:
        vocabulary = witness.vocabulary(space, TEXT, position, layer if vocab_layer == "same" else vocab_layer)
        here = found.isel(layer=layer, position=position)
        if of == "hidden":
            close(here, vocabulary[0][ids])
            continue
        heads = here.shape[0]
        for head in range(heads):
            close(here[head], vocabulary[head * len(vocabulary) // heads][ids])


@pytest.mark.parametrize("several", [False, True])
def test_own_tokens_of_layer_0_have_the_models_own_vectors(several: bool) -> None:
    """Turned as the attention is handed them, of several texts too."""
    hf_model = build("llama", {"vocab_size": models.VOCABULARY_SIZE, "num_key_value_heads": 2})
    model = attnxr.Model(hf_model, models.byte_level_tokenizer())
    enc = model.encode(["Time flies.", models.SENTENCE] if several else models.SENTENCE, include=["key_vector"])
    found = model.vocabulary_encodings(enc, enc.token_id, of="key", space="key").isel(layer=0)
    close(found.vocabulary_encoding, enc["key_vector"].isel(layer=0).values)
    close(found.vocabulary_encoding, found.vector.values)


def test_a_contribution_is_w_o_of_the_encoding() -> None:
    family = FAMILIES["roberta"]
    model = attnxr.Model(family.build())
    enc = model.encode(token_ids=TEXT)
    vector = model.vocabulary_encodings(enc, [0], of="contribution", space="embedding").vector
    weight = family.build().get_submodule(family.output.format(1)).weight.detach().double().numpy()
    z = enc["head_encoding"].isel(layer=1).values
    d = z.shape[-1]
    for head in range(len(z)):
        close(vector.isel(layer=1, head=head), z[head] @ weight[:, head * d : (head + 1) * d].T)


def test_output_embeddings_are_the_models_rows() -> None:
    hf_model, model, enc = with_head("gpt2")
    found = model.vocabulary_encodings(enc, [3, 5], of="hidden", space="unembedding")
    assert found.vocabulary_encoding.dims == ("layer", "position", "entry", "feature")
    rows = hf_model.get_output_embeddings().weight.detach().numpy()[[3, 5]]
    np.testing.assert_array_equal(found.vocabulary_encoding.isel(layer=1, position=2), rows)
    np.testing.assert_array_equal(found.vector, enc["hidden"])


def test_several_texts_equal_each_alone(tiny: Case) -> None:
    texts = ["Time flies.", "Fruit flies like a banana."]
    together = tiny.model.encode(texts)
    found = tiny.model.vocabulary_encodings(together, together.token_id).vocabulary_encoding
    for i, text in enumerate(texts):
        alone = tiny.model.encode(text)
        expected = tiny.model.vocabulary_encodings(alone, alone.token_id).vocabulary_encoding
        np.testing.assert_allclose(found.isel(position=found.text_id.values == i), expected, rtol=1e-12)


def test_a_selection_gives_the_selection(tiny: Case) -> None:
    ids = tiny.model.neighbors(tiny.enc, k=3).neighbor_id
    whole = tiny.model.vocabulary_encodings(tiny.enc, ids)
    for chosen in [{"head": [2, 0], "position": [4, 1]}, {"layer": 1, "head": 3, "position": 2}]:
        expected = whole.isel(chosen)
        for asked in (ids.isel(chosen), ids):
            found = tiny.model.vocabulary_encodings(tiny.enc.isel(chosen), asked)
            # Terms of other positions come by other matrix products, which may round otherwise.
            xr.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
            assert found.attrs == expected.attrs


def test_round_trip(tiny: Case, tmp_path: Path) -> None:
    found = tiny.model.vocabulary_encodings(tiny.enc, [7, 8])
    found.to_netcdf(tmp_path / "it.nc")
    with xr.open_dataset(tmp_path / "it.nc") as opened:
        xr.testing.assert_identical(opened.load(), found)


def test_ids_that_are_none_are_refused(tiny: Case) -> None:
    near = tiny.model.neighbors(tiny.enc, k=2)
    wrong: list[tuple[Any, str]] = [
        ([tiny.model.vocab_size], "out of range"),
        ([-1], "out of range"),
        ([0.5], "float64"),
        ([], "shape"),
        (3, "shape"),
        (near.neighbor, "whole numbers"),
        (near.neighbor_id.isel(layer=[0]), "layers"),
    ]
    for ids, named in wrong:
        with pytest.raises(InputError, match=named):
            tiny.model.vocabulary_encodings(tiny.enc, ids)
