"""The served page's shelf of models."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import constants
from threadpoolctl import threadpool_info, threadpool_limits

import attnxr
from attnxr.dashboard.served.shelf import Shelf, offered


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with threadpool_limits():  # restores what is changed meanwhile
        yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # as tests/conftest.py leaves it


def test_a_model_is_loaded_once_however_many_ask_at_once(shelf: dict[str, attnxr.Model]) -> None:
    loads: list[str] = []
    everyone = threading.Barrier(4)

    def load(name: str) -> attnxr.Model:
        loads.append(name)
        return shelf[name]

    models = Shelf(load)

    def ask(_visitor: int) -> attnxr.Model:
        everyone.wait(60)
        return models("bert")

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(ask, range(4)))
    assert loads == ["bert"]
    assert all(model is shelf["bert"] for model in given)


def test_what_is_loaded_is_told_without_waiting_and_never_looked_through_for_garbage(
    shelf: dict[str, attnxr.Model],
) -> None:
    models = Shelf(shelf.__getitem__)
    assert models.loaded("bert") is None
    there = [[] for _ in range(20_000)]  # as what was imported is
    frozen = gc.get_freeze_count()
    models("bert")
    assert models.loaded("bert") is shelf["bert"]
    assert models.loaded("roberta") is None
    assert gc.get_freeze_count() > frozen + len(there) // 2


def test_products_of_numpy_have_one_thread_once_a_model_is_there(shelf: dict[str, attnxr.Model]) -> None:
    with threadpool_limits(2, user_api="blas"):
        Shelf(shelf.__getitem__)("bert")
        threads = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    assert set(threads) == {1}


def test_a_model_that_could_not_be_had_is_tried_anew(shelf: dict[str, attnxr.Model]) -> None:
    errors = [attnxr.ModelNotFoundError("no network")]

    def load(name: str) -> attnxr.Model:
        if errors:
            raise errors.pop()
        return shelf[name]

    models = Shelf(load)
    with pytest.raises(attnxr.ModelNotFoundError):
        models("bert")
    assert models("bert") is shelf["bert"]


def test_offers_what_it_was_started_with_each_once() -> None:
    assert offered(["b", "a", "b"]) == ["b", "a"]


def test_offers_what_the_environment_names_where_the_command_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNXR_MODELS", "b 'a folder' b")
    assert offered([]) == ["b", "a folder"]
    assert offered(["c"]) == ["c"]
    monkeypatch.setenv("ATTNXR_MODELS", "it's")
    with pytest.raises(attnxr.InputError, match="ATTNXR_MODELS was set to"):
        offered([])


def test_starts_with_the_embedded_model_until_roberta_is_in_the_cache() -> None:
    assert offered([]) == ["minilm", "roberta-base"]

    repo = Path(constants.HF_HUB_CACHE) / "models--roberta-base"
    snapshot = repo / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0123")
    for name in ("config.json", "tokenizer.json"):
        (snapshot / name).touch()
    assert offered([]) == ["minilm", "roberta-base"]

    (snapshot / "model.safetensors").touch()
    found = offered([])
    shutil.rmtree(repo)
    assert found == ["roberta-base", "minilm"]
