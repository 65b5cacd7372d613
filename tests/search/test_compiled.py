"""Compiled functions work where nothing can be kept on disk, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import numba
from attnxr.search.compiled import compiled
place = {}
exec(compile("def double(x):\\n    return 2 * x", "/proc/nowhere/double.py", "exec"), place)
try:
    numba.njit(cache=True)(place["double"])
except RuntimeError:
    print("numba refuses")
print(compiled()(place["double"])(21))
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody can write to is taken from /proc")
def test_without_a_folder_to_keep_it_in_a_function_is_compiled_all_the_same() -> None:
    nowhere = {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere", "NUMBA_CACHE_DIR": ""}
    done = subprocess.run([sys.executable, "-c", CODE], env={**os.environ, **nowhere}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["numba refuses", "42"]
