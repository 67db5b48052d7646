"""What a user can get wrong: exit status 2, one sentence each, no traceback, nothing left behind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fedkt.cli.commands import app

GOOD = """\
name: good
data:
  dataset: {dataset}
  partition: {{kind: dirichlet, alpha: 0.5, clients: 4}}
  transfer: {{from: train, size: 60}}
strategy: {{name: knfu}}
rounds: 1
engine: {{kind: inline}}
"""

CASES = {
    "unknown key": (["data.partion={kind: iid}"], "did you mean 'partition'"),
    "wrong type": (["rounds=many"], "rounds"),
    "private without delta": (
        ["privacy={mode: dpsgd, noise_multiplier: 1, max_epsilon: 8}"],
        "privacy.delta is missing",
    ),
    "private without noise": (
        ["privacy={mode: dpsgd, delta: 1e-5, noise_multiplier: 0, max_epsilon: 8}"],
        "privacy.noise_multiplier is 0; it must be greater than 0",
    ),
    "private without a budget": (
        ["privacy={mode: dpsgd, delta: 1e-5, noise_multiplier: 1}"],
        "privacy.max_epsilon is missing",
    ),
    "provenance undeclared": (
        [
            "strategy={name: fedproto}",
            "privacy={mode: proto_gauss, delta: 1e-5, noise_multiplier: 1, max_epsilon: 8}",
        ],
        "privacy.provenance is missing",
    ),
    "batch norm under private training": (
        [
            "clients.models=['tests.privacy.test_privacy_modes:normed']",
            "privacy={mode: dpsgd, delta: 1e-5, noise_multiplier: 1, max_epsilon: 99}",
        ],
        "BatchNorm1d, whose statistics mix rows",
    ),
    "a ledger that was changed": (
        [
            "privacy={mode: dpsgd, delta: 1e-5, noise_multiplier: 1, max_epsilon: 99, ledger: ledgers}",
        ],
        "was changed at line 1",
    ),
    "rehearsal where nobody teaches about rows": (
        ["strategy={name: fd}", "clients.distill={together: true}"],
        "strategy 'fd' makes nothing of clients.distill.together; leave it out",
    ),
    "a guard without rows to spare": (
        ["clients.guard={validation: 0.1}", "data.partition.samples_per_client=9"],
        "rows, of which that is none; it needs at least 10",
    ),
    "a guard of more folds than rows": (
        ["clients.guard={folds: 10}", "data.partition.samples_per_client=9"],
        "clients.guard.folds is 10, but client 0 has 9 training rows",
    ),
    "a forecast that was not fitted": (
        ["strategy={name: kshot, rows: 10}", "forecast=decline"],
        "forecast is 'decline', but it was not fitted for strategy 'kshot'",
    ),
    "a client without labels that must have some": (
        ["strategy={name: fd}", "data.unlabelled=['1']"],
        "strategy 'fd' learns from labels of one's own",
    ),
    "range": (["participation.fraction=1.5"], "participation.fraction is 1.5"),
    "alpha": (["data.partition.alpha=0"], "data.partition.alpha is 0; it must be greater than 0"),
    "missing file": (["data.dataset=npz:nowhere.npz"], "nowhere.npz"),
    "pickled": (["data.dataset=npz:pickled.npz"], "pickle"),
    "no transfer set": (["data.transfer=null"], "needs a transfer set"),
    "transfer set too large": (["data.transfer.size=5000"], "5000"),
    "more clients than samples": (["data.partition={kind: iid, clients: 5000}"], "5000"),
    "class that no client holds": (
        ["data.partition={kind: pathological, clients: 2, classes_per_client: 2}"],
        "class",
    ),
    "model that does not fit": (["clients.models=['wrong_model:factory']"], "[2, 10]"),
    "unknown model": (["clients.models=[mpl]"], "did you mean 'mlp'"),
    "unknown strategy": (["strategy.name=knfo"], "did you mean 'knfu'"),
    "unknown setting": (["strategy.bta=3"], "did you mean 'beta'"),
    "unknown loss": (["clients.distill.loss=klx"], "did you mean 'kl'"),
    "weights not allowed": (["strategy={name: fedavg}"], "allow: [weights]"),
    "weights of unlike models": (
        ["strategy={name: fedavg}", "allow=[weights]", "clients.models=[mlp, cnn]"],
        "one",
    ),
    "unlike widths": (["strategy={name: fedproto}", "clients.models=[mlp, {name: mlp, width: 5}]"], "width"),
    "no such GPU": (["engine.gpus=64"], "engine asks for 64 GPUs"),
    "no workers": (["engine.workers=0"], "engine.workers"),
    "much memory": (["engine.memory_limit=900TiB"], "engine.memory_limit is 900TiB, but cpu has"),
    "little memory": (["engine.memory_limit=1KiB"], "engine.memory_limit is 1KiB, but one client's state"),
    "quorum": (["participation.quorum=9"], "participation.quorum is 9"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wrong_model", raising=False)
    (tmp_path / "good.yaml").write_text(GOOD.format(dataset="digits"))
    (tmp_path / "ledgers" / "0").mkdir(parents=True)
    (tmp_path / "ledgers" / "0" / "ledger.jsonl").write_text('{"entry": 1}\n')
    np.savez(tmp_path / "pickled.npz", x_train=np.array([{}], dtype=object), y_train=np.array([0]))
    (tmp_path / "wrong_model.py").write_text(
        "from torch import nn\n"
        "class Wrong(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.features, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), nn.Linear(8, 7)\n"
        "def factory(input, classes):\n"
        "    return Wrong()\n"
    )
    return tmp_path


def fedkt(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def settings(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


@pytest.mark.parametrize("case", list(CASES))
def test_one_sentence_and_status_2(folder: Path, case: str) -> None:
    overrides, words = CASES[case]
    before = sorted(folder.rglob("*"))
    out = folder / "out"
    done = fedkt("simulate", "good.yaml", "--data-dir", ".", "--out", str(out), *settings(*overrides))
    assert done.exit_code == 2, done.stderr
    problems = done.stderr.splitlines()
    assert len(problems) == 1, done.stderr
    assert problems[0].startswith("fedkt: ")
    assert words in problems[0]
    assert "Traceback" not in done.stderr
    assert not out.exists()
    assert [p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts] == before


def test_all_problems_of_a_file_at_once(folder: Path) -> None:
    overrides = settings("strategy={name: fedavg, mu: 1}", "clients.models=[mpl]", "data.transfer.size=5000")
    done = fedkt("simulate", "good.yaml", *overrides)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 4, done.stderr
    for words in ("'strategy.mu'", "allow: [weights]", "did you mean 'mlp'", "5000"):
        assert words in done.stderr


def test_no_such_scenario_and_no_such_file(folder: Path) -> None:
    done = fedkt("simulate", "quickstrat")
    assert done.exit_code == 2
    assert done.stderr.startswith("fedkt: there is no scenario 'quickstrat'")
    assert done.stderr.endswith("did you mean 'quickstart'?\n")


def test_as_a_process_of_its_own(folder: Path) -> None:
    code = "from fedkt.cli import main; main()"
    command = [sys.executable, "-c", code, "simulate", "good.yaml", "--set", "rounds=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "fedkt: --set rounds: rounds is 0; it must be at least 1.\n"
