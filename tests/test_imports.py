"""Importing attnxr is light, rooms import only what stands below them, and what is public is there on first use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import attnxr

PACKAGE = Path(attnxr.__file__).parent
HEAVY = ["torch", "transformers", "panel", "holoviews", "bokeh", "numba", "xarray", "numpy", "dask"]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_imports_keep_the_contracts_of_pyproject() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Contracts: 7 kept, 0 broken." in done.stdout


def test_only_lazy_touches_xarrays_internals() -> None:
    inner = re.compile(r"xarray\.(core|backends|namedarray|coding)\b")
    guilty = {file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if inner.search(file.read_text())}
    assert guilty == {Path("query/lazy.py")}


def test_importing_attnxr_imports_nothing_heavy() -> None:
    loaded = run(f"import attnxr, sys; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded.strip() == "[]"


@pytest.mark.parametrize("name", ["saved", "schema", "plots", "analysis", "analysis.overlap"])
def test_rooms_are_reached_without_torch(name: str) -> None:
    loaded = run(f"import attnxr, sys; attnxr.{name}; print('attnxr.{name}' in sys.modules, 'torch' in sys.modules)")
    assert loaded.strip() == "True False"


def test_the_dashboard_is_reached_too() -> None:
    assert run("import attnxr; print(attnxr.dashboard.State.__name__)").strip() == "State"


def test_the_public_names_are_there_on_first_use() -> None:
    public = {"load_model", "Model", "sequence_distances", "explore", "analysis", "plots", "saved", "dashboard"}
    assert public <= set(attnxr.__all__)
    assert set(attnxr.__all__) <= set(dir(attnxr))
    for name in attnxr.__all__:
        assert getattr(attnxr, name) is not None


def test_the_version_is_the_packages() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", attnxr.__version__)
    assert f'version = "{attnxr.__version__}"' in (PACKAGE.parent / "pyproject.toml").read_text()


def test_what_type_checkers_read_is_in_the_package() -> None:
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "__init__.pyi").exists()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = attnxr.no_such_name


def test_explaining_the_errors_needs_nothing_heavy() -> None:
    code = "import attnxr, sys; print(attnxr.InputError.__name__, 'torch' in sys.modules)"
    assert run(code).strip() == "InputError False"
