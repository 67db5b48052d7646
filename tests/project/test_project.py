"""The packaging: what is listed, registered, shipped and pinned fits what is there."""

import re
import subprocess
import sys
import tomllib
from importlib import resources
from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = ("strategies", "clients", "models", "datasets", "losses", "generators")

checkout = pytest.mark.skipif(
    not (ROOT / "fedkt").is_dir(), reason="reads the sources, which are not beside these tests"
)


def registered() -> list[EntryPoint]:
    """The plug-ins of the installed distribution, in the order of its groups."""
    return [point for point in distribution("fedkt").entry_points if point.group.startswith("fedkt.")]


def normal(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pairs}


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    return [Requirement(text) for text in project["dependencies"] + extras]


@checkout
def test_every_package_is_listed() -> None:
    folders = {path.parent for path in (ROOT / "fedkt").rglob("*.py")}
    there = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    there |= {"fedkt.clients", "fedkt.scenarios", "fedkt.strategies"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == there


@checkout
def test_every_strategy_and_client_file_is_registered() -> None:
    for group in ("strategies", "clients"):
        files = {path.stem for path in (ROOT / group).glob("*.py")} - {"__init__"}
        lines = PROJECT["project"]["entry-points"][f"fedkt.{group}"].values()
        assert {line.split(":")[0] for line in lines} == {f"fedkt.{group}.{name}" for name in files}


def test_the_installed_plugins_are_those_of_the_project_file() -> None:
    """Fails where pyproject.toml has changed and the project was not installed again."""
    expected = {
        (f"fedkt.{group}", name, value)
        for group in GROUPS
        for name, value in PROJECT["project"]["entry-points"][f"fedkt.{group}"].items()
    }
    assert {(point.group, point.name, point.value) for point in registered()} == expected


@pytest.mark.parametrize("point", registered(), ids=lambda point: f"{point.group}:{point.name}")
def test_a_registered_plugin_loads(point: EntryPoint) -> None:
    assert callable(point.load())


@checkout
def test_the_citation_is_of_this_version() -> None:
    assert f"version: {PROJECT['project']['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_plugin_folders_are_imported_as_parts_of_fedkt(tmp_path: Path) -> None:
    code = "import fedkt.clients, fedkt.scenarios, fedkt.strategies as s; print(s.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "fedkt.strategies"), done.stderr


def test_types_and_scenarios_are_shipped() -> None:
    assert resources.files("fedkt").joinpath("py.typed").is_file()
    names = {entry.name for entry in resources.files("fedkt.scenarios").iterdir()}
    assert "quickstart.yaml" in names


@checkout
def test_every_dependency_is_pinned_within_its_bounds() -> None:
    pinned = pins()
    for requirement in requirements():
        assert requirement.specifier.contains(pinned[normal(requirement.name)]), str(requirement)


@checkout
def test_every_dependency_is_explained_with_the_tested_version() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    rows = {normal(name): version for name, version in re.findall(r"(?m)^\| ([\w-]+) \| ([\d.]+) \|", page)}
    pinned = pins()
    expected = {normal(one.name): pinned[normal(one.name)] for one in requirements()}
    assert rows == expected
