"""Roles of heads are those of slow loops over the attention, and of attention whose roles are plain to see."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import attnxr
from attnxr.analysis.roles import MEASURES
from attnxr.errors import InputError
from tests.support import models, oracles
from tests.support.cases import Case
from tests.support.families import FAMILIES

TEXTS = ["flies like flies, and flies fly.", "A dog! The dog flies like a dog.", "banana"]
IDS = [[0, 9, 5, 9, 9, 5, 7, 2, 5], [3, 8, 3, 8, 8], [6]]


@pytest.fixture(scope="module")
def decoders() -> dict[str, attnxr.Model]:
    """GPT-2, Llama with grouped heads, and GPT-OSS, whose sinks take a part of the attention."""
    return {name: attnxr.Model(FAMILIES[name].build()) for name in ("gpt2", "llama", "gpt_oss")}


def one_by_one(datasets: list[xr.Dataset]) -> list[Any]:
    """Whole texts, as the oracle takes them."""
    return [
        (
            one.attention.values,
            one.token_id.values,
            one.is_special.values,
            one.attrs["causal"],
            range(one.sizes["position"]),
        )
        for one in datasets
    ]


def check(found: xr.Dataset, texts: Any) -> None:
    means, counts = oracles.roles(texts)
    assert found["measure"].values.tolist() == list(MEASURES)
    for name in MEASURES:
        assert found[name].dims == ("layer", "head")
        assert found[name].dtype == np.float64
        assert found.n_positions.sel(measure=name) == counts.get(name, 0)
        if name in means:
            np.testing.assert_allclose(found[name].values, means[name], rtol=1e-9, atol=1e-12)
        else:
            assert np.isnan(found[name]).all()


@pytest.mark.parametrize("causal", [None, True])
def test_encoders_equal_the_slow_loops(tiny: Case, causal: bool | None) -> None:
    texts = [tiny.model.encode(text, causal=causal) for text in TEXTS]
    check(attnxr.roles(texts), one_by_one(texts))
    check(attnxr.roles(texts[0]), one_by_one(texts[:1]))
    assert np.isnan(attnxr.roles(texts).next_token_score).all() == bool(causal)
    assert attnxr.roles(texts).attrs["causal"] == int(bool(causal))


@pytest.mark.parametrize("causal", [None, False])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_oss"])
def test_decoders_equal_the_slow_loops(decoders: dict[str, attnxr.Model], name: str, causal: bool | None) -> None:
    texts = [decoders[name].encode(token_ids=ids, causal=causal) for ids in IDS]
    found = attnxr.roles(texts)
    check(found, one_by_one(texts))
    assert found.sizes["head"] == decoders[name].n_heads
    assert (found.n_positions.sel(measure="special_token_score") == 0).item()  # there is no tokenizer


def test_what_a_sink_takes_is_in_no_sum(decoders: dict[str, attnxr.Model]) -> None:
    enc = decoders["gpt_oss"].encode(token_ids=IDS[0])
    assert (enc.attention.sum("key_position") < 0.99).any()
    first = attnxr.roles(enc.isel(position=[0]))
    np.testing.assert_allclose(first.self_attention_score.values, enc.attention.values[:, :, 0, 0], rtol=1e-6)


def with_attention(enc: xr.Dataset, weights: np.ndarray) -> xr.Dataset:
    out = enc.copy(deep=True)
    out["attention"][:] = weights.astype(np.float32)
    return out


def at(n: int, keys: list[int]) -> np.ndarray:
    """All attention of each position to one key."""
    return np.eye(n)[keys]


def test_heads_that_do_one_thing(roberta: Case) -> None:
    """`<s> A B C A B C </s>`, read by heads that look at one place each."""
    ids = [0, 9, 5, 7, 9, 5, 7, 2]
    plain = {
        "self_attention_score": [0, 1, 2, 3, 4, 5, 6, 7],
        "prev_token_score": [0, 0, 1, 2, 3, 4, 5, 6],
        "next_token_score": [1, 2, 3, 4, 5, 6, 7, 7],
        "duplicate_token_score": [0, 4, 5, 6, 1, 2, 3, 0],
        "induction_score": [5, 5, 5, 5, 2, 3, 4, 5],
        "first_token_score": [5, 0, 0, 0, 0, 0, 0, 0],
        "special_token_score": [7, 0, 7, 7, 0, 7, 7, 7],
    }
    enc = roberta.model.encode(token_ids=ids)
    for name, keys in plain.items():
        found = attnxr.roles(with_attention(enc, at(8, keys)))
        assert {measure for measure in plain if (found[measure] == 1).all()} == {name}
        assert (found.pattern_entropy == 0).all()
    assert found.n_positions.values.tolist() == [8, 7, 7, 6, 3, 7, 8, 8, 8, 8]


def test_distance_and_entropy_of_what_is_plain_to_see(roberta: Case) -> None:
    enc = roberta.model.encode(token_ids=[0, 9, 5, 9, 5, 2])
    even = attnxr.roles(with_attention(enc, np.full((6, 6), 1 / 6)))
    np.testing.assert_allclose(even.pattern_entropy.values, np.log(6), rtol=1e-6)
    np.testing.assert_allclose(even.special_token_score.values, 2 / 6, rtol=1e-6)
    np.testing.assert_allclose(even.qk_distance.values, 35 / 18, rtol=1e-6)
    np.testing.assert_allclose(even.qk_distance_variance.values, 35 / 6 - (35 / 18) ** 2, rtol=1e-6)
    # One place behind from everywhere but the first, which looks ahead: the distance is always 1.
    behind = attnxr.roles(with_attention(enc, at(6, [1, 0, 1, 2, 3, 4])))
    assert (behind.qk_distance == 1).all()
    assert (behind.qk_distance_variance == 0).all()


def test_weights_below_a_hundredth_are_no_induction(roberta: Case) -> None:
    weights = np.zeros((3, 4, 4, 4))
    enc = roberta.model.encode(token_ids=[9, 9, 9, 9])
    weights[0, 0, 3] = [0, 0.3, 0.009, 0.2]  # after places 0, 1 and 2; what follows place 2 is place 3 itself
    weights[0, 1, 3] = [0, 0.3, 0.011, 0.2]
    found = attnxr.roles(with_attention(enc, weights))
    np.testing.assert_allclose(found.induction_score.values[0, :2], [0.5 / 3, 0.511 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.duplicate_token_score.values[0, :2], [0.309 / 4, 0.311 / 4], rtol=1e-6)


def test_a_generator_is_read_one_text_after_the_other(roberta: Case) -> None:
    made: list[weakref.ref[xr.Dataset]] = []
    alive = []

    def texts() -> Iterator[xr.Dataset]:
        for text in TEXTS * 3:
            enc = roberta.model.encode(text)
            made.append(weakref.ref(enc))
            gc.collect()
            alive.append(sum(each() is not None for each in made))
            yield enc
            del enc

    found = attnxr.roles(texts())
    xr.testing.assert_identical(found, attnxr.roles([roberta.model.encode(text) for text in TEXTS * 3]))
    assert found.attrs["n_texts"] == len(alive) == 9
    assert max(alive) <= 2


def test_positions_count_alike_whatever_text_they_are_of(roberta: Case) -> None:
    enc = roberta.model.encode(TEXTS[0])
    parts = [enc.isel(position=slice(3)), enc.isel(position=slice(3, None))]
    whole, together = attnxr.roles(enc), attnxr.roles(parts)
    for name in MEASURES:
        if name != "special_token_score":
            np.testing.assert_allclose(whole[name], together[name], rtol=1e-9, atol=1e-12)
            assert whole.n_positions.sel(measure=name) == together.n_positions.sel(measure=name)


@pytest.mark.parametrize("selection", [{"layer": 1}, {"head": [2, 0]}, {"layer": [2, 0], "head": 1}, {"layer": -1}])
def test_selecting_before_equals_selecting_after(roberta: Case, selection: dict[str, Any]) -> None:
    enc = roberta.model.encode(TEXTS[0])
    for given in (enc, [enc, roberta.model.encode(TEXTS[1])]):
        whole = attnxr.roles(given)
        few = [each.isel(selection) for each in given] if isinstance(given, list) else given.isel(selection)
        xr.testing.assert_allclose(attnxr.roles(few), whole.isel(selection), rtol=1e-12)


def test_chosen_positions_are_the_queries(roberta: Case) -> None:
    enc = roberta.model.encode(TEXTS[0])
    (whole,) = one_by_one([enc])
    for positions in ([4, 2], [3], [1, 2, 3, 4, 5, 6]):
        few = enc.isel(position=positions)
        attention = whole[0][:, :, positions]
        found = attnxr.roles(few)
        known = oracles.roles([(attention, whole[1], np.zeros(len(whole[1]), bool), whole[3], positions)])
        for name in set(MEASURES) & set(known[0]):
            np.testing.assert_allclose(found[name].values, known[0][name], rtol=1e-9, atol=1e-12)
        # `</s>` is not there, so that it is not known to be special.
        assert np.isnan(found.special_token_score).all()
    one = attnxr.roles(enc.isel(position=3))
    assert one.self_attention_score.dims == ("layer", "head")
    xr.testing.assert_identical(one, attnxr.roles(enc.isel(position=[3])))
    every = attnxr.roles(enc.isel(position=slice(None, None, -1)))
    np.testing.assert_allclose(every.special_token_score, attnxr.roles(enc).special_token_score, rtol=1e-9)


def test_one_token_has_few_roles(roberta: Case) -> None:
    found = attnxr.roles(roberta.model.encode(token_ids=[9]))
    assert (found.self_attention_score == 1).all()
    assert found.n_positions.values.tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert np.isnan(found.prev_token_score).all()


def test_the_result_says_of_what_it_is(roberta: Case) -> None:
    found = attnxr.roles(roberta.model.encode(TEXTS[0]))
    attrs = roberta.enc.attrs
    assert found.attrs == {
        **{name: attrs[name] for name in ("model", "fingerprint", "causal")},
        **{name: attrs[name] for name in attrs if name.endswith("_version")},
        "n_texts": 1,
    }
    assert set(found.dims) == {"layer", "head", "measure"}
    assert set(found.coords) == {"layer", "head", "measure"}


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_roles_come_back_from_a_file_as_they_were(roberta: Case, tmp_path: Path, engine: Any) -> None:
    found = attnxr.roles(roberta.model.encode(TEXTS[0], causal=True))
    found.to_netcdf(tmp_path / "roles.nc", engine=engine)
    with xr.open_dataset(tmp_path / "roles.nc", engine=engine) as opened:
        xr.testing.assert_identical(opened.load(), found)


def test_what_cannot_be_measured_is_refused(roberta: Case, bert: Case) -> None:
    enc = roberta.model.encode(TEXTS[0])
    wrong: list[tuple[Any, str]] = [
        (roberta.model.encode(TEXTS), r"roles\(model.encode\(text\) for text in texts\)"),
        ([enc, roberta.model.encode(TEXTS)], "Dataset 1 has no attention"),
        (enc.drop_vars("attention"), "no attention"),
        (enc.isel(key_position=slice(4)), "key_position"),
        (enc.isel(position=[]), "Select less narrowly"),
        ([enc, enc.isel(layer=[1])], "layers"),
        ([enc, enc.isel(head=1)], "heads"),
        ([enc, roberta.model.encode(TEXTS[1], causal=True)], "causal"),
        ([enc, bert.model.encode(TEXTS[1])], "fingerprint"),
        ([], "No Dataset"),
        (iter(()), "No Dataset"),
        (TEXTS[0], "Model.encode"),
        (TEXTS, "str was given"),
        (7, "Model.encode"),
        (enc.assign_attrs(token_ids=np.array(enc.attrs["token_ids"]) + 1), "encode them together"),
        (enc.drop_attrs(), "token_ids"),
        (enc.drop_vars("is_special"), "is_special"),
        (enc.drop_vars("layer"), "layer"),
    ]
    for given, named in wrong:
        with pytest.raises(InputError, match=named):
            attnxr.roles(given)


def test_half_precision_gives_what_it_gives() -> None:
    model = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer(), dtype="bfloat16")
    enc = model.encode(TEXTS[0])
    check(attnxr.roles(enc), one_by_one([enc]))
