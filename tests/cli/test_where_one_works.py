"""A module of one's own, in the folder where one works, is found by every command and by what they start."""

import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedkt.cli.commands import app

SENSORS = """
import numpy as np

from fedkt.models import build


def readings():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90)
    return (rng.normal(0, 1, (90, 5)) + 2 * np.eye(3, 5)[y]).astype("float32"), y


def net(input, classes, width=4):
    return build(("mlp", {"width": width}), input, classes, seed=1)
"""
SCENARIO = """
name: own
data: {dataset: "own_sensors:readings", partition: {kind: iid, clients: 2}}
clients: {models: ["own_sensors:net"], local: {epochs: 1}}
strategy: {name: fd}
rounds: 1
engine: {kind: inline}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module and a scenario, which is not on the search path as for the installed script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "own_sensors.py").write_text(SENSORS)
    (tmp_path / "own.yaml").write_text(SCENARIO)
    yield tmp_path
    sys.modules.pop("own_sensors", None)


def call(*arguments: str) -> Any:
    sys.modules.pop("own_sensors", None)
    sys.path[:] = [path for path in sys.path if path != str(Path.cwd())]
    return CliRunner().invoke(app, list(arguments))


def test_each_command_finds_it(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fedkt

    for command in (
        ["show", "own.yaml"],
        ["privacy", "plan", "own.yaml"],
        ["site", "init", "--superlink", "a.example:1", "--from-scenario", "own.yaml", "--out", "sites"],
        ["site", "check", "sites/0", "--scenario", "own.yaml", "--offline"],
        ["simulate", "own.yaml", "--out", "run", "--quiet"],
        ["export", "run", "--client", "1", "--out", "model"],
    ):
        ended = call(*command)
        assert ended.exit_code == 0, f"{command}\n{ended.output}"
    assert (
        call("audit", "own.yaml").output.count("cannot be imported") == 0
    )  # refused for want of a transfer set
    sys.modules.pop("own_sensors", None)
    assert fedkt.load_model("model").width == 4


def test_workers_of_a_comparison_find_it(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get this process's search path, and nothing before it."""
    seen: list[tuple[list[str], str]] = []

    class Process:
        stdin = stdout = None

        def __init__(self, command: list[str], **how: Any) -> None:
            seen.append((command, how["env"]["PYTHONPATH"]))

    from fedkt import registry
    from fedkt.comparing import pool

    monkeypatch.setattr("subprocess.Popen", Process)
    monkeypatch.setattr("threading.Thread", lambda **_: type("", (), {"start": lambda self: None})())
    registry.find("datasets", "own_sensors:readings")
    pool._Worker(0, queue.Queue(), 0)
    ((command, path),) = seen
    assert path.split(":")[-1] == str(own) and "-P" in command


def test_a_file_called_as_a_library_hides_nothing(own: Path) -> None:
    """The working folder comes last: Python's own modules are not replaced by what happens to lie there."""
    (own / "statistics.py").write_text("raise SystemExit('not this one')")
    sys.modules.pop("statistics", None)
    ended = call("show", "own.yaml")
    assert ended.exit_code == 0, ended.output
    from fedkt import registry

    assert registry.find("datasets", "statistics:mean")([1, 2, 3]) == 2
    assert sys.path[-1] == str(own)


def test_what_is_not_there_is_told_with_the_places_that_count(own: Path) -> None:
    ended = call("show", "own.yaml", "--set", "data.dataset=nosuch:thing")
    assert ended.exit_code == 2
    assert "is it installed, in this folder, or in one on PYTHONPATH?" in ended.output
