"""``fedkt init``: what is found, and that what is written runs as it stands."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from fedkt.cli.commands import app

FAST = ["--set", "rounds=1", "--set", "clients.local.epochs=1", "--quiet"]


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def table(rows: int = 90, seed: int = 0) -> pd.DataFrame:
    y = np.arange(rows) % 3
    x = np.random.default_rng(seed).normal(0, 1, (rows, 3)) + 3 * np.eye(3)[y]
    frame = pd.DataFrame(x, columns=["age", "dose", "weight"])
    frame.loc[4, "dose"] = np.nan
    frame["ward"] = np.where(np.arange(rows) % 4 == 0, "inner", "outer")
    return frame.assign(note="text", hospital=np.array(["east", "west"])[np.arange(rows) // 45], diagnosis=y)


def test_a_table_becomes_a_scenario_that_runs() -> None:
    table().to_csv("patients.csv", index=False)
    ended = call("init", "patients.csv")
    assert ended.exit_code == 0, ended.output
    assert ended.stdout == (
        "patients.csv: a table of 90 rows; column 'diagnosis' is the label: 3 classes; column 'hospital' "
        "says whose row is whose: 2 sites; columns of a few values: ward; no numbers, so not read: note; "
        "1 rows have missing values.\n"
        "written: patients.yaml\n"
        "next:    fedkt show patients.yaml\n"
        "         fedkt compare patients.yaml --strategies dwc,fedmd:average=probabilities --seeds 0-4 "
        "--out runs/patients\n"
    )
    text = Path("patients.yaml").read_text()
    for line in (
        'categories: {"ward": ["inner", "outer"]}',
        "partition: {kind: domain}",
        "missing: mean",
        "standardise: true",
        "size: 18}",
        "tabular",
    ):
        assert line in text
    ran = call("simulate", "patients.yaml", *FAST, "--out", "runs/first")
    assert ran.exit_code == 0, ran.output
    again = call("init", "patients.csv")
    assert again.exit_code == 2
    assert "patients.yaml exists already; name another folder with --out." in again.stderr
    shown = call("show", "patients.yaml").stdout
    assert re.search(r"ward +one of 2 +inner, outer", shown)


def test_a_folder_of_tables_is_a_site_for_each() -> None:
    Path("wards").mkdir()
    for seed, name in enumerate(("north", "south")):
        table(60, seed).drop(columns=["hospital", "note"]).to_csv(f"wards/{name}.csv", index=False)
    ended = call("init", "wards", "--label", "diagnosis", "--out", "new")
    assert (
        "wards: 2 tables of 120 rows; column 'diagnosis' is the label: 3 classes; each file is a site: 2"
        in (ended.stdout)
    )
    assert "next:    fedkt show new/wards.yaml" in ended.stdout
    ran = call("simulate", "new/wards.yaml", *FAST, "--out", "runs/wards")
    assert ran.exit_code == 0, ran.output
    assert '"client": "north"' in Path("runs/wards/clients.jsonl").read_text()


def test_a_folder_of_pictures_has_a_folder_per_class() -> None:
    rng = np.random.default_rng(0)
    for site in ("a", "b"):
        for name in ("cat", "dog"):
            Path("pets", site, name).mkdir(parents=True)
            for number in range(12):
                grey = rng.integers(0, 255, (10, 10)).astype("uint8") // 2 + 100 * (name == "dog")
                Image.fromarray(grey).save(Path("pets", site, name, f"{number}.png"))
    ended = call("init", "pets")
    assert "pets: 48 pictures; a folder per class: 2 classes; a folder per site: 2 sites." in ended.stdout
    ran = call("simulate", "pets.yaml", *FAST, "--out", "runs/pets")
    assert ran.exit_code == 0, ran.output


def test_an_npz_file_needs_no_module() -> None:
    y = np.arange(80) % 2
    x = (np.random.default_rng(0).normal(0, 1, (80, 4)) + 2 * np.eye(2, 4)[y]).astype("float32")
    Path("held").mkdir()
    np.savez("held/mine.npz", x_train=x, y_train=y)
    ended = call("init", "held/mine.npz")
    assert "held/mine.npz: an npz file of 80 rows of (4,) columns; 2 classes." in ended.stdout
    assert "written: mine.yaml\n" in ended.stdout and "fedkt show mine.yaml --data-dir " in ended.stdout
    assert "clients: 4}" in Path("mine.yaml").read_text()
    assert call("simulate", "mine.yaml", *FAST, "--data-dir", "held", "--out", "runs/mine").exit_code == 0


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (
            lambda: None,
            ["absent.csv"],
            "absent.csv does not exist; name a table (.csv, .tsv, .parquet), an",
        ),
        (
            lambda: Path("a.txt").touch(),
            ["a.txt"],
            "a.txt is no table (.csv, .tsv, .parquet), npz file or",
        ),
        (
            lambda: Path("empty").mkdir(),
            ["empty"],
            "empty holds neither tables (.csv, .tsv, .parquet) nor",
        ),
        (
            lambda: pd.DataFrame({"a": range(50), "b": range(50)}).to_csv("t.csv", index=False),
            ["t.csv"],
            "t.csv has no column that is plainly the label (its columns are a, b); name it with --label.",
        ),
        (
            lambda: table().to_csv("t.csv", index=False),
            ["t.csv", "--label", "x", "--site", "z"],
            "t.csv has no column 'x'; its columns are age, dose, weight, ward, note, hospital, diagnosis.\n"
            "fedkt: t.csv has no column 'z'",
        ),
        (
            lambda: np.savez("n.npz", a=np.zeros(3)),
            ["n.npz"],
            "n.npz holds a; it must hold x_train and",
        ),
        (lambda: Path("e.csv").touch(), ["e.csv"], "e.csv cannot be read as a table (EmptyDataError: "),
    ],
)
def test_what_will_not_do_is_told_and_nothing_is_written(make: Any, arguments: list[str], words: str) -> None:
    make()
    before = sorted(Path().rglob("*"))
    ended = call("init", *arguments)
    assert ended.exit_code == 2 and ended.stderr.startswith(f"fedkt: {words}"), ended.stderr
    assert sorted(Path().rglob("*")) == before


def test_several_labels_and_numbers_are_told_apart_from_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((60, 4)).astype(np.float32)
    for name, y, told in (
        ("tags", (x[:, :3] > 0.5).astype(int), "task: multilabel"),
        ("prices", 10 * x[:, 0], "targets: [[0, 10]]"),
    ):
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=y)
        ended = CliRunner().invoke(app, ["init", str(tmp_path / f"{name}.npz"), "--out", str(tmp_path)])
        assert ended.exit_code == 0, ended.output
        assert told in (tmp_path / f"{name}.yaml").read_text()
        shown = ["show", str(tmp_path / f"{name}.yaml"), "--data-dir", str(tmp_path)]
        ended = CliRunner().invoke(app, [*shown, "--set", "data.transfer.size=10"])
        assert ended.exit_code == 0, ended.output
