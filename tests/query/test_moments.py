"""Mean, covariance and mean direction of the vocabulary are NumPy's of the brute force's vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
import attnxr.query.moments
import attnxr.vocabulary.encodings
from attnxr.errors import InputError
from attnxr.options import MOMENTS, VARIABLE
from tests.support import models
from tests.support.cases import HEAD_VECTORS, Case
from tests.support.families import FAMILIES
from tests.support.oracles import Array
from tests.support.witness import Witness

TEXT = [11, 40, 23, 40, 57, 8]


def check(found: xr.Dataset, vectors: Array) -> None:
    """Fail unless moments of one layer, head and position are those of vectors (V, d)."""
    vectors = vectors.astype(np.float64)
    size = np.square(vectors).mean()
    np.testing.assert_allclose(found["vocabulary_mean"], vectors.mean(0), rtol=0, atol=1e-5 * np.sqrt(size))
    np.testing.assert_allclose(found["covariance"], np.cov(vectors.T, bias=True), rtol=0, atol=1e-5 * size)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found["direction"], unit.mean(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("positional", [True, False])
@pytest.mark.parametrize("space", HEAD_VECTORS)
def test_equal_those_of_the_brute_force(case: Case, space: Any, positional: bool) -> None:
    found = case.model.moments(case.enc, include=MOMENTS, space=space, positional=positional)
    assert found["covariance"].dims == ("layer", "head", "position", "feature", "other_feature")
    assert all(found[name].dtype == np.float64 for name in MOMENTS)
    for position in (0, 3):
        for head, vectors in enumerate(case.vocabulary(space, position, positional)):
            for layer in (0, -1):
                check(found.isel(layer=layer, head=head, position=position), vectors)


EVERY_PATH = [
    pytest.param("mistral", "value", "value", 0, id="shared heads"),
    pytest.param("mistral", "query", "key", 0, id="turned keys of shared heads"),
    pytest.param("qwen3", "encoding", "query", 0, id="turned queries"),
    pytest.param("gpt2", "encoding", "value", "same", id="each layer's own"),
    pytest.param("llama", "encoding", "key", 1, id="another layer's turned keys"),
    pytest.param("ctrl", "encoding", "value", 0, id="one pass for each position"),
    pytest.param("roberta", "hidden", "embedding", 0, id="the stream"),
]


@pytest.mark.parametrize(("family", "of", "space", "vocab_layer"), EVERY_PATH)
def test_are_where_the_vectors_are_on_every_path(family: str, of: Any, space: Any, vocab_layer: Any) -> None:
    model = attnxr.Model(FAMILIES[family].build())
    witness = Witness(FAMILIES[family])
    enc = model.encode(token_ids=TEXT, include=[] if of == "encoding" else [VARIABLE[of]])
    asked: Any = "input" if vocab_layer == 0 else vocab_layer
    found = model.moments(enc, include=MOMENTS, of=of, space=space, vocab_layer=asked)
    for layer, position in [(0, 0), (2, 4)]:
        vocabulary = witness.vocabulary(space, TEXT, position, layer if vocab_layer == "same" else vocab_layer)
        here = found.isel(layer=layer, position=position)
        if of == "hidden":
            check(here, vocabulary[0])
            continue
        head_dim = here["vocabulary_mean"].dims[0]
        heads = here.sizes[head_dim]
        for head in range(heads):
            check(here.isel({head_dim: head}), vocabulary[head * len(vocabulary) // heads])


def test_a_selection_gives_the_selection(tiny: Case) -> None:
    whole = tiny.model.moments(tiny.enc, include=MOMENTS)
    for chosen in [{"head": [2, 0], "position": [4, 4, 1]}, {"layer": 1, "head": 3, "position": 2}]:
        part = tiny.model.moments(tiny.enc.isel(chosen), include=MOMENTS)
        xr.testing.assert_allclose(part, whole.isel(chosen), rtol=1e-12)


def test_positions_beyond_one_batch_are_served_too(tiny: Case) -> None:
    enc = tiny.model.encode(token_ids=np.arange(5, 41).tolist())
    found = tiny.model.moments(enc, include=MOMENTS)
    for position in (0, 35):
        position_id = int(tiny.oracle.position_ids(enc.token_id.values)[position])
        check(found.isel(layer=0, head=1, position=position), tiny.oracle.vocabulary("value", position_id)[1])


def test_what_is_kept_serves_other_layers_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    compute = attnxr.query.moments.moment

    def counted(question: Any, which: Any) -> Array:
        made.append(which)
        return compute(question, which)

    monkeypatch.setattr("attnxr.query.moments.moment", counted)
    model = attnxr.Model(models.tiny_bert())
    enc = model.encode(token_ids=[7, 60, 8])
    first = model.moments(enc.isel(layer=[0]), include=["vocabulary_mean"])
    again = model.moments(enc.isel(layer=[2]), include=["vocabulary_mean"])
    np.testing.assert_array_equal(first["vocabulary_mean"], again["vocabulary_mean"])
    assert made == ["vocabulary_mean"]
    with pytest.raises(ValueError, match="read-only"):
        again["vocabulary_mean"].values[:] = 0
    others: list[tuple[Any, dict[str, Any]]] = [
        (enc, {"positional": False}),
        (enc, {"space": "key"}),
        (enc, {"vocab_layer": 1}),
        (enc.isel(position=[2, 1, 0]), {}),
        (enc.isel(head=[1, 0]), {}),
        (enc.isel(layer=[1]), {"vocab_layer": "same"}),
        (enc.isel(layer=[2]), {"vocab_layer": "same"}),
    ]
    for dataset, options in others:
        kept = model.moments(dataset, include=["vocabulary_mean"], **options)
        fresh = attnxr.Model(models.tiny_bert(), memory=0).moments(dataset, include=["vocabulary_mean"], **options)
        xr.testing.assert_identical(kept, fresh)
    assert len(made) == 1 + 2 * len(others)


def test_those_of_many_texts_leave_no_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that built corpora grew by what it kept of each of their texts."""
    monkeypatch.setattr(attnxr.vocabulary.encodings, "_OF_TEXTS", 40_000)
    model = attnxr.Model(models.tiny_bert())

    def ask(token_ids: list[int]) -> int:
        model.moments(model.encode(token_ids=token_ids))
        return model._look().vocabulary.tables.nbytes

    all_places = ask([1, 2, 3, 4])
    of_texts = model._look().vocabulary.of_texts
    one = of_texts.nbytes
    assert 0 < one < 20_000
    for i in range(8):
        assert ask([i, 2, 3, 4]) == all_places
    assert one < of_texts.nbytes <= 40_000


def test_an_unknown_moment_is_refused(tiny: Case) -> None:
    with pytest.raises(InputError, match="median"):
        tiny.model.moments(tiny.enc, include=["median"])
