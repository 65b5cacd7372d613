"""A server ends when it is told to, one of several processes as a whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def within_a_minute(look: Callable[[], list[int]], wanted: Callable[[list[int]], bool]) -> list[int]:
    deadline = time.monotonic() + 60
    while not wanted(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for a process' children")
def test_processes_end_with_the_one_that_forked_them() -> None:
    command = [sys.executable, "-m", "attnxr", "serve", "minilm", "--port", "0", "--num-procs", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("attnxr runs at http://localhost:")
            serving = within_a_minute(lambda: children(server.pid), lambda there: len(there) == 2)
            server.terminate()
            server.wait(30)
            within_a_minute(lambda: [child for child in serving if lives(child)], lambda left: not left)
        finally:
            server.kill()


@pytest.mark.skipif(os.name == "nt", reason="it has no such signal")
def test_a_server_ends_when_it_is_told_to_though_nobody_reads_what_it_prints() -> None:
    command = [sys.executable, "-m", "attnxr", "serve", "minilm", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    ) as server:
        try:
            assert server.stdout is not None
            (address,) = re.findall(r"attnxr runs at (http://localhost:\d+)/app", server.stdout.readline())
            with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
                assert answer.status == 200
            server.stdout.close()
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()


STUCK = """
import time
from tornado.ioloop import IOLoop
from attnxr.dashboard.compute.jobs import ANSWER
from attnxr.dashboard.served.server import serve

def visit():
    ANSWER.begin(object(), lambda: print("begun", flush=True) or time.sleep(1_000))

IOLoop.current().call_later(0.5, visit)
serve(["minilm"], port=0)
"""


@pytest.mark.skipif(os.name == "nt", reason="it has no such signal")
def test_a_server_ends_though_a_job_cannot() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    ) as server:
        try:
            assert server.stdout is not None
            assert {server.stdout.readline().split()[0] for _ in range(2)} == {"attnxr", "begun"}
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()
