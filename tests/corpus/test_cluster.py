"""A corpus made by workers is, to the byte, the one that is made without them, whoever dies or comes meanwhile."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
import signal
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, SchedulerPlugin, WorkerPlugin

import attnxr
from attnxr.corpus.opened import info
from attnxr.errors import AttnxrError, InputError
from tests.support import models

TEXTS = models.CORPUS * 2
OPTIONS: dict[str, Any] = {"measures": [], "keep": ["neighbor_id", "own_rank"], "k": 3, "unit_tokens": 64}

pytestmark = [
    # of a worker that was killed, and of a scheduler that hears of it late
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def files(store: Path) -> dict[str, str]:
    """Hashes of all files of a store but the lock, which says whose it was."""
    found = {path.relative_to(store).as_posix(): path for path in store.rglob("*") if path.is_file()}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items() if "lock" not in name}


@pytest.fixture(scope="module")
def model(roberta_folder: Path) -> attnxr.Model:
    return attnxr.load_model(str(roberta_folder))


@pytest.fixture(scope="module")
def alone(model: attnxr.Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of the corpus that one process makes."""
    store = tmp_path_factory.mktemp("alone") / "corpus.zarr"
    attnxr.build_corpus(TEXTS, store, model, **OPTIONS)
    return files(store)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    options: dict[str, Any] = {"processes": True, "threads_per_worker": 1, "memory_limit": None}
    started = LocalCluster(n_workers=1, dashboard_address=":0", **options)
    yield started
    # It may still hear of a worker that was killed, and which it has forgotten: the error is its own.
    with suppress(KeyError):
        started.close()
    with suppress(KeyError):
        started.close()
    del started
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # here, not in another file's test


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as connected:
        yield connected


class Sizes(SchedulerPlugin):
    """Bytes of each task that the scheduler was given."""

    def __init__(self, scheduler: Any):
        self.name, self.scheduler = "sizes", scheduler
        self.of: dict[str, int] = {}
        self.most = 0

    def transition(self, key: Any, start: str, finish: str, *_args: Any, **_options: Any) -> None:
        if start == "released" and str(key).startswith("_run"):
            self.of[str(key)] = len(pickle.dumps(self.scheduler.tasks[key].run_spec))
        waiting = [each for each in self.scheduler.tasks.values() if each.key in self.of and each.state != "memory"]
        self.most = max(self.most, len(waiting))


def test_one_worker_does_what_this_process_does(
    client: Client, cluster: LocalCluster, model: attnxr.Model, alone: dict[str, str], tmp_path: Path
) -> None:
    sizes = Sizes(cluster.scheduler)
    cluster.scheduler.add_plugin(sizes)
    told: list[float] = []
    corpus = attnxr.build_corpus(TEXTS, tmp_path / "c", model, client=client, progress=told.append, **OPTIONS)
    cluster.scheduler.remove_plugin("sizes")
    assert files(tmp_path / "c") == alone
    assert corpus.attrs["finished"] == 1
    units = corpus.attrs["units"]
    assert len(told) == units == len(sizes.of) > 8
    assert told == sorted(told)
    assert told[-1] == 1
    weights = sum(each.nbytes for each in model.hf_model.parameters())
    assert max(sizes.of.values()) < 1500 < weights / 50  # no weights, no texts, no tokens
    assert sizes.most <= 3  # two for each thread, and the one that is given in exchange
    assert not client.run(lambda dask_worker: [name for name in dask_worker.plugins if "attnxr" in name]).popitem()[1]


def test_workers_die_and_join_while_it_runs(
    client: Client, cluster: LocalCluster, model: attnxr.Model, alone: dict[str, str], tmp_path: Path
) -> None:
    killed: list[int] = []
    workers: list[int] = []

    def disturb(_done: float) -> None:
        workers.append(len(client.nthreads()))
        if len(workers) == 1:
            cluster.scale(3)
            client.wait_for_workers(3, timeout=300)
        elif len(workers) == 3:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    attnxr.build_corpus(TEXTS, tmp_path / "c", model, client=client, progress=disturb, **OPTIONS)
    assert (workers[0], max(workers)) == (1, 3)
    assert files(tmp_path / "c") == alone
    cluster.scale(2)
    client.wait_for_workers(2, timeout=300)
    assert killed[0] not in client.run(os.getpid).values()
    attnxr.build_corpus(TEXTS, tmp_path / "two", model, client=client, **OPTIONS)
    assert files(tmp_path / "two") == alone


def dying() -> WorkerPlugin:
    class Dying(WorkerPlugin):
        """Ends its worker when a unit begins."""

        name = "dying"

        def transition(self, key: Any, start: str, finish: str, **_options: Any) -> None:
            if finish == "executing" and str(key).startswith("_run"):
                os._exit(1)

    return Dying()  # pickled by value, as the class is nobody's to import


def test_a_unit_that_kills_its_workers_is_named(
    client: Client, cluster: LocalCluster, model: attnxr.Model, alone: dict[str, str], tmp_path: Path
) -> None:
    allowed, cluster.scheduler.allowed_failures = cluster.scheduler.allowed_failures, 0
    client.register_plugin(dying())
    with pytest.raises(AttnxrError, match=r"Workers died 1 times while they did unit \d+ of the corpus.*batch_bytes"):
        attnxr.build_corpus(TEXTS, tmp_path / "c", model, client=client, **OPTIONS)
    cluster.scheduler.allowed_failures = allowed
    client.unregister_worker_plugin("dying")
    assert not info(tmp_path / "c")["finished"]
    attnxr.build_corpus(TEXTS, tmp_path / "c", model, client=client, **OPTIONS)
    assert files(tmp_path / "c") == alone


def test_what_workers_cannot_do_is_refused(client: Client, model: attnxr.Model, tmp_path: Path) -> None:
    in_memory = attnxr.Model(model.hf_model, model.tokenizer)
    assert in_memory.loaded_as is None
    with pytest.raises(InputError, match="was given in memory, and its weights do not travel to workers"):
        attnxr.build_corpus(TEXTS, tmp_path / "a", in_memory, client=client, **OPTIONS)
    with pytest.raises(InputError, match=r"client='tcp' was given; expected a dask\.distributed\.Client"):
        attnxr.build_corpus(TEXTS, tmp_path / "b", model, client="tcp", **OPTIONS)
    with pytest.raises(InputError, match="A worker does not find the corpus at 'memory://"):
        attnxr.build_corpus(TEXTS, "memory://cluster/c", model, client=client, **OPTIONS)
    changed = attnxr.load_model(str(model.name))
    next(changed.hf_model.parameters()).data += 1
    with pytest.raises(InputError, match=r"with the fingerprint '.*Expected the model it was begun with"):
        attnxr.build_corpus(TEXTS, tmp_path / "d", changed, client=client, **OPTIONS)
    assert not info(tmp_path / "d")["units_done"]
