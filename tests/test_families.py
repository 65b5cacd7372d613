"""Every family in the table is looked into, through whichever door, and every number is right."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import attnxr
from attnxr.options import VARIABLE
from tests.support import oracles
from tests.support.cases import HEAD_VECTORS, INCLUDED, Case
from tests.support.families import FAMILIES
from tests.support.witness import Witness

TEXT = [11, 40, 23, 40, 57, 8, 33, 62]
# Turned by position, and only then normed or scaled: what is at one position is not what is at another, turned.
NOT_ONLY_TURNED = {
    "hunyuan_v1_dense": ("key", "query"),
    "hunyuan_v1_moe": ("key", "query"),
    "ministral3": ("query",),
}


@dataclass(frozen=True)
class Subject:
    witness: Witness
    hf_model: Any
    model: attnxr.Model
    enc: Any
    trace: dict[str, oracles.Array]


@functools.lru_cache(maxsize=2)
def look(name: str) -> Subject:
    witness = Witness(FAMILIES[name])
    hf_model = FAMILIES[name].build()
    model = attnxr.Model(hf_model, layers=FAMILIES[name].layers or None)
    include = [*INCLUDED, "residual", "hidden"]
    enc = model.encode(**witness.family.given(TEXT), include=include)
    return Subject(witness, hf_model, model, enc, witness.trace([TEXT]))


def captured_is_what_the_model_computes(subject: Subject) -> None:
    for name in (*HEAD_VECTORS, "attention"):
        true = subject.trace[name][:, 0]
        if name == "attention":
            np.testing.assert_allclose(subject.enc[name], true[..., : len(TEXT)], atol=1e-5)
        else:
            assert oracles.relative_error(subject.enc[VARIABLE[name]].values, true) <= 1e-5, name
    assert (
        oracles.relative_error(subject.enc["head_encoding"].values, subject.witness.encoding(subject.trace)[:, 0])
        <= 1e-5
    )

    heads, gated = read_by_output(subject.enc), "gate" in subject.enc
    assert oracles.relative_error(heads, subject.trace["read"][:, 0]) <= 1e-5
    assert gated != np.allclose(heads, oracles.concatenate_heads(subject.enc["head_encoding"].values))
    assert subject.enc.layer.values.tolist() == list(subject.witness.layers)


def read_by_output(enc: Any) -> oracles.Array:
    """What W_O reads, (layer, position, head · d): the encodings, each number times what it is multiplied by."""
    return oracles.concatenate_heads((enc["head_encoding"] * enc.get("gate", 1)).values)


def heads_rebuild_the_output_of_the_attention(subject: Subject) -> None:
    written: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _m, _i, out: written.append(out[0]))
        for module in dict.fromkeys(subject.witness.projections(subject.hf_model))
    ]
    with torch.no_grad():
        subject.witness.family.run(subject.hf_model, torch.tensor([TEXT]))
    for hook in hooks:
        hook.remove()
    heads = read_by_output(subject.enc)
    for module, own, concatenated in zip(subject.witness.projections(subject.hf_model), written, heads, strict=True):
        with torch.no_grad():
            rebuilt = module(torch.from_numpy(concatenated)[None])[0]
        assert oracles.relative_error(rebuilt.numpy(), own.numpy()) <= 1e-5


def the_model_is_as_it_was(subject: Subject) -> None:
    family = subject.witness.family
    with torch.no_grad():
        both = (family.run(each, torch.tensor([TEXT])) for each in (subject.hf_model, family.build()))
        found, true = (each.last_hidden_state for each in both)
    assert torch.equal(found, true)


def the_path_is_the_cheapest(subject: Subject) -> None:
    verification = subject.model._look(subject.witness.family.stack or None).vocabulary.verification
    cheapest = {"learned": "factored", "rotary": "shared", "relative": "shared", "computed": "reference"}[
        subject.witness.family.positions
    ]
    for space in ("value", "key", "query", "embedding"):
        expected = "reference" if space in NOT_ONLY_TURNED.get(subject.witness.family.model_type, ()) else cheapest
        assert verification.paths[space] == expected, space
        assert verification.errors[space] <= verification.tolerance <= 1e-5


def check(subject: Subject, near: Any, metric: str, of: str, space: str, layers: list[int]) -> None:
    """Fail unless neighbours and own ranks are those of the brute force; `layers` have the vocabulary of the first."""
    for position in range(len(TEXT)):
        vocabulary = subject.witness.vocabulary(space, TEXT, position, layers[0])
        queries = subject.enc[VARIABLE[of]].isel(position=position, layer=layers).values
        if of in ("residual", "hidden"):
            queries = queries[:, None]
            near_here = near.isel(layer=layers).expand_dims("head", 1)
        else:
            near_here = near.isel(layer=layers)
        vocabulary = np.repeat(vocabulary, queries.shape[1] // len(vocabulary), axis=0)
        Case.check_position(near_here, position, metric, queries, vocabulary)


def neighbours_are_those_of_the_brute_force(subject: Subject) -> None:
    layers = list(range(subject.enc.sizes["layer"]))
    own_size = subject.trace["key"].shape[-1] == subject.trace["value"].shape[-1]
    near = subject.model.neighbors(subject.enc, k=5, metric="euclidean")
    check(subject, near, "euclidean", "encoding", "value", layers)
    for of in HEAD_VECTORS:
        near = subject.model.neighbors(subject.enc, k=5, metric="euclidean", of=of, space=of)
        check(subject, near, "euclidean", of, of, layers)
        if subject.witness.layers[0]:  # in a text, other blocks come before the layer whose vocabulary it is
            continue
        first = near.isel(layer=0)
        assert (first.own_rank == 1).all()
        sizes = np.linalg.norm(subject.enc[VARIABLE[of]].isel(layer=0).values, axis=-1)
        assert (first.own_distance.values <= 1e-5 * sizes).all()
    if own_size:
        near = subject.model.neighbors(subject.enc, k=5, metric="cosine", space="key")
        check(subject, near, "cosine", "encoding", "key", layers)


def so_they_are_in_a_layers_own_space(subject: Subject) -> None:
    for of, space in (("encoding", "value"), ("key", "key")):
        near = subject.model.neighbors(subject.enc, k=5, metric="euclidean", of=of, space=space, vocab_layer="same")
        for layer in range(subject.enc.sizes["layer"]):
            check(subject, near, "euclidean", of, space, [layer])


def so_they_are_in_the_stream(subject: Subject) -> None:
    near = subject.model.neighbors(subject.enc, k=5, metric="cosine", of="hidden", space="embedding")
    check(subject, near, "cosine", "hidden", "embedding", list(range(subject.enc.sizes["layer"])))


def the_mask_can_be_turned(subject: Subject) -> None:
    def seen(causal: bool) -> oracles.Array:
        """What any head of a layer sees: a weight of one head can be too small for a float."""
        weights = subject.model.encode(**subject.witness.family.given(TEXT), causal=causal)["attention"]
        return (weights.values > 0).any(axis=1)

    own = (subject.trace["attention"][:, 0, ..., : len(TEXT)] > 0).any(axis=1)
    on, off = seen(True), seen(False)
    ahead = np.triu(np.ones(own.shape[-2:], bool), 1)
    assert (on == (own & ~ahead)).all()
    assert (off == (own | np.swapaxes(own, -1, -2))).all()


def the_model_verifies_itself(subject: Subject) -> None:
    checked = subject.model.verify(stack=subject.witness.family.stack or None)
    assert checked.attrs["passed"] == 1
    assert set(checked.data_vars) == {"reconstruction", "identity", "unchanged"}


CHECKS = [
    captured_is_what_the_model_computes,
    heads_rebuild_the_output_of_the_attention,
    the_model_is_as_it_was,
    the_path_is_the_cheapest,
    neighbours_are_those_of_the_brute_force,
    so_they_are_in_a_layers_own_space,
    so_they_are_in_the_stream,
    the_mask_can_be_turned,
    the_model_verifies_itself,
]


@pytest.mark.sweep("family")
@pytest.mark.parametrize("holds", CHECKS, ids=lambda holds: holds.__name__)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_looked_into(family: str, holds: Callable[[Subject], None]) -> None:
    """All checks of a family come one after the other, so that its model is built once."""
    holds(look(family))
