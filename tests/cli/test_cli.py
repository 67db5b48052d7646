"""The command line: what it prints, and the status with which it ends."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fedkt
from fedkt.cli.commands import app
from fedkt.errors import InputError, RunError

HEAVY = ("torch", "flwr", "ray", "pandas", "numpy", "matplotlib", "pydantic", "sklearn")

SMALL = """\
name: small
data:
  dataset: digits
  partition: {kind: iid, clients: 2, samples_per_client: 20}
  transfer: {from: train, size: 10}
clients: {local: {epochs: 1}, distill: {epochs: 1}, models: [mlp, {name: mlp, width: 8}]}
strategy: {name: fedmd}
rounds: 1
engine: {kind: inline}
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a scenario that takes a moment, from the folder that it lies in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDKT_DEBUG", raising=False)
    (tmp_path / "small.yaml").write_text(SMALL)
    return "small.yaml"


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def instead(monkeypatch: pytest.MonkeyPatch, ending: BaseException) -> None:
    """Let every simulation end so, after its folder was made."""

    def simulate(scenario: Any, *, out: Path, resume: bool, **others: Any) -> None:
        from fedkt.results.folder import RunFolder

        RunFolder.create(out, scenario, resume).close()
        raise ending

    monkeypatch.setattr("fedkt.engine.runs.watched.simulate", simulate)


def test_starting_imports_nothing_heavy() -> None:
    code = f"import sys, fedkt, fedkt.cli; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_names_every_command(record_property: Any) -> None:
    begun = time.monotonic()
    code = "import sys; from fedkt.cli import main; sys.argv = ['fedkt', '--help']; main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    record_property("seconds", round(time.monotonic() - begun, 2))
    for name in ("simulate", "show", "list", "export", "doctor"):
        assert f"\n  {name} " in done.stdout
    assert call("--version").stdout == f"fedkt {fedkt.__version__}\n"


# Ways to end ----------------------------------------------------------------------------------------


def test_every_problem_of_the_input_is_a_line(small: str) -> None:
    ended = call("simulate", small, "--set", "rounds=0", "--set", "clients.modles=[mlp]")
    assert ended.exit_code == 2
    first, second = ended.stderr.splitlines()
    assert first == "fedkt: --set rounds: rounds is 0; it must be at least 1."
    assert second.startswith(
        "fedkt: --set clients.modles: unknown key 'clients.modles'; did you mean 'models'?"
    )
    assert ended.stdout == "" and not Path("runs").exists()


def test_wrong_usage_ends_with_two(small: str) -> None:
    assert call("simulate").exit_code == 2
    assert call("simulate", small, "--sed", "3").exit_code == 2
    ended = call("simulate", small, "--resume")
    assert ended.exit_code == 2 and "--resume needs --out" in ended.stderr


def test_a_failed_run_ends_with_three(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, RunError("client 3 failed in round 2."))
    ended = call("simulate", small)
    assert (ended.exit_code, ended.stderr) == (3, "fedkt: client 3 failed in round 2.\n")
    monkeypatch.setenv("FEDKT_DEBUG", "1")
    assert "Traceback" in call("simulate", small).stderr


def test_a_mistake_of_the_program_shows_where(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, ZeroDivisionError("oh"))
    ended = call("simulate", small)
    assert ended.exit_code == 3
    assert "Traceback" in ended.stderr and ended.stderr.endswith("fedkt: ZeroDivisionError: oh\n")


def test_an_interrupted_run_says_how_to_continue(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, KeyboardInterrupt())
    options = ["--set", "strategy={name: local}", "--seed", "4", "--data-dir", "my data", "--quiet"]
    ended = call("simulate", small, *options, "--out", "here")
    assert ended.exit_code == 130
    assert ended.stderr == (
        "fedkt: interrupted; what is done is kept, continue with: fedkt simulate small.yaml "
        "--set 'strategy={name: local}' --seed 4 --data-dir 'my data' --out here --resume --quiet\n"
    )
    ended = call("simulate", small)
    (made,) = Path("runs").iterdir()
    assert ended.stderr.endswith(f"fedkt simulate small.yaml --out {made} --resume\n")


def test_interrupted_before_anything_was_written(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(*arguments: Any, **others: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedkt.engine.runs.watched.simulate", simulate)
    ended = call("simulate", small, "--out", "here")
    assert ended.exit_code == 130 and "nothing to continue" in ended.stderr


# Commands -------------------------------------------------------------------------------------------


def test_simulate_then_export(small: str) -> None:
    ended = call("simulate", small, "--out", "here", "--seed", "5", "--set", "rounds=2")
    assert ended.exit_code == 0, ended.output
    assert "small: fedmd over 2 clients, 2 rounds, engine inline" in ended.stdout
    assert "round 2/2" in ended.stdout and "personal accuracy" in ended.stdout
    assert json.loads(Path("here/summary.json").read_text())["seed"] == 5
    assert call("export", "here", "--client", "1", "--out", "model").exit_code == 0
    assert fedkt.load_model("model").width == 8
    again = call("simulate", small, "--out", "here")
    assert again.exit_code == 2 and "here exists already" in again.stderr
    wrong = call("export", "here", "--client", "9", "--out", "other")
    assert wrong.exit_code == 2 and "its clients are 0, 1." in wrong.stderr and not Path("other").exists()


def test_quiet_is_silent(small: str) -> None:
    ended = call("simulate", small, "--quiet", "--out", "here")
    assert (ended.exit_code, ended.output) == (0, "")
    assert Path("here/summary.json").is_file()


def test_show_prints_a_file_that_can_be_run_and_draws(small: str) -> None:
    ended = call("show", small, "--seed", "7", "--engine", "flower", "--out", "drawn")
    assert ended.exit_code == 0, ended.output
    resolved, rest = ended.stdout.split("\ntask: ", 1)
    scenario = fedkt.load_scenario(resolved)
    assert (scenario.seed, scenario.engine.kind, scenario.strategy.name) == (7, "flower", "fedmd")
    assert "models: 1 x mlp, 1 x mlp(width=8)" in rest
    # 10 rows × 10 classes × 4 bytes, and the 128 of an npy header
    assert "up 528 B, down 528 B" in rest
    assert Path("drawn/partition.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in Path().iterdir()) == ["drawn", "small.yaml"]


def test_show_trims_many_clients(small: str) -> None:
    changes = ["--set", "data.partition={kind: iid, clients: 23, samples_per_client: 5}"]
    ended = call("show", small, *changes)
    assert ended.exit_code == 0, ended.output
    assert "and 3 more clients" in ended.stdout and "models: 12 x mlp, 11 x mlp(width=8)" in ended.stdout


def test_list() -> None:
    for group, name in (("strategies", "knfu"), ("models", "cnn"), ("scenarios", "quickstart")):
        ended = call("list", group)
        assert ended.exit_code == 0
        lines = [line for line in ended.stdout.splitlines() if line.split()[0] == name]
        assert len(lines) == 1 and len(lines[0].split()) > 3
    ended = call("list", "strategy")
    assert ended.exit_code == 2 and "'strategies'" in ended.stderr


@pytest.mark.parametrize(
    ("kind", "count", "line"),
    [
        (None, 0, (False, "none; everything runs on the CPU")),
        ("mps", 1, (True, "1 of kind mps")),
        ("cuda", 2, (True, "2 of kind cuda: card 0, card 1")),
        ("xpu", 1, (True, "1 of kind xpu: card 0")),
    ],
)
def test_doctor_tells_of_any_accelerator(
    monkeypatch: pytest.MonkeyPatch, kind: str | None, count: int, line: tuple[bool, str]
) -> None:
    """What ``torch.accelerator`` knows, which is what ``engine.device`` takes; Apple's has no name."""
    import torch

    from fedkt.cli.doctor import CHECKS

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: kind is not None)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: kind and torch.device(kind))
    for module in (torch.cuda, torch.xpu):
        monkeypatch.setattr(module, "get_device_name", lambda i: f"card {i}")
    assert {name: check for name, check, _ in CHECKS}["accelerator"]() == line


def test_doctor_ends_with_three_only_for_what_is_essential(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedkt.cli import doctor

    def broken() -> tuple[bool, str]:
        raise ImportError("no module named ray")

    checks = [check for check in doctor.CHECKS if check[0] in ("python", "memory", "disk", "data")]
    monkeypatch.setattr(doctor, "CHECKS", (("gpu", broken, False), *checks))
    ended = call("doctor")
    assert ended.exit_code == 0 and ended.stdout.count("\n") >= 5
    monkeypatch.setattr(doctor, "CHECKS", (("ray", broken, True), *checks))
    ended = call("doctor")
    assert ended.exit_code == 3 and "ray: ImportError: no module named ray" in ended.stdout


def test_the_same_from_python(small: str) -> None:
    result = fedkt.simulate(small, ["seed=2"], out="here")
    assert isinstance(result, fedkt.Result) and result.summary["seed"] == 2
    assert fedkt.simulate(fedkt.load_scenario(small), ["rounds=2"], out="two").summary["rounds"] == 2
    with pytest.raises(InputError, match="exists already"):
        fedkt.simulate({"name": "x", "engine": {"kind": "inline"}, "strategy": {"name": "local"}}, out="here")
    with pytest.raises(AttributeError):
        fedkt.nothing  # noqa: B018


def test_a_strategy_is_named_on_the_command_line(small: str) -> None:
    shown = call("show", small, "--strategy", "knfu:beta=5", "--set", "strategy.epd=labels")
    assert "strategy: {name: knfu, beta: 5, epd: labels}\n" in shown.stdout
    ended = call("simulate", small, "--strategy", "fd", "--out", "runs/fd", "--quiet")
    assert ended.exit_code == 0
    assert json.loads(Path("runs/fd/summary.json").read_text())["strategy"] == "fd"


def test_a_run_takes_one_strategy(small: str) -> None:
    ended = call("simulate", small, "--strategy", "fd,knfu")
    assert (ended.exit_code, ended.stderr) == (
        2,
        "fedkt: --strategy is 'fd,knfu', which names 2 strategies; a run has one, "
        "fedkt compare takes several.\n",
    )
    assert "--strategy: '' names no strategy" in call("simulate", small, "--strategy", "").stderr
