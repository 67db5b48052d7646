"""Published figures beside measured ones: every table can be read, and a row is run once."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedkt import scenario
from fedkt.errors import InputError

reproduce: Any = pytest.importorskip("benchmarks.reproduce", reason="benchmarks are in the checkout only")
tables: Any = pytest.importorskip("benchmarks.tables", reason="benchmarks are in the checkout only")

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
    table = tables.read(path, nightly, None)
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
    row = tables.read(tmp_path / "small.yaml", True, None).rows[1]
    assert row.seeds == (3,)
    assert row.overrides[-2:] == ("strategy={name: local}", "clients.local.epochs=0")
    (tmp_path / "small.yaml").write_text(SMALL.partition("nightly")[0])
    assert tables.read(tmp_path / "small.yaml", True, None) is None


def test_the_table_by_hand() -> None:
    rows = (
        tables.Row("a", "s", (), "personal_mean", (0, 1, 2), 97.13, 0.30),
        tables.Row("b", "s", (), "personal_mean", (0,), 90.0),
        tables.Row("c", "s", (), "personal_mean", (0,)),
        tables.Row("d", "s", (), "personal_mean", (0,)),
    )
    table = tables.Table("t", "Title", "Source", rows)
    measured = {
        "a": tables.Measured([96.0, 97.0, 98.0], 30.0),
        "b": tables.Measured([92.5], 7.4),
        "c": tables.Measured([50.0], 1.0),
    }
    # Mean 97, sample deviation 1; 97 - 97.13 = -.13; 92.5 - 90 = 2.5, which is far; 30 s over three seeds.
    assert tables.markdown(table, measured).splitlines()[4:] == [
        "| row | published | measured | difference | time per run |",
        "|---|---|---|---|---|",
        "| a | 97.13 ± 0.30 | 97.00 ± 1.00 | -0.13 | 10 s |",
        "| b | 90.0 | 92.50 | +2.50 (far) | 7 s |",
        "| c | – | 50.00 |  | 1 s |",
        "| d | – | not run |  |  |",
    ]


def test_the_group_effect_has_a_column_where_a_table_asks_for_it() -> None:
    rows = tuple(tables.Row(name, "s", (), "global_mean", (0, 1)) for name in "abc")
    table = tables.Table("t", "Title", "Source", rows, group_effect=True)
    measured = {
        "a": tables.Measured([50.0, 52.0], 10.0, effects=[1.0, 3.0]),
        "b": tables.Measured([50.0], 3.0),  # nobody was taught
    }
    # 51 ± sqrt 2, 2 ± sqrt 2.
    assert tables.markdown(table, measured).splitlines()[4:] == [
        "| row | published | measured | difference | Group Effect | time per run |",
        "|---|---|---|---|---|---|",
        "| a | – | 51.00 ± 1.41 |  | 2.00 ± 1.41 | 5 s |",
        "| b | – | 50.00 |  |  | 3 s |",
        "| c | – | not run |  |  |  |",
    ]


def test_the_page_by_hand() -> None:
    rows = (
        tables.Row("a", "s", (), "personal_mean", (0, 1, 2), 97.13, 0.3),
        tables.Row("b", "s", (), "personal_mean", (0, 1, 2), 90.6),
        tables.Row("c", "s", (), "personal_mean", (0, 1, 2)),
        tables.Row("d", "s", (), "personal_mean", (0, 1, 2), 91.0),
    )
    measured = {
        "a": tables.Measured([96.0, 97.0, 98.0]),
        "b": tables.Measured([92.25, 92.75]),
        "c": tables.Measured([50.0]),
    }
    # Means 97 and 92.5, deviations 1 and 0.25 sqrt 2 = 0.354; 97 - 97.13 = -.13, 92.5 - 90.6 = 1.9.
    assert tables.for_page(tables.Table("t", "Title", "Source", rows), measured).splitlines() == [
        "| row | published | measured | difference |",
        "|---|---|---|---|",
        "| a | 97.13 ± 0.30 | 97.0 ± 1.0 | -0.1 |",
        "| b | 90.6 | 92.5 ± 0.4 | +1.9 |",
        "| c | – | 50.0 |  |",
        "| d | 91.0 | not run |  |",
    ]
    assert tables.for_page(
        tables.Table("t", "Title", "Source", rows, decimals=2, order=True), measured
    ).splitlines() == [
        "| row | published | measured |",
        "|---|---|---|",
        "| a | 97.13 ± 0.30 | 97.00 ± 1.00 |",
        "| b | 90.6 | 92.50 ± 0.35 |",
        "| c | – | 50.00 |",
        "| d | 91.0 | not run |",
    ]


def test_the_grid_of_a_page_by_hand() -> None:
    rows = tuple(
        tables.Row(name, "s", (), "global_mean", (0, 1))
        for name in ("x-local", "x-fedka", "y-local", "y-fedka")
    )
    measured = {
        "x-local": tables.Measured([50.0, 54.0]),
        "x-fedka": tables.Measured([61.0, 63.0], effects=[1.0, 3.0]),
        "y-local": tables.Measured([30.0, 30.0]),
        "y-fedka": tables.Measured([29.0, 33.0], effects=[-2.0, 0.0]),
    }
    gain = tables.Table("t", "T", "S", rows, True, grid=tables.Grid("left out", gain=["fedka", "local"]))
    # Deviations of two seeds d apart are d / sqrt 2. Gains by seed: 11 and 9, -1 and 3.
    assert tables.for_page(gain, measured).splitlines() == [
        "| left out | local | fedka | fedka - local |",
        "|---|---|---|---|",
        "| x | 52.0 ± 2.8 | 62.0 ± 1.4 | +10.0 ± 1.4 |",
        "| y | 30.0 ± 0.0 | 31.0 ± 2.8 | +1.0 ± 2.8 |",
        "",
        "Group Effect:",
        "",
        "| left out | local | fedka |",
        "|---|---|---|",
        "| x | – | 2.0 ± 1.4 |",
        "| y | – | -1.0 ± 1.4 |",
    ]
    mean = tables.Table("t", "T", "S", rows, True, grid=tables.Grid("left out", mean=True))
    # Means over x and y by seed: local 40 and 42, fedka 45 and 48, its Group Effects -0.5 and 1.5.
    assert tables.for_page(mean, measured).splitlines() == [
        "| left out | local | fedka |",
        "|---|---|---|",
        "| x | 52.0 ± 2.8 | 62.0 ± 1.4 |",
        "| y | 30.0 ± 0.0 | 31.0 ± 2.8 |",
        "| mean | 41.0 ± 1.4 | 46.5 ± 2.1 |",
        "| Group Effect | – | 0.5 ± 1.4 |",
    ]


def test_a_table_is_put_between_the_marks_of_its_page(tmp_path: Path) -> None:
    table = tables.Table("t", "Title", "Nobody 2026", (tables.Row("a", "s", (), "m", (0,), 1.5),))
    page = tmp_path / "t.md"
    tables.put(page, table, {"a": tables.Measured([2.0])})
    marked = f"{tables.BEGIN}\n\n| row | published | measured | difference |\n|---|---|---|---|\n"
    assert page.read_text() == (
        f"# Title\n\nNobody 2026.\n\n{marked}| a | 1.5 | 2.0 | +0.5 |\n\n{tables.END}\n"
    )
    page.write_text(page.read_text().replace("Nobody 2026", "By hand | x |") + "Why so.\n")
    tables.put(page, table, {"a": tables.Measured([1.0])})
    assert page.read_text() == (
        f"# Title\n\nBy hand | x |.\n\n{marked}| a | 1.5 | 1.0 | -0.5 |\n\n{tables.END}\nWhy so.\n"
    )
    page.write_text(f"{tables.END}\n{tables.BEGIN}\n")
    with pytest.raises(ValueError, match=r"t\.md: the lines .* must stand around the table, in this order"):
        tables.put(page, table, {})
    assert page.read_text() == f"{tables.END}\n{tables.BEGIN}\n"


@pytest.mark.parametrize(
    ("arguments", "failing", "written"),
    [
        ([], "", True),
        (["small"], "", True),
        (["small/knfu"], "", False),
        (["--nightly"], "", False),
        (["--seeds", "1"], "", False),
        ([], "local", False),
    ],
)
def test_a_page_is_written_of_a_whole_table_alone(
    arguments: list[str], failing: str, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(row: Any, folder: Path) -> Any:
        folder.mkdir(parents=True)
        return tables.Measured([50.0], error="lost" if row.name == failing else "")

    monkeypatch.setattr(reproduce, "TABLES", tmp_path)
    monkeypatch.setattr(reproduce, "PAGES", tmp_path / "pages")
    monkeypatch.setattr(reproduce, "run", measured)
    (tmp_path / "small.yaml").write_text(SMALL.replace("wrong", "third"))
    (tmp_path / "pages").mkdir()
    page = tmp_path / "pages" / "small.md"
    page.write_text(f"By hand.\n{tables.BEGIN}\n{tables.END}\n")
    reproduce.main([*arguments, "--out", str(tmp_path / "out")])
    assert page.read_text().startswith("By hand.\n")
    assert ("| knfu | 1.50 ± 0.25 | 50.0 | +48.5 |" in page.read_text()) == written


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_published_table_has_a_page_in_the_form_that_is_written(path: Path) -> None:
    """Names and published figures are those of the file; only what was measured is the page's own."""
    table = tables.read(path, False, None)
    page = (reproduce.PAGES / f"{path.stem}.md").read_text()
    there = page.partition(tables.BEGIN)[2].partition(tables.END)[0].split("\n")
    expected = ["", "", *tables.for_page(table, {}).split("\n"), ""]
    assert len(there) == len(expected)
    for line, form in zip(there, expected, strict=True):
        of_file = 2 if table.grid is None else 1
        if "not run" in form or "–" in form:
            assert line.split(" | ")[:of_file] == form.split(" | ")[:of_file]
            assert line.count("|") == form.count("|")
        else:
            assert line == form


def test_a_group_effect_is_the_mean_over_measured_rounds(tmp_path: Path) -> None:
    short = (
        "rounds=2",
        "clients.local.epochs=1",
        "clients.distill.epochs=1",
        "data.partition.clients=3",
        "strategy={name: knfu}",
    )
    found = reproduce.run(tables.Row("a", "quickstart", short, "global_mean", (0,)), tmp_path)
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
