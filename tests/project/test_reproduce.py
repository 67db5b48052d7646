"""Published figures beside measured ones: every table can be read, and a row is run once."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedkt import scenario
from fedkt.errors import InputError

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


def test_the_group_effect_has_a_column_where_a_table_asks_for_it() -> None:
    rows = tuple(reproduce.Row(name, "s", (), "global_mean", (0, 1)) for name in "abc")
    table = reproduce.Table("t", "Title", "Source", rows, group_effect=True)
    measured = {
        "a": reproduce.Measured([50.0, 52.0], 10.0, effects=[1.0, 3.0]),
        "b": reproduce.Measured([50.0], 3.0),  # nobody was taught
    }
    # 51 ± sqrt 2, 2 ± sqrt 2.
    assert reproduce.markdown(table, measured).splitlines()[4:] == [
        "| row | published | measured | difference | Group Effect | time per run |",
        "|---|---|---|---|---|---|",
        "| a | – | 51.00 ± 1.41 |  | 2.00 ± 1.41 | 5 s |",
        "| b | – | 50.00 |  |  | 3 s |",
        "| c | – | not run |  |  |  |",
    ]


def test_a_group_effect_is_the_mean_over_measured_rounds(tmp_path: Path) -> None:
    short = ("rounds=2", "clients.local.epochs=1", "clients.distill.epochs=1", "data.partition.clients=3")
    found = reproduce.run(reproduce.Row("a", "quickstart", short, "global_mean", (0,)), tmp_path)
    rounds = reproduce.Result.read(tmp_path / "0").rounds["group_effect"]
    assert len(rounds) == 2
    assert found.effects == [pytest.approx(100 * (rounds[0] + rounds[1]) / 2)]


def test_images_of_the_mirror(tmp_path: Path) -> None:
    from PIL import Image

    cifar10: Any = pytest.importorskip("benchmarks.cifar10", reason="benchmarks are in the checkout only")
    with pytest.raises(InputError, match=r"jpegbytes\.npz is missing"):
        cifar10.decoded(tmp_path, tmp_path / "out")
    files = []
    for grey in (0, 100, 200):  # one colour survives JPEG to within a step or two
        buffer = io.BytesIO()
        Image.fromarray(np.full((32, 32, 3), grey, np.uint8)).save(buffer, "JPEG")
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    arrays = {"jpeg": np.concatenate(files), "off": offsets, "y": np.arange(3, dtype=np.uint8)}
    both: dict[str, Any] = {
        f"{name}_{split}": array for name, array in arrays.items() for split in ("train", "test")
    }
    np.savez(tmp_path / cifar10.MIRROR, **both)
    out = cifar10.decoded(tmp_path, tmp_path / "out", train=2, test=5)
    with np.load(out / "cifar10.npz") as made:
        assert made["x_train"].shape == (2, 32, 32, 3)
        assert made["x_test"].shape == (3, 32, 32, 3)
        assert np.abs(made["x_test"][:, 5, 5, 0].astype(int) - [0, 100, 200]).max() <= 2
        assert made["y_train"].tolist() == [0, 1]
