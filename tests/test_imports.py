"""Importing attnxr is light, and its files import only what stands above them in one list."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import attnxr

PACKAGE = Path(attnxr.__file__).parent
ORDER = [
    "errors",
    "schema",
    "saved",
    "tokens",
    "reading",
    "support",
    "linear",
    "finite",
    "interface",
    "layout",
    "settings",
    "trial",
    "window",
    "inputs",
    "capture",
    "heads",
    "tables",
    "simd",
    "exact",
    "kernels",
    "blocks",
    "search",
    "slices",
    "lazy",
    "arrival",
    "rotary",
    "paths",
    "vocabulary",
    "checks",
    "gguf",
    "loading",
    "snapshot",
    "question",
    "moments",
    "entries",
    "model",
    "analysis",
    "corpus",
    "plots",
    "dashboard",
]
"""Data flows down this list, so that a file may import what stands above it."""
HEAVY = ["torch", "transformers", "panel", "holoviews", "bokeh", "numba", "xarray", "numpy", "dask"]
FORBIDDEN = {
    "simd": {"xarray", "torch", "transformers", "panel"},
    "exact": {"xarray", "torch", "transformers", "panel"},
    "kernels": {"xarray", "torch", "transformers", "panel"},
    "slices": {"xarray", "transformers", "panel"},
    "search": {"xarray", "transformers", "panel"},
    "plots": {"panel", "torch", "transformers"},
}


def part(file: Path) -> str:
    """The first name below attnxr: a file, or a folder that counts as one."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def imported(file: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = file.relative_to(PACKAGE.parent).parts[: -node.level]
                module = ".".join((*base, module)).rstrip(".")
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def test_the_imports_are_read_right(tmp_path: Path) -> None:
    source = PACKAGE / "dashboard" / "imagined.py"
    text = "import a.b\ndef f():\n  from attnxr import model\n  from .state import x\nfrom .. import lazy\n"
    file = tmp_path / "imagined.py"
    file.write_text(text)
    imagined = type("Imagined", (), {"read_text": file.read_text, "relative_to": source.relative_to})()
    assert imported(imagined) == {"a.b", "attnxr.model", "attnxr.dashboard.state.x", "attnxr.lazy"}


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    here = part(file)
    assert here in ORDER, f"{here} has no place in the drawing yet"
    ours = {name.split(".")[1] for name in imported(file) if name.startswith("attnxr.")}
    above = set(ORDER[: ORDER.index(here)])
    if (PACKAGE / here).is_dir():
        above.add(here)
    assert ours <= above
    assert "attnxr" not in imported(file)
    others = {name.split(".")[0] for name in imported(file)}
    assert not others & FORBIDDEN.get(here, set())


def test_only_lazy_touches_xarrays_internals() -> None:
    inner = ("xarray.core", "xarray.backends", "xarray.namedarray", "xarray.coding")
    guilty = {part(file) for file in sources() if any(name.startswith(inner) for name in imported(file))}
    assert guilty == {"lazy"}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_attnxr_imports_nothing_heavy() -> None:
    loaded = run(f"import attnxr, sys; print([name for name in {HEAVY} if name in sys.modules])")
    assert loaded.strip() == "[]"


def test_the_public_names_are_there_on_first_use() -> None:
    public = {"load_model", "Model", "sequence_distances", "explore"}
    assert public <= set(attnxr.__all__)
    assert set(attnxr.__all__) <= set(dir(attnxr))
    for name in attnxr.__all__:
        assert getattr(attnxr, name) is not None


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = attnxr.no_such_name


def test_explaining_the_errors_needs_nothing_heavy() -> None:
    code = "import attnxr, sys; print(attnxr.InputError.__name__, 'torch' in sys.modules)"
    assert run(code).strip() == "InputError False"
