"""Imports of a program that then runs for long."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnxr.importing import quickly


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "of_many_objects.py").write_text(
        "import gc\nlists = [[] for _ in range(5000)]\nfound = gc.get_threshold(), gc.isenabled()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "of_many_objects"
    sys.modules.pop("of_many_objects", None)


def test_what_is_imported_stays_and_is_not_looked_through(module: str) -> None:
    before, thresholds = gc.get_freeze_count(), gc.get_threshold()
    assert thresholds[0] > 0
    with quickly(module):
        found = __import__(module)
    assert found.found[0][0] == 0
    assert found.found[1]  # which dask.array asks for when it is imported
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() >= before + 5000


def test_a_module_that_is_there_already_changes_nothing(module: str) -> None:
    __import__(module)
    mine = [[] for _ in range(5000)]  # type: ignore[var-annotated]
    before, thresholds = gc.get_freeze_count(), gc.get_threshold()
    with quickly(module):
        assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() < before + len(mine)


def test_an_import_that_fails_leaves_it_as_it_was() -> None:
    thresholds = gc.get_threshold()
    with pytest.raises(ModuleNotFoundError), quickly("no_such_module_anywhere"):
        __import__("no_such_module_anywhere")
    assert gc.get_threshold() == thresholds


def test_a_server_that_slices_dask_arrays_still_looks_for_garbage() -> None:
    code = """
import gc
from attnxr.importing import quickly
with quickly("attnxr.dashboard"):
    import attnxr.dashboard.served.server
    import dask.array
assert dask.array.ones((4, 4), chunks=2)[1:3].sum().compute() == 8
print(gc.isenabled(), gc.get_threshold()[0] > 0)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
