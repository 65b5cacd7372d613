"""What goes wrong around attnxr: its reader is killed, nothing can be written, two begin at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import attnxr
from attnxr import saved
from attnxr.errors import InputError
from tests.support.cases import Case

WAIT = 240  # seconds for all kernels to be compiled, twice at a time


@pytest.mark.skipif(sys.platform != "linux", reason="the reader is found among Linux's processes")
def test_a_reader_that_is_killed_is_told_and_leaves_nothing(
    tmp_path: Path, bert: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    os.mkfifo(tmp_path / "sent.nc")  # nobody writes into it, so that its reader waits
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            for told in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # it has ended
                    if f"attnxr.saved\0{tmp_path}" in told.read_text():
                        os.kill(int(told.parent.name), signal.SIGKILL)
                        killed.append(int(told.parent.name))
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(InputError, match="brought its reader down"):
        saved.read_apart(tmp_path / "sent.nc")
    killer.join()
    with pytest.raises(InputError, match=r"took more than 0\.5 seconds and was ended"):
        saved.read_apart(tmp_path / "sent.nc", seconds=0.5)
    (tmp_path / "whole.nc").write_bytes(saved.write(bert.enc, bert.model.neighbors(bert.enc)))
    assert saved.read_apart(tmp_path / "whole.nc").encodings is not None  # the next one is read
    assert sorted(each.name for each in tmp_path.iterdir()) == ["sent.nc", "whole.nc"]


@contextmanager
def started(folder: Path | None = None, **environment: str) -> Iterator[Callable[[], str]]:
    """``attnxr serve`` with variables of which empty ones are not there; gives what waits for its address.

    Where it is started in a folder it may write nothing that its permissions forbid, also as root.
    """
    wanted = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.getcwd(), **environment}
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "attnxr", "serve", "minilm", "--port", "0", "--address", "127.0.0.1"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in wanted.items() if value},
            cwd=folder,
            preexec_fn=None if folder is None else obey_permissions,
        )

        def address() -> str:
            deadline = time.monotonic() + WAIT
            while not (found := re.search(r"attnxr runs at (http://127.0.0.1:\d+)/app", _all_of(log))):
                assert server.poll() is None, _all_of(log)
                assert time.monotonic() < deadline, _all_of(log)
                time.sleep(0.1)
            return found[1]

        try:
            yield address
            server.terminate()
            assert server.wait(60) == 0
            assert "Traceback" not in _all_of(log), _all_of(log)
        finally:
            server.kill()
            server.wait()


def obey_permissions() -> None:
    """Let root's next program write only where the permissions of a folder let it (see capabilities(7))."""
    if os.geteuid() == 0:
        bounding_set_drop, override = 24, 1
        assert ctypes.CDLL(None, use_errno=True).prctl(bounding_set_drop, override, 0, 0, 0) == 0


def _all_of(log: object) -> str:
    log.seek(0)  # type: ignore[attr-defined]
    return log.read()  # type: ignore[attr-defined, no-any-return]


def first_answer(address: str) -> str:
    """The page as soon as its first words have an answer in them: all kernels that it takes have run then."""
    deadline = time.monotonic() + WAIT
    while True:
        with urllib.request.urlopen(f"{address}/app", timeout=WAIT) as reply:
            page = reply.read().decode()
        if "own rank: " in page:
            return page
        assert time.monotonic() < deadline
        time.sleep(1)


def paint(page: str) -> list[str]:
    return re.findall(r"own rank: ([\d,]+)", page)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder with an installed attnxr and a home in it, where nothing can be written."""
    shutil.copytree(Path(attnxr.__file__).parent, tmp_path / "attnxr", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    folders = [tmp_path, *(each for each in tmp_path.rglob("*") if each.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield tmp_path
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="root's right to write anyway is taken from it as Linux does")
def test_a_server_answers_where_its_install_and_its_home_are_read_only(read_only: Path) -> None:
    own = dict.fromkeys(("HF_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"), "")
    with started(read_only, HOME=str(read_only / "home"), PYTHONPATH=str(read_only), **own) as address:
        assert paint(first_answer(address()))
    assert not [*read_only.rglob("*.nb?"), *(read_only / "home").iterdir()]


@pytest.mark.skipif(sys.platform == "win32", reason="a home is found otherwise there")
def test_a_server_answers_where_there_is_no_home() -> None:
    with started(HOME="") as address:
        assert paint(first_answer(address()))


def test_two_that_begin_at_once_both_answer_and_what_they_compile_is_good(tmp_path: Path) -> None:
    cache = tmp_path / "kernels"
    with started(NUMBA_CACHE_DIR=str(cache)) as one, started(NUMBA_CACHE_DIR=str(cache)) as other:
        answers = [paint(first_answer(address())) for address in (one, other)]
    assert [*cache.rglob("*.nbi")]
    with started(NUMBA_CACHE_DIR=str(cache)) as third:
        answers.append(paint(first_answer(third())))
    assert answers[0] == answers[1] == answers[2] != []
