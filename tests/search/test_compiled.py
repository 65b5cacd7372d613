"""Compiled functions work where nothing can be kept on disk, or what is kept is damaged, too."""

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


KEPT = """
import resource, signal, sys
from attnxr.search.compiled import compiled
if sys.argv[1:]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails as it does on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
@compiled()
def double(x):
    return 2 * x
print(double(21), double.stats.cache_hits[double.signatures[0]])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit makes writing fail there")
def test_a_damaged_file_is_replaced_and_a_full_disk_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text(KEPT)
    kept = tmp_path / "cache"

    def run(*arguments: str) -> tuple[str, str]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(kept), "PYTHONPATH": os.getcwd()}
        command = [sys.executable, str(tmp_path / "kept.py"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr

    out, said = run("full")
    assert out == "42 0"
    assert "NUMBA_CACHE_DIR" in said
    assert not [*kept.rglob("*.nb[ic]")]
    assert run() == ("42 0", "")
    for ending in ("nbi", "nbc"):
        (file,) = kept.rglob(f"*.{ending}")
        file.write_bytes(file.read_bytes()[:100])
        out, said = run()
        assert out == "42 0", ending
        assert "this process compiles them" in said
    assert run() == ("42 1", "")
