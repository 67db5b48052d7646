"""A system without POSIX file locks, as Windows is one: a sentence in each command, and in doctor."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedkt
from fedkt.cli import doctor
from fedkt.cli.commands import app
from fedkt.errors import InputError
from fedkt.files import lock_file

SENTENCE = (
    "this system has no POSIX file locks (fcntl); fedkt runs on Linux and macOS; on Windows use WSL, or a "
    "container."
)


@pytest.fixture(autouse=True)
def without_fcntl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)


@pytest.mark.parametrize(
    "command",
    [["simulate", "quickstart"], ["compare", "quickstart"], ["show", "quickstart"], ["site", "run", "here"]],
)
def test_each_command_says_so_before_it_writes(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(app, command)
    assert (ended.exit_code, ended.output) == (2, f"fedkt: {SENTENCE}\n")
    assert list(tmp_path.iterdir()) == []


def test_so_does_the_function(tmp_path: Path) -> None:
    made = {"name": "a", "data": {"partition": {"clients": 2}}, "strategy": {"name": "fd"}, "rounds": 1}
    with pytest.raises(InputError) as told:
        fedkt.simulate({**made, "engine": {"kind": "inline"}}, out=tmp_path / "run")
    assert told.value.problems == (SENTENCE,) and not (tmp_path / "run").exists()
    with open(tmp_path / "file", "w") as file, pytest.raises(InputError, match="no POSIX file locks"):
        lock_file(file)


def test_doctor_calls_it_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "CHECKS", [check for check in doctor.CHECKS if check[0] == "system"])
    assert not doctor.examine()
    assert capsys.readouterr().out == f"broken  system: {SENTENCE}\n"


def test_help_and_lists_need_no_locks() -> None:
    assert CliRunner().invoke(app, ["list", "strategies"]).exit_code == 0
    assert CliRunner().invoke(app, ["--version"]).exit_code == 0
