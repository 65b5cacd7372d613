"""The units of a corpus on a dask.distributed cluster: the model once on each worker, and only numbers in the tasks."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from itertools import islice
from queue import SimpleQueue
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from attnxr.corpus.plan import Plan
from attnxr.corpus.storage import at
from attnxr.corpus.unit import check_model, run
from attnxr.errors import AttnxrError, InputError
from attnxr.model import Model, load_model
from attnxr.search.nearest import Progress

try:
    from distributed import Client, Future, KilledWorker, LocalCluster, Worker, WorkerPlugin, get_worker
    from distributed.comm import CommClosedError
    from distributed.core import Status
except ImportError as error:
    raise InputError("A cluster is one of dask.distributed: pip install 'attnxr[corpus]'.") from error

_AHEAD = 2  # units that are handed out for each thread of the cluster, so that none is idle; the others wait here
_RETRIES = 2  # of a unit that raised an error: a disk or a network that failed may be there again
_PATIENCE = 60  # seconds
_TELLS = 0.5  # seconds between what a worker tells of a unit
_one_loads = threading.Lock()


@contextmanager
def local(workers: int) -> Iterator[Client]:
    """Have a cluster of processes on this machine, of one thread each; yields its client."""
    # Without a limit of memory: a worker beyond it would be paused for ever, or killed where the machine had managed.
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=None, dashboard_address=":0")
    try:
        with Client(cluster) as client:
            yield client
    finally:
        end(cluster)


def end(cluster: LocalCluster) -> None:
    """End a cluster's processes, those of workers that were killed too.

    Where one was, distributed can look for it in vain, and stop half way with a KeyError. It would then say of itself
    that it is ending, and who asks it once more would wait for that for ever.
    """
    try:
        cluster.close(timeout=_PATIENCE)
    except KeyError:
        cluster.status = Status.failed
        with suppress(KeyError):
            cluster.close(timeout=_PATIENCE)


def do(plan: Plan, units: list[int], model: Model, client: Client, told: Callable[[int, float], None]) -> None:
    """Do units on a cluster.

    Workers may join and die meanwhile: what one had not finished, another one does. What is handed out at a time is
    bounded, however many units there are.

    Parameters
    ----------
    plan : Plan
        It lies where workers find it, under the same path or URL.
    units : list of int
    model : Model
        That of the plan, and loaded by name: each worker loads it by that name too.
    client : distributed.Client
    told : callable
        Told the number of a unit and the fraction of it that is done, 1 once it is stored; always in this thread.

    Raises
    ------
    InputError
        If the model was not loaded by name, or a worker does not find the plan or the same model and versions.
    AttnxrError
        If workers die again and again with the same unit.
    OSError
        If files cannot be written.
    """
    if not isinstance(client, Client) or client.asynchronous:
        raise InputError(
            f"client={client!r:.80} was given; expected a dask.distributed.Client that is not asynchronous, such as "
            "Client(LocalCluster(n_workers=2, threads_per_worker=1))."
        )
    if model.loaded_as is None:
        raise InputError(
            f"The model {model.name!r} was given in memory, and its weights do not travel to workers. Expected one "
            "that they can load by name: model.hf_model.save_pretrained(folder), "
            "model.tokenizer.save_pretrained(folder), and then attnxr.load_model(folder)."
        )
    path = getattr(at(plan.store), "path", None)
    store = plan.store if path is None else str(path)
    plugin = _WithModel(store, plan.identity, model.loaded_as)
    left = iter(units)
    going: dict[int, Future] = {}
    happened: SimpleQueue[tuple[int, float]] = SimpleQueue()  # what other threads hear is told in this one

    def ended(number: int, _future: Future) -> None:
        happened.put((number, 1.0))

    def heard(event: tuple[float, dict[str, Any]]) -> None:
        happened.put((event[1]["unit"], event[1]["done"]))

    def hand_out() -> None:
        room = max(_AHEAD, _AHEAD * sum(client.nthreads().values())) - len(going)
        for number in islice(left, max(0, room)):
            going[number] = client.submit(_run, store, number, pure=False, retries=_RETRIES)
            going[number].add_done_callback(partial(ended, number))

    client.subscribe_topic(plugin.name, heard)
    try:
        _register(client, plugin)
        hand_out()
        while going:
            number, fraction = happened.get()
            if fraction < 1:
                if number in going:  # else it is heard late
                    told(number, fraction)
                continue
            try:
                going.pop(number).result()
            except KilledWorker as error:
                raise AttnxrError(
                    f"Workers died {error.allowed_failures + 1} times while they did unit {number} of the corpus at "
                    f"{plan.store!r}, the last of them {error.last_worker.address}. Was there memory enough? A smaller "
                    "batch_bytes takes less. What is done stays: call again."
                ) from error
            told(number, fraction)
            hand_out()
    finally:
        client.cancel(list(going.values()))
        client.unsubscribe_topic(plugin.name)
        with suppress(CommClosedError):  # a worker ends, and takes it along
            client.unregister_worker_plugin(plugin.name)


def _register(client: Client, plugin: WorkerPlugin) -> None:
    """Give the plugin to all workers; once more where one of them ended meanwhile."""
    for _ in range(_RETRIES):
        with suppress(CommClosedError):
            client.register_plugin(plugin)
            return
    client.register_plugin(plugin)


def _run(store: str, number: int) -> None:
    """What a task is."""
    plugin: Any = get_worker().plugins[_name(store)]
    plugin.run(number)


def _name(store: str) -> str:
    return f"attnxr corpus {store}"


def _seldom(progress: Progress) -> Progress:
    """The same, told only now and then: each time is a message to the scheduler, and one to the client."""
    last = time.monotonic()

    def tell(fraction: float) -> None:
        nonlocal last
        if time.monotonic() - last >= _TELLS:
            last = time.monotonic()
            progress(fraction)

    return tell


class _WithModel(WorkerPlugin):
    """Gives each worker the plan and the model, once, with its first unit; one that joins later too.

    Parameters
    ----------
    store : str
        Where the plan lies, as workers find it.
    identity : str
        Of the plan that is meant.
    loaded_as : dict
        Of the model: see `Model.loaded_as`.
    """

    def __init__(self, store: str, identity: str, loaded_as: dict[str, Any]):
        self.name = _name(store)
        self._store, self._identity, self._loaded_as = store, identity, loaded_as
        self._ready: tuple[Plan, Model] | None = None
        self._restore: list[Any] = []

    def teardown(self, worker: Worker) -> None:
        for restore in self._restore:
            restore()

    def run(self, number: int) -> None:
        """Do one unit."""
        # Loading takes long: in `setup` it would keep the worker from answering, and whoever registers this waiting.
        plan, model = self._load()
        worker = get_worker()

        def tell(fraction: float) -> None:
            worker.log_event(self.name, {"unit": number, "done": fraction})

        run(plan, number, model, _seldom(tell))

    def _load(self) -> tuple[Plan, Model]:
        with _one_loads:
            if self._ready is None:
                plan = self._plan()
                self._limit_threads(plan.threads)
                model = load_model(**self._loaded_as)
                check_model(plan, model)
                self._ready = plan, model
            return self._ready

    def _plan(self) -> Plan:
        try:
            plan = Plan.read(self._store)
        except InputError as error:
            raise InputError(
                f"A worker does not find the corpus at {self._store!r}. Expected a folder that all machines share "
                "under one path, or a URL that all of them can reach."
            ) from error
        if plan.identity != self._identity:
            raise InputError(
                f"A worker finds another corpus at {self._store!r} than the one that is built. Expected a folder that "
                "all machines share under one path."
            )
        here = {name: version(name) for name in plan.settings["versions"]}
        if here != plan.settings["versions"]:
            raise InputError(
                f"A worker has the versions {here}, and the corpus at {self._store!r} was begun with "
                f"{plan.settings['versions']}. Expected the same, as numbers depend on them in their last digits."
            )
        return plan

    def _limit_threads(self, count: int) -> None:
        """For the whole process: units that run side by side would else give each other's limits back."""
        before = torch.get_num_threads()
        self._restore = [lambda: torch.set_num_threads(before), threadpool_limits(count).restore_original_limits]
        torch.set_num_threads(count)
