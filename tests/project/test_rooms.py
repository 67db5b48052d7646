"""The rooms: who may import whom. Read from the sources, imports for types alone and inside functions
included."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not (ROOT / "fedkt").is_dir(), reason="reads the sources, which are not beside these tests"
)

# From the ground up: a room imports from those before it, never from those after it.
GROUND = ("errors", "files", "rng", "registry", "drawing", "uncompiled")
ROOMS = (
    *("knowledge", "language", "distill", "scenario"),
    *("data.columns", "data.graph", "data.images", "tasks", "data.sets", "data.content", "data.examples"),
    *("data.made", "data.made.pictures", "data", "data.sequence"),
    *(
        "client",
        "client.lessons",
        "client.learning",
        "models.estimators",
        "models.heads",
        "models.decoders",
        "models",
        "models.vectors",
    ),
    *("privacy.attacks", "privacy", "adversity"),
    *("strategy.choosing.utilities", "strategy.choosing", "strategy.fusing", "strategy.rounds", "strategy"),
    *("results", "results.comparison", "results.report"),
    *("engine.world", "engine.checks", "engine.trials", "engine.clients", "engine.loop", "engine.runtimes"),
    *("engine.audits", "engine.runs", "engine.forgetting", "engine"),
    *("deploy.wire", "deploy.site", "deploy.coordinator", "deploy", "comparing"),
    *("cli.runs", "cli.sites", "cli"),
)
PLUGINS = {"strategies": "strategy", "clients": "privacy"}
"""The folders of plug-ins, with the highest room that they may import from."""
MOST_MODULES, MOST_FILES, MOST_LINES, MOST_BASE = 7, 12, 450, 250


class Import(NamedTuple):
    file: Path
    line: int
    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.target}"


def modules() -> dict[str, Path]:
    """All modules by name; a package is called as its folder is."""
    found = {}
    for folder, package in (
        ("fedkt", "fedkt"),
        ("strategies", "fedkt.strategies"),
        ("clients", "fedkt.clients"),
    ):
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = file
    return found


MODULES = modules() if (ROOT / "fedkt").is_dir() else {}


def imports(name: str, file: Path) -> Iterator[Import]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in MODULES:
                    yield Import(file, node.lineno, name, alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in MODULES:
                    yield Import(file, node.lineno, name, inner)
                elif node.module in MODULES:
                    yield Import(file, node.lineno, name, node.module)


ALL = [one for name, file in MODULES.items() for one in imports(name, file)]


def room(module: str) -> str:
    """The room that a module lies in: the longest that its name begins with, ``""`` for the ground."""
    inner = module.removeprefix("fedkt").removeprefix(".")
    if inner in GROUND:
        return ""
    fitting = [one for one in ROOMS if inner == one or inner.startswith(f"{one}.")]
    return max(fitting, key=len) if fitting else inner.partition(".")[0]


def height(name: str) -> int:
    return -1 if not name else ROOMS.index(name)


def test_every_folder_is_a_room_and_every_room_a_folder() -> None:
    """All that lies directly in fedkt/ beside them is the ground, and ``__init__``, the door."""
    folders = {
        ".".join(path.parent.relative_to(ROOT / "fedkt").parts) for path in (ROOT / "fedkt").rglob("*.py")
    }
    assert folders - {""} == set(ROOMS)
    assert {path.stem for path in (ROOT / "fedkt").glob("*.py")} == {*GROUND, "__init__"}


def test_a_room_imports_only_from_rooms_nearer_to_the_ground() -> None:
    """The door itself, ``import fedkt``, opens on everything, and nothing in the house goes out by it."""
    wrong = []
    for one in ALL:
        source = room(one.source)
        if one.source == "fedkt":
            continue
        if source in PLUGINS:
            allowed = height(PLUGINS[source])
            if room(one.target) in PLUGINS or height(room(one.target)) > allowed:
                wrong.append(str(one))
        elif (
            one.target == "fedkt" or room(one.target) in PLUGINS or height(room(one.target)) > height(source)
        ):
            wrong.append(str(one))
    assert wrong == []


def test_no_circle_between_files() -> None:
    after: dict[str, set[str]] = {name: set() for name in MODULES}
    for one in ALL:
        after[one.source].add(one.target)
    while free := {name for name, targets in after.items() if not targets & after.keys()}:
        after = {name: targets for name, targets in after.items() if name not in free}
    # What is left imports, directly or not, something that imports it.
    assert [str(one) for one in ALL if one.source in after and one.target in after] == []


def test_no_name_twice() -> None:
    """A command's file is called as the command is, a plug-in's as its method; else one name, one file."""
    stems: dict[str, list[str]] = {}
    for name, file in MODULES.items():
        if file.stem != "__init__" and not name.startswith(
            ("fedkt.cli", "fedkt.strategies", "fedkt.clients")
        ):
            stems.setdefault(file.stem, []).append(name)
    assert {stem: names for stem, names in stems.items() if len(names) > 1} == {}
    words = set(stems)
    assert {stem for stem in words if f"{stem}s" in words} == set()


def test_rooms_are_small() -> None:
    sizes = {
        folder: len(list(folder.glob("*.py"))) for folder in (ROOT / "fedkt").rglob("*") if folder.is_dir()
    }
    assert {folder.name: n for folder, n in sizes.items() if n > MOST_FILES} == {}
    assert len(list((ROOT / "fedkt").glob("*.py"))) <= MOST_MODULES
    lines = {name: len(file.read_text().splitlines()) for name, file in MODULES.items()}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}
    assert lines["fedkt.strategy.base"] < MOST_BASE


@pytest.mark.parametrize("package", [name for name, file in MODULES.items() if file.stem == "__init__"])
def test_a_package_says_what_is_inside_what_it_may_import_and_where_to_begin(package: str) -> None:
    text = ast.get_docstring(ast.parse(MODULES[package].read_text())) or ""
    if package not in ("fedkt", "fedkt.results.report"):
        assert "mport" in text and "Begin with" in text


def test_an_import_alone_loads_little() -> None:
    """``import fedkt`` brings neither torch nor Ray nor Flower: the door is light."""
    import subprocess

    code = "import sys, fedkt; print(sorted({'torch', 'ray', 'flwr', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
