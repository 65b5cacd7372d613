"""Where the nearest token comes from, by a slow search of the text for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.errors import InputError
from attnxr.texts import token_ids
from tests.support.cases import Case

TEXTS = ["flies like flies, and flies fly.", "A dog! The dog flies like a dog."]


def with_nearest(near: xr.Dataset, seed: int = 0) -> xr.Dataset:
    """The nearest tokens drawn at random: half of them from any of the texts, the rest from the vocabulary."""
    generator = np.random.default_rng(seed)
    shape = near.own_rank.shape
    drawn = generator.choice(near.token_id.values, shape)
    anything = generator.integers(0, near.attrs["vocab_size"], shape)
    out = near.copy(deep=True)
    out["neighbor_id"][..., 0] = np.where(generator.random(shape) < 0.5, drawn, anything)
    return out


def slow(near: xr.Dataset, attention: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin, its position and its attention, one (layer, head, position) after the other."""
    texts = token_ids(near)
    kind, position, paid = (np.empty(near.own_rank.shape, dtype) for dtype in (object, int, float))
    for index in np.ndindex(*kind.shape):
        here = near.isel(position=index[-1])
        text = int(here.text_id) if "text_id" in here.coords else 0
        start = sum(len(ids) for ids in texts[:text])
        at = int(here.position) - start
        nearest = int(near.neighbor_id.values[(*index, 0)])
        best: tuple[Any, ...] | None = None
        for place, token in enumerate(texts[text]):
            if token != nearest or place == at or (near.attrs["causal"] and place > at):
                continue
            weight = 0.0 if attention is None else float(attention[(*index, place)])
            candidate = (-weight, abs(place - at), place)
            best = candidate if best is None else min(best, candidate)
        if nearest == texts[text][at]:
            kind[index], position[index] = "own", start + at
            paid[index] = np.nan if attention is None else attention[(*index, at)]
        elif best is not None:
            kind[index], position[index], paid[index] = "other", start + best[2], -best[0]
        else:
            kind[index], position[index], paid[index] = "neither", -1, np.nan
    return kind, position, paid


def check(found: xr.Dataset, near: xr.Dataset, attention: np.ndarray | None = None) -> None:
    kind, position, paid = slow(near, attention)
    np.testing.assert_array_equal(found.origin.values, kind)
    np.testing.assert_array_equal(found.origin_position.values, position)
    if attention is not None:
        np.testing.assert_array_equal(found.origin_attention.values, paid.astype(np.float32))
    assert ("origin_attention" in found) == (attention is not None)
    for name in ("own", "other", "neither"):
        np.testing.assert_allclose(found[f"{name}_share"].values, (kind == name).mean(axis=-1))


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_equals_the_slow_search(roberta: Case, text: str, causal: bool, drawn: bool) -> None:
    enc = roberta.model.encode(text, causal=causal)
    near = roberta.model.neighbors(enc, k=2)
    near = with_nearest(near) if drawn else near
    check(attnxr.origins(near), near)
    check(attnxr.origins(near, enc), near, enc["attention"].values)
    if drawn:
        assert set(np.unique(attnxr.origins(near).origin)) == {"own", "other", "neither"}


@pytest.mark.parametrize("drawn", [False, True])
def test_several_texts_are_searched_one_by_one(roberta: Case, drawn: bool) -> None:
    near = roberta.model.neighbors(roberta.model.encode(TEXTS), k=1)
    near = with_nearest(near, 1) if drawn else near
    check(attnxr.origins(near), near)


def test_the_rule_for_repeated_tokens(roberta: Case) -> None:
    """Token 9 stands at 1, 3 and 6 of the text; the nearest is 9 everywhere."""
    enc = roberta.model.encode(token_ids=[0, 9, 5, 9, 5, 5, 9, 2])
    near = roberta.model.neighbors(enc, k=1)
    near["neighbor_id"][:] = 9
    enc["attention"][:] = np.float32(0.125)
    for found in (attnxr.origins(near), attnxr.origins(near, enc)):
        for position, (kind, origin) in enumerate(
            [("other", 1), ("own", 1), ("other", 1), ("own", 3), ("other", 3), ("other", 6), ("own", 6), ("other", 6)]
        ):
            assert (found.origin.isel(position=position) == kind).all()
            assert (found.origin_position.isel(position=position) == origin).all()
    enc["attention"][..., 1] = np.float32(0.25)
    attended = attnxr.origins(near, enc)
    assert attended.origin_position[0, 0].values.tolist() == [1, 1, 1, 3, 1, 1, 6, 1]
    assert attended.origin_attention[0, 0].values.tolist() == [0.25, 0.25, 0.25, 0.125, 0.25, 0.25, 0.125, 0.25]


def test_a_head_that_writes_the_value_of_one_token_comes_from_there(tiny: Case) -> None:
    """Layer 0 makes a value of a token and its position alone, so the value of a rearranged text is another token's."""
    token_ids, source = tiny.token_ids[:6], [3, 1, 1, 5, 2, 5]
    enc = tiny.model.encode(token_ids=token_ids.tolist()).isel(layer=[0])
    rearranged = tiny.model.encode(token_ids=token_ids[source].tolist(), include=["value_vector"])
    enc["head_encoding"][:] = rearranged["value_vector"].isel(layer=[0]).values
    enc["attention"][:] = np.eye(6, dtype=np.float32)[source]
    found = attnxr.origins(tiny.model.neighbors(enc, k=1, metric="euclidean"), enc)
    assert (found.origin_position == xr.DataArray(source, dims="position")).all()
    assert (found.origin_attention == 1).all()
    assert found.origin[0, 0].values.tolist() == ["other", "own", "other", "other", "other", "own"]
    assert (found.other_share == 4 / 6).all()


def test_selecting_before_equals_selecting_after(roberta: Case) -> None:
    near = with_nearest(roberta.model.neighbors(roberta.enc, k=1))
    of_each = ["origin", "origin_position", "origin_attention"]
    whole = attnxr.origins(near, roberta.enc)
    for chosen in ({"layer": 1}, {"head": [2, 0]}, {"position": [4, 2]}, {"layer": 2, "head": 1, "position": 3}):
        part = attnxr.origins(near.isel(chosen), roberta.enc)
        xr.testing.assert_identical(part[of_each], whole.isel(chosen)[of_each])
    xr.testing.assert_identical(attnxr.origins(near.isel(layer=1), roberta.enc), whole.isel(layer=1))
    same = attnxr.origins(near.isel(head=[1]), roberta.enc.isel(head=[3, 1]))
    xr.testing.assert_identical(same, whole.isel(head=[1]))
    chosen = {"layer": 1, "head": 2, "position": 3}
    same = attnxr.origins(near.isel(chosen), roberta.enc.isel(chosen))
    xr.testing.assert_identical(same[of_each], whole.isel(chosen)[of_each])


def test_the_stream_has_origins_without_heads(roberta: Case) -> None:
    stream = roberta.model.neighbors(roberta.enc, k=1, of="hidden", space="embedding")
    found = attnxr.origins(stream)
    assert found.origin.dims == ("layer", "position")
    assert found.other_share.dims == ("layer",)
    check(found, stream)
    with pytest.raises(InputError, match="head"):
        attnxr.origins(stream, roberta.enc)


def test_what_does_not_belong_together_is_refused(roberta: Case) -> None:
    enc, near = roberta.enc, roberta.model.neighbors(roberta.enc, k=1)
    several = roberta.model.encode(TEXTS)
    wrong = [
        ((enc,), "neighbor_id"),
        ((near, near), "attention"),
        ((near, enc.isel(layer=1)), "layer 0"),
        ((near, enc.isel(layer=1, drop=True)), "layer"),
        ((near, enc.isel(layer=[0])), "layer 1"),
        ((near, enc.isel(position=slice(3))), "position 3"),
        ((near, enc.isel(key_position=[0, 1])), "key_position"),
        ((near, roberta.model.encode("A dog!")), "token_ids"),
        ((near, roberta.model.encode(roberta.text, causal=True)), "causal"),
        ((roberta.model.neighbors(several, k=1), several), "attention"),
        ((near.assign_attrs(token_ids=np.array([0, 5, 2])),), "encode them together"),
        ((near.assign_coords(token_id=near.token_id + 1),), "encode them together"),
    ]
    for arguments, named in wrong:
        with pytest.raises(InputError, match=named):
            attnxr.origins(*arguments)
