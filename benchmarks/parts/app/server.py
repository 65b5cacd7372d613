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
from collections.abc import Iterator
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

    def __init__(self, address: str, process: psutil.Process) -> None:
        self.address = address
        self._process = process

    def cpu(self) -> float:
        """Seconds of processor time that it has had so far."""
        times = self._process.cpu_times()
        return times.user + times.system

    def memory(self) -> int:
        """Bytes that it has in memory."""
        return self._process.memory_info().rss


@contextmanager
def serve(*options: str) -> Iterator[Server]:
    """Serve the app on a free port, as the README says but for the options."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("panel")), "serve", "app", "--address", "127.0.0.1"]
    command += ["--port", str(port), *options, "--args", MODEL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # this checkout is what is measured
    with tempfile.TemporaryFile() as log:
        # A process group of its own: whatever it starts ends with it.
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait_for(f"http://127.0.0.1:{port}/", process)
            yield Server(f"http://127.0.0.1:{port}/app", psutil.Process(process.pid))
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not start")
