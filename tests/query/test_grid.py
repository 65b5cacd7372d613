"""Vectors of every kind against the vocabulary of every space that they have: right, or refused with the reason."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import xarray as xr

import attnxr
from attnxr import schema
from attnxr.errors import InputError, UnsupportedModelError
from attnxr.options import HEAD_SPACES, HEAD_VECTORS, STREAM_SPACES, STREAM_VECTORS, VARIABLE
from tests.support import models, oracles
from tests.support.cases import Case, true_distances
from tests.support.families import FAMILIES
from tests.support.witness import Witness

TEXT = [11, 40, 23, 40, 57, 8]
SPACES = (*HEAD_SPACES, *STREAM_SPACES)
INCLUDE = ("query_vector", "key_vector", "value_vector", "residual", "hidden")


@functools.lru_cache(maxsize=4)
def with_head(family: str) -> tuple[Any, attnxr.Model, xr.Dataset]:
    """A model with a language-modelling head over a family's base, and a text's encodings."""
    torch.manual_seed(5)
    base = FAMILIES[family].build()
    mapping = transformers.AutoModelForMaskedLM if family == "bert" else transformers.AutoModelForCausalLM
    hf_model = mapping.from_config(base.config).eval()
    hf_model.base_model.load_state_dict(base.state_dict(), strict=False)
    with torch.no_grad():
        output = hf_model.get_output_embeddings()
        output.weight = torch.nn.Parameter(torch.randn_like(output.weight))
    model = attnxr.Model(hf_model)
    return hf_model, model, model.encode(token_ids=TEXT, include=INCLUDE)


def contributions(family: str, enc: xr.Dataset) -> np.ndarray:
    """W_O[h] z of every head, from the weights, in float64: (layer, head, position, channel)."""
    hf_model = FAMILIES[family].build()
    found = []
    for layer, z in enumerate(enc["head_encoding"].values.astype(np.float64)):
        module: Any = hf_model.get_submodule(FAMILIES[family].output.format(layer))
        weight = module.weight.detach().double().numpy()
        weight = weight.T if type(module).__name__ == "Conv1D" else weight  # (out, in)
        parts = np.split(weight, len(z), axis=1)
        found.append([vectors @ part.T for vectors, part in zip(z, parts, strict=True)])
    return np.array(found)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "gemma3"])
@pytest.mark.parametrize("metric", oracles.METRICS)
def test_the_stream_equals_the_brute_force(family: str, metric: Any) -> None:
    hf_model, model, enc = with_head(family)
    witness = Witness(FAMILIES[family])
    stream = witness.trace([TEXT])["stream"]
    written = contributions(family, enc)
    output = hf_model.get_output_embeddings().weight.detach().double().numpy()
    for of, space in itertools.product(STREAM_VECTORS, STREAM_SPACES):
        near = model.neighbors(enc, k=4, metric=metric, of=of, space=space)
        dist = model.distances(enc, metric=metric, of=of, space=space).distance
        heads = ("head",) if of == "contribution" else ()
        assert near.neighbor_id.dims == ("layer", *heads, "position", "rank")
        assert dist.dims == ("layer", *heads, "position", "vocab")
        for position in range(len(TEXT)):
            vocabulary = output[None] if space == "unembedding" else witness.vocabulary("embedding", TEXT, position)
            queries = written[:, :, position] if heads else enc[VARIABLE[of]].values[:, None, position]
            vocabulary = np.repeat(vocabulary, queries.shape[1], axis=0)
            here = near if heads else near.expand_dims("head", 1)
            Case.check_position(here, position, metric, queries, vocabulary)
        true, tolerance = true_distances(metric, queries, vocabulary)
        found = dist.isel(position=-1).values.reshape(true.shape)
        assert (np.abs(found - true) <= tolerance).all()
    # What is asked of the stream is asked of what the model computes.
    assert np.allclose(enc.hidden.values[:-1], stream[1:-1, 0], atol=1e-4)


@pytest.mark.parametrize("family", ["roberta", "gpt2", "qwen3"])
def test_the_heads_contributions_sum_to_what_the_attention_writes(family: str) -> None:
    hf_model = FAMILIES[family].build()
    model = attnxr.Model(hf_model)
    enc = model.encode(token_ids=TEXT, include=["residual"])
    written: list[Any] = []
    hooks = [
        hf_model.get_submodule(FAMILIES[family].output.format(i)).register_forward_hook(
            lambda module, _i, out: written.append((module, out[0]))
        )
        for i in range(model.n_layers)
    ]
    with torch.no_grad():
        hf_model(torch.tensor([TEXT]))
    for hook in hooks:
        hook.remove()
    dist = model.distances(enc, metric="dot", of="contribution", space="embedding", positional=False).distance
    embeddings = Witness(FAMILIES[family]).vocabulary("embedding", TEXT, 0)[0] if family == "qwen3" else None
    for layer, (module, out) in enumerate(written):
        bias = 0 if module.bias is None else module.bias
        total = contributions(family, enc)[layer].sum(axis=0)
        np.testing.assert_allclose(total, (out - bias).detach(), atol=1e-5)
        if embeddings is not None:
            np.testing.assert_allclose(-dist.isel(layer=layer).sum("head"), total @ embeddings.T, atol=1e-3)


@pytest.mark.parametrize(("of", "space"), list(itertools.product((*HEAD_VECTORS, *STREAM_VECTORS), SPACES)))
def test_a_combination_has_a_meaning_or_is_refused_with_those_that_have(of: Any, space: Any) -> None:
    _, model, enc = with_head("bert")
    if (of in HEAD_VECTORS) == (space in HEAD_SPACES):
        near = model.neighbors(enc, k=2, of=of, space=space)
        assert (near.attrs["of"], near.attrs["space"]) == (of, space)
        for vocab_layer in ("same", 1):
            if space in HEAD_SPACES:
                assert (
                    model.neighbors(enc, k=2, of=of, space=space, vocab_layer=vocab_layer).attrs["vocab_layer"]
                    == vocab_layer
                )
            else:
                with pytest.raises(InputError, match="vocab_layer='input'"):
                    model.neighbors(enc, k=2, of=of, space=space, vocab_layer=vocab_layer)
        return
    for ask in (model.neighbors, model.distances):
        with pytest.raises(InputError) as caught:
            ask(enc, of=of, space=space)
        right = HEAD_SPACES if of in HEAD_VECTORS else STREAM_SPACES
        assert all(repr(name) in str(caught.value) for name in right)


@pytest.mark.parametrize("family", ["bert", "llama", "gemma3"])
def test_a_numbered_layer_is_that_layers_own_space(family: str) -> None:
    _, model, enc = with_head(family)
    same = model.neighbors(enc, k=4, metric="euclidean", vocab_layer="same")
    for layer in range(model.n_layers):
        numbered = model.neighbors(enc, k=4, metric="euclidean", vocab_layer=layer)
        for name in ("neighbor_id", "distance", "own_rank", "own_distance"):
            np.testing.assert_array_equal(numbered[name].isel(layer=layer), same[name].isel(layer=layer))
    first = model.neighbors(enc, k=4, metric="euclidean")
    np.testing.assert_array_equal(
        first.neighbor_id, model.neighbors(enc, k=4, metric="euclidean", vocab_layer=0).neighbor_id
    )
    assert (first.isel(layer=slice(1, None)).distance != same.isel(layer=slice(1, None)).distance).any()


@pytest.mark.parametrize("of", ["encoding", "key"])
def test_distances_are_those_of_the_neighbours_in_every_layers_space(of: Any) -> None:
    _, model, enc = with_head("llama")
    options: Any = {"of": of, "space": "value" if of == "encoding" else "key", "vocab_layer": "same"}
    near = model.neighbors(enc, k=5, **options)
    dist = model.distances(enc, **options).distance
    picked = dist.compute().sel(vocab=near.neighbor_id)
    np.testing.assert_array_equal(picked, near.distance)
    np.testing.assert_array_equal(dist.isel(layer=[2, 0]), dist.compute().isel(layer=[2, 0]))


@pytest.mark.parametrize("family", ["llama", "gemma3", "modernbert"])
def test_without_the_positional_term_rotary_keys_stand_at_position_0(family: str) -> None:
    model = attnxr.Model(FAMILIES[family].build())
    enc = model.encode(token_ids=TEXT, include=["key_vector"]).isel(layer=[0])
    witness = Witness(FAMILIES[family])
    near = model.neighbors(enc, k=5, metric="euclidean", of="key", space="key", positional=False)
    for position in range(len(TEXT)):
        vocabulary = witness.vocabulary("key", TEXT, 0)
        Case.check_position(near, position, "euclidean", enc["key_vector"].values[:, :, position], vocabulary)
    on = model.neighbors(enc, k=5, metric="euclidean", of="key", space="key")
    assert (on.own_rank == 1).all()
    assert (near.own_rank > 1).any()


def test_a_selection_that_drops_dimensions_gets_an_answer_that_has_dropped_them() -> None:
    _, model, enc = with_head("bert")
    for of, chosen in (
        ("hidden", {"layer": 1}),
        ("residual", {"position": 2}),
        ("contribution", {"head": 3, "layer": 0}),
    ):
        whole = model.neighbors(enc, k=3, of=of, space="embedding")
        xr.testing.assert_identical(
            model.neighbors(enc.isel(chosen), k=3, of=of, space="embedding"), whole.isel(chosen)
        )


def test_answers_about_the_stream_round_trip(tmp_path: Any) -> None:
    _, model, enc = with_head("gpt2")
    near = model.neighbors(enc, k=3, of="hidden", space="unembedding")
    schema.validate(near, schema.only_dims(schema.NEIGHBORS, ("layer", "position")))
    near.to_netcdf(tmp_path / "near.nc")
    with xr.open_dataset(tmp_path / "near.nc") as back:
        xr.testing.assert_identical(back.load(), near)


@pytest.mark.parametrize("vocab_layer", [3, -1, 1.0, True, None, "all", [0]])
def test_a_layer_that_is_none_is_an_error(vocab_layer: Any) -> None:
    _, model, enc = with_head("bert")
    with pytest.raises(InputError, match="layer"):
        model.neighbors(enc, k=2, vocab_layer=vocab_layer)


def test_a_model_without_output_embeddings_says_where_to_get_them() -> None:
    model = attnxr.Model(models.tiny_bert())
    enc = model.encode(token_ids=TEXT, include=["hidden"])
    with pytest.raises(UnsupportedModelError, match="head"):
        model.neighbors(enc, k=2, of="hidden", space="unembedding")


def test_output_embeddings_of_another_size_than_the_stream_are_refused() -> None:
    """ELECTRA's and ALBERT's are as long as their embeddings, which are not as long as the stream."""
    config = FAMILIES["albert"].build().config
    model = attnxr.Model(transformers.AlbertForMaskedLM(config).eval())
    enc = model.encode(token_ids=TEXT, include=["hidden"])
    assert model.neighbors(enc, k=2, of="hidden", space="embedding").neighbor_id.shape == (3, len(TEXT), 2)
    with pytest.raises(InputError, match="32 numbers"):
        model.neighbors(enc, k=2, of="hidden", space="unembedding")


def test_queries_and_keys_of_another_size_than_values_have_a_dimension_of_their_own(tmp_path: Any) -> None:
    model = attnxr.Model(FAMILIES["deepseek_v3"].build())
    enc = model.encode(token_ids=TEXT, include=["query_vector", "key_vector", "value_vector"])
    assert enc["query_vector"].dims[-1] == enc["key_vector"].dims[-1] == "key_feature"
    assert (enc.sizes["key_feature"], enc.sizes["feature"]) == (12, 10)
    enc.to_netcdf(tmp_path / "enc.nc")
    with xr.open_dataset(tmp_path / "enc.nc") as back:
        near = model.neighbors(back, k=3, of="query", space="query")
    xr.testing.assert_identical(near, model.neighbors(enc, k=3, of="query", space="query"))
    xr.testing.assert_identical(
        model.neighbors(enc.isel(position=1), k=3, of="key", space="key"),
        model.neighbors(enc, k=3, of="key", space="key").isel(position=1),
    )
    with pytest.raises(InputError, match="cannot be compared"):
        model.neighbors(enc, k=3, space="key")


def test_a_text_that_does_more_than_place_its_tokens_is_refused() -> None:
    """ESM scales all embeddings of a text by how many of them are masks (id 3); norms then take the scale away."""
    model = attnxr.Model(FAMILIES["esm-rotary"].build())
    plain, masked = (model.encode(token_ids=[5, middle, 7], include=["hidden"]) for middle in (6, 3))
    assert model.neighbors(plain, k=2, of="hidden", space="embedding").own_rank.shape == (3, 3)
    assert (model.neighbors(masked, k=2).own_rank > 0).all()
    with pytest.raises(UnsupportedModelError, match="mask"):
        model.neighbors(masked, k=2, of="hidden", space="embedding")


def test_tables_stay_within_the_budget_and_the_oldest_goes_first() -> None:
    hf_model = FAMILIES["llama"].build()
    plenty = attnxr.Model(hf_model)
    enc = plenty.encode(token_ids=TEXT)
    plenty.neighbors(enc, k=4)
    one = plenty._look().vocabulary.tables.nbytes  # what one layer takes
    assert one > 67 * 2 * 8 * 4  # V × kv heads × features × bytes: its rows, and what is made of them
    tight = attnxr.Model(hf_model, memory=2 * one)
    none = attnxr.Model(hf_model, memory=0)
    tables = tight._look().vocabulary.tables
    for vocab_layer in ("same", 0, 1, "same", 2):
        answers = [each.neighbors(enc, k=4, vocab_layer=vocab_layer) for each in (plenty, tight, none)]
        xr.testing.assert_identical(answers[0], answers[1])
        xr.testing.assert_identical(answers[0], answers[2])
        assert tables.nbytes <= 2 * one
        assert none._look().vocabulary.tables.nbytes == 0
    rows = [key for key in tables._kept if key[0] == "value"]
    assert rows == [("value", 1), ("value", 2)]  # layer 0's, made first and not asked for since, is gone
    assert plenty._look().vocabulary.tables.nbytes == 3 * one


@pytest.mark.parametrize("memory", [-1, 1.5, "2GB", True, None])
def test_a_budget_that_is_no_number_of_bytes_is_an_error(memory: Any) -> None:
    with pytest.raises(InputError, match="memory"):
        attnxr.Model(models.tiny_bert(), memory=memory)
