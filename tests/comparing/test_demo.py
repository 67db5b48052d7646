"""The demonstration: three lines that grow, and what its last sentences say."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedkt.cli.commands import app
from fedkt.comparing.growing import Growing
from fedkt.comparing.plan import Request, plan
from tests.project.snippets import in_this_process


def test_lines_grow_side_by_side(tmp_path: Path) -> None:
    cells = plan(Request(["quickstart"])).cells
    drawn = io.StringIO()
    growing = Growing(tmp_path, Console(file=drawn, width=120))
    growing.started(3, 0, 30)
    for cell, values in zip(cells, ([0.5, 0.75], [0.6], [0.9]), strict=True):
        folder = tmp_path / cell.path
        folder.mkdir(parents=True)
        rows = [{"round": n, "accuracy": {"personal_mean": v}} for n, v in enumerate(values, 1)]
        (folder / "rounds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        growing.at_round(cell, len(values))
    assert drawn.getvalue() == (
        "3 runs\nround  1   alone 50.0 %   together 60.0 %   all data in one place 90.0 %\n"
    )
    first = str(growing._line().renderables[0])
    # 0.75 of 40 characters, at round 2 of 10.
    assert first == f"alone                 {'█' * 30}{' ' * 11} 75.0 %  round 2 of 10"


def test_bars_stay_in_a_terminal(tmp_path: Path) -> None:
    drawn = io.StringIO()
    growing = Growing(tmp_path, Console(file=drawn, width=120, force_terminal=True))
    growing.started(3, 0, 30)
    growing.close()
    before = drawn.getvalue()
    assert "alone   " in before.rstrip().splitlines()[-3]
    growing.close()
    assert drawn.getvalue() == before


def test_the_demo_ends_with_what_it_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedkt.comparing.campaign.run_here", in_this_process)
    small = """\
name: small
data:
  dataset: digits
  partition: {kind: dirichlet, alpha: 5, clients: 3, samples_per_client: 30}
  transfer: {from: train, size: 30}
clients: {models: {name: mlp, hidden: [], width: 8}, local: {epochs: 1}}
rounds: 2
"""
    Path("small.yaml").write_text(small)
    monkeypatch.setattr("fedkt.cli.runs.demo.SCENARIO", "small.yaml")
    ended = CliRunner().invoke(app, ["demo", "--out", "here"])
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    mean = {}
    for strategy in ("local", "dwc", "central"):
        (file,) = Path("here/cells/small", strategy).rglob("summary.json")
        summary = json.loads(file.read_text())
        mean[strategy] = f"{100 * summary['accuracy']['personal_mean']:.1f} %"
    alone, together, pooled = mean.values()
    assert f"round  2   alone {alone}   together {together}   all data in one place {pooled}" in lines
    sentence = next(line for line in lines if line.startswith("Alone, the 3 clients are right on "))
    assert all(value in sentence for value in mean.values()) and "(dwc)" in sentence
    # 64 x 8 + 8 and 8 x 10 + 10 numbers of 4 bytes, up and down.
    assert "a client's weights would be 4.9 kB, and stayed with it." in ended.stdout
    assert lines[-1] == "Report: here/report.html" and Path("here/report.html").is_file()
