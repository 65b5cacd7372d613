"""Analyses of a corpus that was built give what they give of its texts in memory, wherever it lies."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import attnxr
from tests.support import models

TEXTS = [*models.CORPUS[7:], "Fruit flies.", "A dog! A fox! A dog dreams of a fox and a dog."]


@pytest.fixture(scope="module", params=["folder", "memory"])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    model = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())
    store: str | Path = tmp_path_factory.mktemp("corpus") / "out.zarr"
    if request.param == "memory":
        pytest.importorskip("fsspec", "2024.12")
        store = f"memory://{uuid.uuid4().hex}/out.zarr"
    keep = ["neighbor_id", "own_rank", "own_distance"]
    return attnxr.build_corpus(TEXTS, store, model, measures=["own"], keep=keep, k=12, unit_tokens=40)


@pytest.fixture(scope="module")
def near() -> xr.Dataset:
    model = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())
    return model.neighbors(model.encode(TEXTS), k=12)


@pytest.mark.parametrize("name", ["overlap", "origins", "trajectories", "hubness"])
def test_a_built_corpus_gives_what_its_texts_give(corpus: xr.DataTree, near: xr.Dataset, name: str) -> None:
    found, right = (getattr(attnxr, name)(given) for given in (corpus, near))
    assert found.sizes["layer"] == right.sizes["layer"]
    for variable in right.data_vars:
        assert found[variable].dims == right[variable].dims
        if right[variable].dtype.kind == "f":  # texts of one length go through the model together
            np.testing.assert_allclose(found[variable].values, right[variable].values, atol=1e-5)
        else:
            np.testing.assert_array_equal(found[variable].values, right[variable].values)
    for name in ("token_id", "is_special", "text_id", "text_position"):
        if "position" in right.dims:
            np.testing.assert_array_equal(found[name].values, right[name].values)


def test_its_vocabulary_names_the_hubs(corpus: xr.DataTree, near: xr.Dataset) -> None:
    found = attnxr.hubness(corpus, over=("layer", "head", "position"))  # type: ignore[arg-type]
    right = attnxr.hubness(near, over=("layer", "head", "position"))
    assert found.hub.values.tolist() == right.hub.values.tolist()
    assert found.attrs["vectors"] == right.attrs["vectors"]
