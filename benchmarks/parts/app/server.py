"""``panel serve app`` in a process of its own, and what it takes of the machine."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
MODEL = "minilm"


class Server:
    """A server that is running.

    Attributes
    ----------
    address : str
        Of the page.
    """

    def __init__(self, address: str, process: psutil.Process, log: Path) -> None:
        self.address = address
        self._process = process
        self._log = log

    def cpu(self) -> float:
        """Seconds of processor time that it has had so far."""
        times = self._process.cpu_times()
        return times.user + times.system

    def memory(self) -> int:
        """Bytes that it has in memory."""
        return self._process.memory_info().rss

    def handles(self) -> tuple[int, int]:
        """How many files and sockets it has open, and how many threads it has."""
        return self._process.num_fds(), self._process.num_threads()

    def errors(self) -> int:
        """How many lines of its log tell of errors."""
        return sum(line.startswith("Traceback") or "ERROR" in line for line in self._lines())

    def said(self, beginning: str) -> int:
        """How many lines of its log begin so."""
        return sum(line.startswith(beginning) for line in self._lines())

    def _lines(self) -> list[str]:
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()


@contextmanager
def serve(*options: str, arguments: Sequence[str] = (), builds: bool = False) -> Iterator[Server]:
    """Serve the app on a free port, as the README says but for the options, and what the app is told.

    Where it builds, corpora are built in the same process: see `benchmarks.parts.app.builder`.
    """
    port = free_port()
    command = [str(Path(sys.executable).with_name("panel")), "serve", "app", "--address", "127.0.0.1"]
    command += ["--port", str(port), *options, "--args", MODEL, *arguments]
    if builds:
        command = [sys.executable, "-m", "benchmarks.parts.app.builder", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # this checkout is what is measured
    with tempfile.NamedTemporaryFile() as log:
        # A process group of its own: whatever it starts ends with it.
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/", process)
            yield Server(f"http://127.0.0.1:{port}/app", psutil.Process(process.pid), Path(log.name))
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a page can be had. Raises RuntimeError where its server ends first."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not start")
