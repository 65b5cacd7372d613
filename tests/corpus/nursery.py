"""A process whose children build corpora, and are killed, or run out of disk; it tells in JSON what became of them.

Children are forks, so that torch is imported once. It is run as a module, with the folder to work in; and with the word
``disk`` behind it where it may mount a file system in that folder, on which there is too little room.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import attnxr
from attnxr.corpus.measures import MEASURES
from attnxr.corpus.opened import info, verify
from attnxr.corpus.plan import PLAN
from tests.support import measures, models

KILLS = 24
NAMES = ("attended_distance", "mean_own_rank", "written_length")
OPTIONS: dict[str, Any] = {
    "measures": NAMES,
    "keep": ("neighbor_id", "own_rank"),
    "k": 4,
    "unit_tokens": 96,
    "sample": 6,
}


def texts(count: int) -> list[str]:
    words = sorted(set(" ".join(models.CORPUS).split()))
    chosen = random.Random(0)
    return ["" if i % 17 == 5 else " ".join(chosen.choices(words, k=chosen.randint(1, 24))) for i in range(count)]


def tree(folder: Path) -> dict[str, str]:
    """Every file of a folder, and the hash of what is in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def child(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid: int) -> tuple[bool, int]:
    """Whether a child did what it was to do, and its largest size in bytes."""
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0, usage.ru_maxrss * 1024


def killed(folder: Path, given: list[str], model: attnxr.Model) -> dict[str, Any]:
    """Builds of one store that are killed at random moments, until one ends by itself."""
    store, reference = folder / "killed-0.zarr", folder / "reference.zarr"
    began = time.monotonic()
    assert ended(child(lambda: build(given, reference, model)))[0]
    whole = time.monotonic() - began
    moments, opened, kills, stores = random.Random(1), [], 0, 1
    while kills < KILLS:
        pid = child(partial(build, given, store, model))
        # Most in the middle of units; some while texts are read, some after that.
        time.sleep(moments.uniform(0, whole) * (1 if kills % 3 == 0 else 0.35))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        was_killed = os.WIFSIGNALED(status)
        kills += was_killed
        if not was_killed:  # the machine is faster than it was: else nothing would be killed any more
            whole *= 0.8
        if (store / "attnxr" / "plan.json").exists():
            said = info(store)
            attnxr.open_corpus(store)["tokens"].token_id.values.sum()
            opened.append([said["finished"], said["units_done"], verify(store)["passed"]])
            if said["finished"]:  # another store, for the other moments
                store = folder / f"killed-{stores}.zarr"
                stores += 1
    assert ended(child(lambda: build(given, store, model)))[0]
    same = [tree(each) == tree(reference) for each in folder.glob("killed*.zarr") if info(each)["finished"]]
    return {"kills": kills, "opened": opened, "same": same, "verified": verify(store), "units": info(store)["units"]}


def full(folder: Path, given: list[str], model: attnxr.Model) -> dict[str, Any]:
    """Builds that cannot write files beyond some size, and one that can."""
    store, reference = folder / "full.zarr", folder / "reference.zarr"
    shards = [path.stat().st_size for path in (reference / "results/neighbor_id/c").rglob("*") if path.is_file()]
    done = []
    # While texts are read; while a unit in the middle is written, once they are; and at the end.
    for limit in (2_000, max(shards) - 1, (reference / "zarr.json").stat().st_size - 1):

        def limited(limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails as it does on a full disk
            if limit > 2_000 and not (store / "attnxr/plan.json").exists():
                with suppress(ZeroDivisionError):
                    attnxr.build_corpus(given, store, model, **OPTIONS, progress=lambda fraction: 1 / 0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                build(given, store, model)
            except OSError:
                os._exit(3)

        pid = child(limited)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        done.append([code, info(store)["units_done"] if (store / "attnxr" / "plan.json").exists() else None])
    assert ended(child(lambda: build(given, store, model)))[0]
    return {"done": done, "same": tree(store) == tree(reference)}


def disk(folder: Path, given: list[str], model: attnxr.Model) -> dict[str, Any]:
    """Builds on a disk of memory that is full, then a little larger, and so on until all of it has room."""
    reference, mounted = folder / "reference.zarr", folder / "mounted"
    assert ended(child(lambda: build(given, reference, model)))[0]
    whole = sum(-(-path.stat().st_size // 4096) * 4096 for path in reference.rglob("*") if path.is_file())
    mounted.mkdir()
    store, said = mounted / "c.zarr", []
    for i, share in enumerate((0.1, 0.5, 0.9, 4)):
        options = f"{'remount,' if i else ''}size={int(share * whole)}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mounted)], check=True)

        def filling() -> None:
            try:
                build(given, store, model)
            except OSError as error:
                os._exit(3 if error.errno == errno.ENOSPC else 4)

        pid = child(filling)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        begun = (store / PLAN).exists()
        said.append([code, info(store)["units_done"] if begun else None, verify(store)["passed"] if begun else None])
    return {"said": said, "same": tree(store) == tree(reference), "units": info(reference)["units"]}


def sizes(folder: Path, model: attnxr.Model) -> list[int]:
    """Largest size of a build of some texts, and of ten times as many."""
    keep = ("neighbor_id", "distance", "head_encoding")
    options: dict[str, Any] = {"measures": ("mean_own_rank",), "keep": keep, "k": 12, "unit_tokens": 256}
    found = []
    for count in (30, 300):
        store = folder / f"{count}.zarr"

        def work(count: int = count, store: Path = store) -> None:
            attnxr.build_corpus(texts(count), store, model, **options)

        succeeded, most = ended(child(work))
        assert succeeded
        found.append(most)
    return found


def build(given: list[str], store: Path, model: attnxr.Model) -> None:
    attnxr.build_corpus(given, store, model, **OPTIONS)


def main() -> None:
    folder = Path(sys.argv[1])
    MEASURES.update(measures.ALL)
    model = attnxr.Model(models.tiny_bert(), models.wordpiece_tokenizer())
    attnxr.build_corpus(texts(2), folder / "first.zarr", model, **OPTIONS)  # so that all is compiled and imported
    given = texts(120)
    if sys.argv[2:] == ["disk"]:
        told = disk(folder, given, model)
    else:
        told = {
            "killed": killed(folder, given, model),
            "full": full(folder, given, model),
            "sizes": sizes(folder, model),
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
