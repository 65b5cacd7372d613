"""A corpus whose builder is killed, runs out of disk, or has many texts: nothing is lost, and no memory either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import nursery

if os.name == "nt":
    pytest.skip("no forks, and no limits of a file's size", allow_module_level=True)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_nursery(tmp_path_factory.mktemp("nursery"))


def run_nursery(folder: Path, *words: str, before: Sequence[str] = ()) -> dict[str, Any]:
    """What it tells; `before` is a command that runs the one behind it."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*before, sys.executable, "-m", nursery.__name__, str(folder), *words],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_killed_build_goes_on_and_ends_the_same_to_the_byte(told: dict[str, Any]) -> None:
    killed = told["killed"]
    assert killed["kills"] >= 20
    assert killed["same"]
    assert all(killed["same"])
    assert killed["verified"]["passed"]
    assert killed["verified"]["finished"]


def test_what_is_there_after_a_kill_opens_and_is_right(told: dict[str, Any]) -> None:
    opened = told["killed"]["opened"]
    assert all(passed for _, _, passed in opened)
    # Some were killed in the middle of the units, so that the test says something.
    assert any(not finished and 0 < done < told["killed"]["units"] for finished, done, _ in opened)


def test_a_full_disk_loses_nothing(told: dict[str, Any]) -> None:
    full = told["full"]
    (first, none), (second, some), (third, every) = full["done"]
    assert first == second == third == 3  # each ended with an OSError
    assert none is None
    assert 0 < some < every == told["killed"]["units"]
    assert full["same"]


def test_a_disk_without_room_loses_nothing(tmp_path: Path) -> None:
    apart = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    try:  # a file system of our own, which nobody else sees and which goes with the process
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
        subprocess.run([*apart, *mount], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system may be mounted here: {getattr(error, 'stderr', None) or error}")
    found = run_nursery(tmp_path, "disk", before=apart)
    *full, last = found["said"]
    assert [code for code, _, _ in full] == [3, 3, 3]  # no room is left on the device
    assert last == [0, found["units"], True]
    done = [units or 0 for _, units, _ in full]
    assert done == sorted(done)
    assert 0 < done[-1] < found["units"]
    assert all(passed in (None, True) for _, _, passed in full)
    assert found["same"]


def test_memory_does_not_grow_with_the_texts(told: dict[str, Any]) -> None:
    few, many = told["sizes"]
    assert many <= 1.1 * few
    assert many - few < 24 << 20  # what is kept of the ten-fold texts takes more
