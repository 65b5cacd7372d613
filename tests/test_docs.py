"""What the documentation shows runs: each >>> of a docstring, each block of Python in a page; links lead somewhere."""

from __future__ import annotations

import doctest
import importlib
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import matplotlib as mpl
import pytest
import yaml

import attnxr

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
WITH_EXAMPLES = sorted(path for path in (ROOT / "attnxr").rglob("*.py") if ">>>" in path.read_text())
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#[^)\s]*)?\)")


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples write files, and ask nobody."""
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_the_examples_of_docstrings_run(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    examples = [found for found in doctest.DocTestFinder().find(module) if found.examples]
    assert examples
    for found in examples:
        found.globs = {}  # an example imports what it uses
        assert not any(doctest.SKIP in each.options for each in found.examples), f"{found.name} leaves examples out"
        said: list[str] = []
        failed, _ = doctest.DocTestRunner().run(found, out=said.append)
        assert failed == 0, "".join(said)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=name_of)
def test_the_examples_of_a_page_run_from_top_to_bottom(page: Path) -> None:
    if any("out.zarr" in block for block in blocks(page)):  # that was built in a terminal, of more texts than these
        texts = ["Time flies like an arrow.", "Fruit flies like a banana."]
        kept = ["neighbor_id", "distance", "own_rank", "own_distance", "in_sequence"]
        attnxr.build_corpus(
            texts, "out.zarr", attnxr.load_model("minilm"), measures=["own", "words", "roles"], keep=kept
        )
    known: dict[str, object] = {}
    for i, code in enumerate(blocks(page)):
        exec(compile(code, f"{name_of(page)}, block {i + 1}", "exec"), known)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    made = {"tutorials/notebooks"}  # by docs/conf.py, from examples/
    for target in filter(None, LINK.findall(BLOCK.sub("", page.read_text()))):
        there = (page.parent / unquote(target)).resolve()
        if any(there.is_relative_to(DOCS / folder) for folder in made):
            there = ROOT / "examples" / there.name
        assert there.exists(), target


def test_every_public_name_comes_into_the_reference() -> None:
    """docs/api/ lists what comes from these rooms; a name from another room needs a page there."""
    told = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    rooms = tuple(room for rooms in re.findall(r"^:from: (.*)$", told, re.MULTILINE) for room in rooms.split())
    modules = set(re.findall(r"^```\{public-names\} (\S+)\n```$|automodule:: (\S+)", told, re.MULTILINE))
    whole = {name for pair in modules for name in pair if name}
    missing = []
    for name in attnxr.__all__:
        found = getattr(attnxr, name)
        where = getattr(found, "__module__", None)
        if where is None:  # a module, or the version
            covered = name in {"__version__", "analysis", "schema"} or found.__name__ in whole
        else:
            covered = where.startswith((*rooms, *whole))
        if not covered:
            missing.append(name)
    assert missing == []


def test_the_citation_names_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(cited["version"]) == project["version"]
    assert cited["license"] == project["license"]
    assert re.search(rf"^## {re.escape(project['version'])}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
