"""``fedkt clean``: what goes, what stays, and that nothing goes unasked."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedkt.cli.commands import app
from fedkt.results.folder import RunFolder
from fedkt.scenario import load


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["clean", *arguments])


def made(name: str, *, rounds: int, finished: bool) -> Path:
    folder = RunFolder.create(Path("runs") / name, load("name: a\nrounds: 2"), False)
    (folder.checkpoint / "clients" / "0").mkdir(parents=True)
    (folder.checkpoint / "clients" / "0" / "state").write_bytes(bytes(1500))
    (folder.path / "rounds.jsonl").write_text("".join(f'{{"round": {r + 1}}}\n' for r in range(rounds)))
    if finished:
        (folder.path / "summary.json").write_text(json.dumps({"rounds": rounds}))
    folder.close()
    return folder.path


def test_models_of_finished_runs_go_and_only_when_asked() -> None:
    done, empty = made("done", rounds=2, finished=True), made("empty", rounds=0, finished=False)
    half = made("half", rounds=1, finished=False)
    asked = call()
    assert asked.exit_code == 0 and (done / "checkpoint").is_dir() and empty.is_dir()
    assert "   1.5 kB  runs/done/checkpoint (models of a finished run)\n" in asked.stdout
    assert "runs/empty (no round was finished)\n" in asked.stdout
    assert "kept  runs/half is not finished; --resume continues it.\n" in asked.stdout
    assert asked.stdout.endswith("would go; --yes removes it.\n")

    assert call("--yes").stdout.endswith("removed.\n")
    assert not (done / "checkpoint").exists() and (done / "rounds.jsonl").is_file()
    assert not empty.exists() and (half / "checkpoint").is_dir()
    assert call().stdout.endswith("there is nothing to remove.\n")


def test_a_run_at_work_and_one_with_a_ledger_are_left_alone() -> None:
    made("private", rounds=2, finished=True).joinpath("checkpoint/clients/0/ledger.jsonl").touch()
    made("busy", rounds=2, finished=True)
    at_work = RunFolder.create(Path("runs/busy"), load("name: a\nrounds: 2"), True)
    ended = call("--yes")
    at_work.close()
    assert ended.stdout == (
        "     kept  runs/busy is at work.\n"
        "     kept  runs/private holds privacy ledgers.\n"
        "there is nothing to remove.\n"
    )


def test_a_folder_without_runs_is_refused() -> None:
    ended = call("elsewhere")
    assert (ended.exit_code, ended.stderr) == (
        2,
        "fedkt: elsewhere holds no run; name the folder of a run, of a comparison, or of several.\n",
    )
