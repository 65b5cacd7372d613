"""A corpus made by workers is, to the byte, the one that is made without them, whoever dies or comes meanwhile."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster, SchedulerPlugin, WorkerPlugin
from distributed.core import Status

import attnxr
from attnxr.cli import main
from attnxr.corpus.cluster import end
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
    end(started)
    del started
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # here, not in another file's test


class Forgetful(LocalCluster):
    """Looks in vain for a worker when it is closed, once, as where one was killed."""

    looked = False

    def _correct_state(self) -> Any:
        if self.status == Status.closing and not self.looked:
            self.looked = True
            raise KeyError("tcp://127.0.0.1:1")
        return super()._correct_state()


def test_a_cluster_that_looks_for_a_worker_in_vain_ends_all_the_same() -> None:
    started = Forgetful(n_workers=1, processes=True, threads_per_worker=1, memory_limit=None, dashboard_address=":0")
    nannies = list(started.workers.values())
    end(started)
    assert started.looked
    assert started.status == Status.closed
    assert all(nanny.pid is None for nanny in nannies)


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
    assert len(told) > units == len(sizes.of) > 8
    assert told == sorted(told)
    assert told[0] == 0
    assert told[-1] == 1
    weights = sum(each.nbytes for each in model.hf_model.parameters())
    assert max(sizes.of.values()) < 1500 < weights / 50  # no weights, no texts, no tokens
    assert sizes.most <= 3  # two for each thread, and the one that is given in exchange
    assert not client.run(lambda dask_worker: [name for name in dask_worker.plugins if "attnxr" in name]).popitem()[1]


def processes(cluster: LocalCluster) -> list[int]:
    """Of the workers, by those who started them: a worker that is leaving must not be asked."""
    return [nanny.pid for nanny in cluster.workers.values() if nanny.pid]


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
            killed.append(next(iter(processes(cluster))))
            os.kill(killed[0], signal.SIGKILL)

    attnxr.build_corpus(TEXTS, tmp_path / "c", model, client=client, progress=disturb, **OPTIONS)
    assert (workers[0], max(workers)) == (1, 3)
    assert files(tmp_path / "c") == alone
    cluster.scale(2)
    client.wait_for_workers(2, timeout=300)
    assert killed[0] not in processes(cluster)
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


def test_a_scheduler_that_was_there_before_and_its_workers_do_the_same(model: attnxr.Model, tmp_path: Path) -> None:
    """As `attnxr corpus build --scheduler` finds them: processes of their own, started by dask's commands."""
    known = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "dask"]
    of_all = ["--no-dashboard", "--scheduler-file", str(known)]
    of_workers = ["--nworkers", "2", "--nthreads", "1", "--memory-limit", "0", "--local-directory", str(tmp_path)]
    commands = [
        [*command, "scheduler", "--host", "127.0.0.1", "--port", "0", *of_all],
        [*command, "worker", *of_workers, *of_all],
    ]
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    asked = ["--model", str(model.name), "--k", "3", "--unit-tokens", "64", "--quiet"]
    asked += ["--keep", "neighbor_id", "--keep", "own_rank", "--measure", "own"]
    with (tmp_path / "log").open("wb") as log:
        started = [subprocess.Popen(each, stdout=log, stderr=log) for each in commands]
        try:
            for _ in range(1200):
                if known.exists() and known.stat().st_size:
                    break
                time.sleep(0.1)
            address = json.loads(known.read_text())["address"]
            with Client(address) as client:
                client.wait_for_workers(2, timeout=300)
                ours = {os.getpid(), *(process.pid for process in started)}
                assert not ours & set(client.run(os.getpid).values())
            done = CliRunner().invoke(
                main, ["corpus", "build", str(texts), str(tmp_path / "c"), *asked, "--scheduler", address, "--json"]
            )
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(60)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["finished"]
    options = {**OPTIONS, "measures": ["own"]}
    attnxr.build_corpus(attnxr.texts_of(texts), tmp_path / "alone", model, **options)
    assert files(tmp_path / "c") == files(tmp_path / "alone")
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        done = CliRunner().invoke(
            main, ["corpus", "build", str(texts), str(tmp_path / "d"), *asked, "--scheduler", address]
        )
    assert done.exit_code == 2
    assert f"There is no scheduler at {address!r}" in done.stderr


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
