"""Published figures beside measured ones: every table can be read, and a row is run once."""

from pathlib import Path
from typing import Any

import pytest

from fedkt import scenario

reproduce: Any = pytest.importorskip("benchmarks.reproduce", reason="benchmarks are in the checkout only")

TABLES = sorted(reproduce.TABLES.glob("*.yaml"))
SMALL = """\
title: A small table
source: Nobody 2026, table 1
scenario: quickstart
set: ["rounds=1", "clients.local.epochs=1", "clients.distill.epochs=1"]
seeds: [0]
rows:
  knfu: {published: 1.5, spread: 0.25}
  local: {set: ["strategy={name: local}"], metric: global_mean}
  wrong: {set: ["strategy={name: knfo}"]}
nightly: {set: ["clients.local.epochs=0"], seeds: [3]}
"""


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("nightly", [False, True])
def test_every_row_is_a_scenario(path: Path, nightly: bool) -> None:
    table = reproduce.read(path, nightly, None)
    assert table is not None, "a table without a nightly size is never run at night"
    assert table.rows
    for row in table.rows:
        described = scenario.load(row.scenario, row.overrides)
        assert described.rounds % described.evaluate.every == 0
        assert row.seeds == tuple(sorted(set(row.seeds)))
        assert row.published is None or 0 < row.published < 100


def test_a_row_is_run_once_and_an_error_costs_only_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    monkeypatch.setattr(reproduce, "TABLES", tmp_path)
    out = tmp_path / "out"
    assert reproduce.main(["--out", str(out)]) == 3
    summary = out / "small" / "knfu" / "0" / "summary.json"
    before = summary.stat().st_mtime_ns
    text = (out / "small.md").read_text()
    assert "did you mean 'knfu'?" in text.splitlines()[-1]
    assert capsys.readouterr().out.count("small/") == 3
    assert reproduce.main(["small/knfu", "small/l*", "--out", str(out)]) == 0
    assert summary.stat().st_mtime_ns == before
    assert reproduce.main(["nothing", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("no row matches nothing/*; tables are in ")


def test_the_nightly_size_is_another_run(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    row = reproduce.read(tmp_path / "small.yaml", True, None).rows[1]
    assert row.seeds == (3,)
    assert row.overrides[-2:] == ("strategy={name: local}", "clients.local.epochs=0")
    (tmp_path / "small.yaml").write_text(SMALL.partition("nightly")[0])
    assert reproduce.read(tmp_path / "small.yaml", True, None) is None


def test_the_table_by_hand() -> None:
    rows = (
        reproduce.Row("a", "s", (), "personal_mean", (0, 1, 2), 97.13, 0.30),
        reproduce.Row("b", "s", (), "personal_mean", (0,), 90.0),
        reproduce.Row("c", "s", (), "personal_mean", (0,)),
        reproduce.Row("d", "s", (), "personal_mean", (0,)),
    )
    table = reproduce.Table("t", "Title", "Source", rows)
    measured = {
        "a": reproduce.Measured([96.0, 97.0, 98.0], 30.0),
        "b": reproduce.Measured([92.5], 7.4),
        "c": reproduce.Measured([50.0], 1.0),
    }
    # Mean 97, sample deviation 1; 97 - 97.13 = -.13; 92.5 - 90 = 2.5, which is far; 30 s over three seeds.
    assert reproduce.markdown(table, measured).splitlines()[4:] == [
        "| row | published | measured | difference | time per run |",
        "|---|---|---|---|---|",
        "| a | 97.13 ± 0.30 | 97.00 ± 1.00 | -0.13 | 10 s |",
        "| b | 90.00 | 92.50 | +2.50 (far) | 7 s |",
        "| c | – | 50.00 |  | 1 s |",
        "| d | – | not run |  |  |",
    ]
