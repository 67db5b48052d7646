"""README is a promise: its Python blocks and its cheap commands are run as they stand.

All but one in this process; that one says whether a fresh one starts without a warning."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fedkt
from fedkt import registry
from tests.project.snippets import run_snippets

README = Path(__file__).parents[2] / "README.md"
pytestmark = pytest.mark.skipif(not README.exists(), reason="README.md is not beside the tests")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def run(arguments: list[str], folder: Path) -> str:
    """Run the command that is installed: the working folder is not on its search path of itself."""
    environment = {**os.environ, "PYTHONWARNINGS": "error::UserWarning"}
    environment.pop("PYTHONPATH", None)
    command = [str(Path(sys.executable).parent / "fedkt"), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("drawn")
@pytest.mark.filterwarnings("error::UserWarning")
def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_snippets(README, tmp_path, monkeypatch, ("python",)) == {"python": 5}
    for name in ("npz", "moons"):
        assert (tmp_path / "runs" / name / "summary.json").exists()
    assert (tmp_path / "runs" / "trimmed" / "accuracy.png").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("error::UserWarning")
def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "".join(blocks("console")).splitlines()[:2] == ["make demo", "make test"]
    assert run_snippets(README, tmp_path, monkeypatch, ("console",)) == {"console": 4}
    assert (tmp_path / "runs" / "mine" / "model-3" / "model.safetensors").exists()
    which = fedkt.Comparison.read(tmp_path / "runs" / "which")
    assert (which.path / "report.html").exists()
    # What the page says of it: the default is better than training alone, by more than chance.
    said = which.statistics.set_index("method")
    assert said.loc["dwc", "q"] < 0.05 and said.loc["dwc", "difference"] > 0
    shown = "".join(blocks("text"))
    for method, row in said.iterrows():
        found = re.search(rf"^{re.escape(str(method))} +([0-9.]+) ±", shown, re.MULTILINE)
        # Whether clients are trained in stacked cohorts is decided by time, and moves the last bits.
        assert found and abs(float(found[1]) - 100 * row["mean"]) < 0.5, method


def test_the_yaml_block_is_a_scenario(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(block)
    printed = run(["show", "mine.yaml"], tmp_path)
    assert "12.1 kB" in printed


AS_IN_THE_TABLE = {
    "fedpcl": ["clients.models=[cnn]", "data.public={from: train, size: 300}"],
    "fedgkt": ["strategy.rows=30"],
}
"""What the table says of a strategy's settings."""


def test_the_table_of_bytes_is_what_is_sent() -> None:
    from fedkt import scenario
    from fedkt.engine.checks.checked import checked_world
    from fedkt.engine.world.traffic import bytes_per_round

    rows = re.findall(r"^\| (`[^|]*`) \|.*\| ([\d ]+) \| ([\d ]+) \|$", README.read_text(), re.MULTILINE)
    assert len(rows) >= 7
    for names, up, down in rows:
        for name in re.findall(r"`(\w+)`", names):
            change = [
                f"strategy={{name: {name}}}",
                "allow=[weights, features]",
                *AS_IN_THE_TABLE.get(name, ()),
            ]
            if {"weights", "features"} & {*registry.find("strategies", name).shares}:
                change.append("clients.models=[mlp]")
            planned = bytes_per_round(checked_world(scenario.load("quickstart", change)))
            assert planned == {"up": int(up.replace(" ", "")), "down": int(down.replace(" ", ""))}, name


def test_every_strategy_is_in_the_table() -> None:
    from importlib.metadata import distribution

    points = [p for p in distribution("fedkt").entry_points if p.group == "fedkt.strategies"]
    listed = re.findall(r"^\| ((?:`\w+`,? ?)+) \|", README.read_text(), re.MULTILINE)
    assert {name for cell in listed for name in re.findall(r"`(\w+)`", cell)} == {p.name for p in points}


@pytest.mark.skipif(not (README.parent / "docs").is_dir(), reason="docs/ is not beside README.md")
def test_links_lead_somewhere() -> None:
    for page in [README, *(README.parent / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
