"""``app/``, which ``panel serve app`` runs."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

APP = Path(__file__).parents[3] / "app"


def test_no_file_of_the_app_bears_a_librarys_name() -> None:
    """While main.py runs, app/ comes first on the path: a file of a library's name would take its place."""
    names = {path.stem for path in APP.glob("*.py")}
    assert names
    assert not names & {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
