"""What a private run says, in its log, its report and on the command line; what it refuses there."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fedkt.cli.commands import app

SCENARIO = """\
name: shown
data:
  partition: {kind: iid, clients: 2, samples_per_client: 100}
  transfer: {size: 30}
clients:
  models: [{name: mlp, width: 8}]
  local: {epochs: 1, batch_size: 25}
  distill: {epochs: 1}
strategy: {name: knfu}
privacy: {mode: dpsgd, delta: 1e-5, noise_multiplier: 2, max_epsilon: 20}
rounds: 2
engine: {kind: inline}
"""


def fedkt(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, arguments)


def words(text: str) -> str:
    """Return a text without the frame and the line breaks of a table."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A private run and what it printed."""
    folder = tmp_path_factory.mktemp("shown")
    (folder / "shown.yaml").write_text(SCENARIO)
    done = fedkt("simulate", str(folder / "shown.yaml"), "--out", str(folder / "run"))
    assert done.exit_code == 0, done.output
    return folder / "run", done.output


def sentence(folder: Path) -> str:
    privacy = json.loads((folder / "summary.json").read_text())["privacy"]
    told: str = privacy["statement"]
    assert f"({privacy['epsilon']:.3g}, 1e-05)-differentially private" in told
    return told


def test_the_log_says_what_may_be_claimed(run: tuple[Path, str]) -> None:
    folder, printed = run
    assert sentence(folder) in words(printed)


def test_the_report_says_it_and_shows_where_the_budget_went(run: tuple[Path, str]) -> None:
    folder, _ = run
    assert fedkt("report", str(folder)).exit_code == 0
    page = (folder / "report.html").read_text()
    assert json.dumps(sentence(folder))[1:-1] in page
    assert '<img class="paper" src="data:image/png;base64,' in page
    assert (folder / "budget.png").is_file()


def test_what_was_paid_is_shown(run: tuple[Path, str]) -> None:
    folder, _ = run
    done = fedkt("privacy", "show", str(folder), "--picture")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line for line in lines if line.endswith("ledger")] == [
        f"checkpoint/clients/{client}/ledger" for client in "01"
    ]
    assert sum("4 x gauss 2 at rate 0.25" in line for line in lines) == 4
    assert lines[-1] == f"picture: {folder / 'budget.png'}"


def test_what_will_be_paid_is_planned(run: tuple[Path, str]) -> None:
    folder, _ = run
    done = fedkt("privacy", "plan", str(folder.parent / "shown.yaml"))
    assert done.exit_code == 0
    epsilon = json.loads((folder / "summary.json").read_text())["privacy"]["epsilon"]
    assert done.output.splitlines()[0] == "mode dpsgd, delta 1e-05, budget 20"
    assert done.output.splitlines()[1] == (
        "hides one record zeroed out; public is each client's number of rows, which is fixed"
    )
    assert done.output.splitlines()[2].startswith("0: noise 2, epsilon after each round ")
    assert done.output.splitlines()[2].endswith(f" {epsilon:.3f}")


def test_a_large_delta_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "shown.yaml").write_text(SCENARIO.replace("1e-5", "0.02"))
    done = fedkt("show", str(tmp_path / "shown.yaml"))
    assert done.exit_code == 0
    assert "privacy.delta is 0.02, not below 1/100" in words(done.output)


def test_nothing_is_released_without_the_ledger(run: tuple[Path, str], tmp_path: Path) -> None:
    """The run goes on where both clients' ledgers are gone: both decline, nothing more is trained or sent."""
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    for client in "01":
        shutil.rmtree(folder / "checkpoint" / "clients" / client / "ledger")
    text = (folder / "scenario.yaml").read_text()
    (folder / "scenario.yaml").write_text(text.replace("rounds: 2", "rounds: 3"))
    done = fedkt("simulate", str(folder / "scenario.yaml"), "--out", str(folder), "--resume")
    assert "2 declined" in words(done.output), done.output
    rows = [json.loads(line) for line in (folder / "clients.jsonl").read_text().splitlines()]
    third = [row for row in rows if row["round"] == 3]
    assert {(row["status"], row["reason"]) for row in third} == {("declined", "ledger")}
    assert all("is missing: it had" in row["detail"] for row in third)
    assert not list((folder / "checkpoint" / "clients").rglob("sent/*"))
