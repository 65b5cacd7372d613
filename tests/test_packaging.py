"""environment.yml, pyproject.toml and constraints.txt say the same, and the README's commands use them."""

import pkgutil
import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from attnxr.cli import main
from attnxr.loading.tested import FILE, read_families
from tests.support import supported

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What conda-forge calls a package, where it differs from PyPI.
PYPI_NAME = {"dask-core": "dask", "pytorch": "torch"}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(PYPI_NAME.get(one.name, one.name)): one for one in found}


def declared() -> dict[str, Requirement]:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    return requirements(PROJECT["dependencies"] + extras)


def pinned() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def test_every_dependency_is_pinned_once_and_within_its_range() -> None:
    assert pinned().keys() == declared().keys()
    outside = {name: version for name, version in pinned().items() if version not in declared()[name].specifier}
    assert not outside


def test_no_range_has_an_upper_end() -> None:
    assert all(part.operator == ">=" for one in declared().values() for part in one.specifier)


def test_conda_asks_for_what_the_package_asks_for() -> None:
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = requirements([entry for entry in entries if isinstance(entry, str)])
    assert str(conda.pop("python").specifier) == PROJECT["requires-python"]
    conda.pop("pip")
    assert {name: str(one.specifier) for name, one in conda.items()} == {
        name: str(one.specifier) for name, one in requirements(PROJECT["dependencies"]).items()
    }
    assert {"pip": ["-e .[demo]"]} in entries


def test_the_readme_prints_two_commands_and_both_use_the_tested_versions() -> None:
    commands = re.findall(r"^pip install -c constraints\.txt .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(commands) == 2
    run, test = commands
    assert run.endswith("&& panel serve app")
    assert test.endswith("&& pytest -n 2")


def test_the_command_is_there() -> None:
    assert PROJECT["scripts"] == {"attnxr": "attnxr.cli:main"}
    assert pkgutil.resolve_name(PROJECT["scripts"]["attnxr"]) is main


def test_the_families_are_counted() -> None:
    count = len({family.model_type for family in read_families()})
    for file in ("README.md", "CHANGELOG.md"):
        assert re.findall(r"(\d+) families", (ROOT / file).read_text(encoding="utf-8"))[0] == str(count), file


def test_the_families_that_the_package_tells_are_those_that_are_tested() -> None:
    found = supported.looked_into()
    advice = "run python -m tests.support.supported"
    assert read_families() == found, advice
    assert FILE.read_text(encoding="utf-8") == supported.as_csv(found), advice
