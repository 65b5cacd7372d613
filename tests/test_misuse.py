"""What is nearly right: taken as what it plainly means, or refused with what to give instead."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import attnxr
from attnxr.analysis.given import neighbors
from attnxr.errors import InputError, UnsupportedModelError
from tests.support import models
from tests.support.cases import Case

TEXTS = ("Time flies like an arrow.", "Fruit flies like a banana.")


@pytest.fixture(scope="module")
def texts() -> tuple[attnxr.Model, xr.Dataset, xr.Dataset]:
    model = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())
    return (model, *(model.encode(text) for text in TEXTS))


def test_one_name_to_include_is_a_name(roberta: Case) -> None:
    one = roberta.model.encode(token_ids=roberta.token_ids, include="hidden")
    xr.testing.assert_identical(one, roberta.model.encode(token_ids=roberta.token_ids, include=["hidden"]))


def test_true_is_no_number(texts: tuple[attnxr.Model, xr.Dataset, xr.Dataset]) -> None:
    model, enc, _ = texts
    near = model.neighbors(enc, k=3)
    uses: list[Any] = [
        lambda: model.neighbors(enc, k=True),
        lambda: attnxr.overlap(near, n=True),
        lambda: attnxr.sequence_neighbors(enc, k=True),
        lambda: attnxr.hubness(near, hubs=True),
        lambda: attnxr.significance(model, enc, draws=True),
        lambda: attnxr.significance(model, enc, k=True),
        lambda: attnxr.csls_neighbors(model, enc, k=True),
        lambda: attnxr.decompose(model, enc, n=True),
        lambda: attnxr.decompose(model, enc, draws=True),
        lambda: attnxr.effects(model, enc, k=True),
        lambda: attnxr.effects(model, enc, draws=True),
        lambda: attnxr.random_repeats(model, n=True),
    ]
    for use in uses:
        with pytest.raises(InputError, match="True"):
            use()


def test_words_are_neither_true_nor_false(roberta: Case) -> None:
    """``truncate="no"`` would cut a text."""
    for option in ("truncate", "add_generation_prompt", "add_special_tokens"):
        for value in ("no", None, np.array([1, 2]), 2):
            with pytest.raises(InputError, match=option):
                roberta.model.encode("fine", **{option: value})


def test_what_a_model_is_built_with_is_checked(roberta: Case) -> None:
    with pytest.raises(InputError, match="layers=1"):
        attnxr.Model(roberta.model.hf_model, layers=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="name=3"):
        attnxr.Model(roberta.model.hf_model, name=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="device"):
        attnxr.load_model("minilm", device=3.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("cosines", [["a"], [0.5, float("nan")], [float("nan")], 0.5, [0.5, 0.5], [2.0]])
def test_cosines_are_numbers_that_rise(roberta: Case, cosines: Any) -> None:
    with pytest.raises(InputError, match="cosines"):
        attnxr.significance_power(roberta.model, roberta.enc, cosines=cosines)


def joined(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    return xr.concat([first, second], "position", combine_attrs="override")


def test_datasets_that_were_joined_are_refused(texts: tuple[attnxr.Model, xr.Dataset, xr.Dataset]) -> None:
    """Two texts have the same positions and words: put together by these, their tokens would be mixed."""
    model, enc, other = texts
    encodings = joined(*(each.drop_vars("attention") for each in (enc, other)))
    near = joined(*(model.neighbors(each, k=3) for each in (enc, other)))
    uses: list[Any] = [
        lambda: attnxr.words(near),
        lambda: attnxr.words(encodings),
        lambda: attnxr.origins(near),
        lambda: attnxr.overlap(near),
        lambda: attnxr.trajectories(near),
        lambda: attnxr.comparison(near, near),
        lambda: attnxr.hubness(near),
        lambda: attnxr.csls_neighbors(model, encodings),
        lambda: attnxr.significance(model, encodings),
        lambda: attnxr.decompose(model, encodings),
        lambda: attnxr.attribute(model, encodings),
        lambda: attnxr.promoted(model, encodings),
        lambda: attnxr.sequence_distances(encodings),
        lambda: attnxr.sequence_neighbors(encodings),
        lambda: model.neighbors(encodings),
        lambda: model.distances(encodings),
        lambda: model.replace(encodings, encodings.head_encoding[:, :, 0]),
        lambda: attnxr.effects(model, encodings),
    ]
    for use in uses:
        with pytest.raises(InputError, match="joined"):
            use()


def test_texts_that_were_joined_along_another_dimension_are_refused_for_that(bert: Case) -> None:
    one, other = (bert.model.encode(token_ids=ids) for ids in ([2, 9, 11, 3], [2, 12, 9, 3]))
    for dim in ("layer", "head", "new"):
        with pytest.raises(InputError, match="joined"):
            bert.model.neighbors(xr.concat([one, other], dim, coords="different", compat="equals"), k=3)
    with pytest.raises(InputError, match="transpose"):
        attnxr.sequence_distances(one.transpose("position", ...))
    with pytest.raises(InputError, match="renamed"):
        bert.model.neighbors(one.rename(position="place"))
    with pytest.raises(InputError, match="astype"):
        bert.model.neighbors(one.assign(head_encoding=one["head_encoding"].astype("float64")))


def test_positions_that_are_there_twice_make_no_words(texts: tuple[attnxr.Model, xr.Dataset, xr.Dataset]) -> None:
    """Each of them is right by itself: only what puts positions together must know them apart."""
    model, enc, _ = texts
    near = model.neighbors(enc, k=3)
    attnxr.origins(near.isel(position=[3, 1, 1]))
    for twice in (joined(near, near), near.isel(position=[3, 1, 1])):
        with pytest.raises(InputError, match="joined"):
            attnxr.words(twice)


def test_several_texts_that_were_encoded_together_are_not(texts: tuple[attnxr.Model, xr.Dataset, xr.Dataset]) -> None:
    model, enc, _ = texts
    both = model.neighbors(model.encode(list(TEXTS)), k=3)
    assert attnxr.words(both).sizes["word"] > attnxr.words(model.neighbors(enc, k=3)).sizes["word"]
    attnxr.origins(both.isel(position=[3, 1, 12]))


def test_narrower_and_wider_whole_numbers_are_the_same_numbers(
    texts: tuple[attnxr.Model, xr.Dataset, xr.Dataset],
) -> None:
    """Some file formats have no 64-bit integers, and arithmetic makes 64-bit ones of others."""
    model, enc, _ = texts
    near = model.neighbors(enc, k=3)
    widths = {name: each.dtype for name, each in near.variables.items() if each.dtype.kind == "i"}
    for width in (np.int32, np.int64, np.uint32):
        # −1 stands for what has no characters or words.
        kept = [name for name in widths if width != np.uint32 or (near[name].values >= 0).all()]
        other = near.assign_coords({name: near[name].astype(width) for name in kept if name in near.coords})
        other = other.assign({name: near[name].astype(width) for name in kept if name in near.data_vars})
        for use in (attnxr.origins, attnxr.overlap, attnxr.trajectories, attnxr.words, attnxr.hubness):
            xr.testing.assert_equal(use(other), use(near))
    too_large = near.assign(own_rank=near["own_rank"].astype(np.int64) + 2**40)
    with pytest.raises(InputError, match=r"own_rank.*int64"):
        neighbors(too_large, "own_rank")
    with pytest.raises(InputError, match=r"own_rank.*float64"):
        neighbors(near.assign(own_rank=near["own_rank"].astype(float)), "own_rank")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_callers_autocast_changes_no_number(roberta: Case, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype):
        model = attnxr.Model(roberta.hf_model)
        enc = model.encode(token_ids=roberta.token_ids, include=["hidden"])
        near = model.neighbors(enc, k=5)
        checks = model.verify()
        assert torch.is_autocast_enabled("cpu")
    np.testing.assert_array_equal(enc["head_encoding"].values, roberta.enc["head_encoding"].values)
    expected = roberta.model.neighbors(roberta.enc, k=5)
    for name in ("neighbor_id", "distance", "own_rank", "own_distance"):
        np.testing.assert_array_equal(near[name].values, expected[name].values)
    assert checks.attrs["passed"] == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_a_model_of_its_own(copied: Any, texts: tuple[attnxr.Model, xr.Dataset, xr.Dataset]) -> None:
    model, enc, _ = texts
    twin = copied(model)
    assert (twin.name, twin.fingerprint) == (model.name, model.fingerprint)
    xr.testing.assert_identical(twin.encode(TEXTS[0]), enc)
    xr.testing.assert_identical(twin.neighbors(enc, k=3), model.neighbors(enc, k=3))
    with torch.no_grad():
        twin.hf_model.get_input_embeddings().weight.mul_(2)
    assert twin.fingerprint != model.fingerprint


def test_what_holds_a_model_says_where() -> None:
    hf_model = models.tiny_bert()
    inner = nn.Sequential(nn.Module())
    inner[0].add_module("auto_model", hf_model)
    for given, where in ((SimpleNamespace(model=hf_model), r"\.model"), (inner, r"0\.auto_model")):
        with pytest.raises(UnsupportedModelError, match=where):
            attnxr.Model(given)  # type: ignore[arg-type]


def test_explore_wants_a_name_or_a_model() -> None:
    with pytest.raises(InputError, match=r"BertModel.*attnxr\.Model\(hf_model, tokenizer\)"):
        attnxr.explore("Time flies.", model=models.tiny_bert())  # type: ignore[arg-type]
