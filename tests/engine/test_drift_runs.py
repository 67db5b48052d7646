"""Drift in a run: the alarm, what newest and older models make of the rows, and going back."""

import json
from pathlib import Path
from typing import Any

import pytest

import fedkt
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.files import read_tensors
from fedkt.results.export import export
from fedkt.results.folder import read_rows
from fedkt.results.report import write_report
from fedkt.scenario import load

SHIFT: dict[str, Any] = {
    "name": "drift",
    "data": {
        "dataset": {"usual": "digits", "inverted": "inverted_digits"},
        "partition": {"kind": "iid", "clients": 3, "samples_per_client": 400},
        "transfer": {"size": 50},
        "normalise": "none",
        "validation": 0.3,
        "tasks": {
            "by": "domain",
            "groups": [["usual"], ["inverted"]],
            "rounds": 6,
            "order": {"1": [0], "2": [0]},
        },
    },
    "clients": {
        "models": [{"name": "mlp", "hidden": [32]}],
        "local": {"epochs": 3, "lr": 0.005},
        "distill": {"epochs": 1},
    },
    "strategy": "dwc",
    "drift": {"window": 3},
    "checkpoint": {"keep": 3, "every": 2},
    "engine": {"kind": "inline"},
    "rounds": 12,
}


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift") / "run"
    fedkt.simulate(SHIFT, out=folder)
    return folder


def test_who_shifts_gives_the_alarm_two_rounds_later(shifted: Path) -> None:
    told = json.loads((shifted / "drift.json").read_text())
    assert {site: its["alarms"] for site, its in told["clients"].items()} == {"0": [8], "1": [], "2": []}
    lines = {(row["round"], row["client"]): row["alarm"] for row in read_rows(shifted / "clients.jsonl")}
    assert {key for key, alarm in lines.items() if alarm} == {(8, 0)}
    its = told["clients"]["0"]
    assert its["rounds"] == list(range(1, 13))
    assert its["accuracy"][5] > 0.6 > 0.3 > its["accuracy"][6]
    for right, rows, each in zip(its["accuracy"], its["rows"], its["by_class"], strict=True):
        assert len(each) == 10 and 0 <= right <= 1 and rows > 20


def test_older_models_are_counted_on_the_rows_of_now_and_of_before(shifted: Path) -> None:
    """On the rows before the shift round 6 is better than the newest, which learned others since."""
    its = json.loads((shifted / "drift.json").read_text())["clients"]["0"]
    assert list(its["then"]["older"]) == list(its["now"]["older"]) == ["3", "6", "9", "12"]
    assert its["then"]["older"]["6"]["accuracy"] == pytest.approx(its["accuracy"][5])
    assert its["now"]["newest"] == its["now"]["older"]["12"]
    assert its["now"]["newest"]["accuracy"] == pytest.approx(its["accuracy"][-1])
    assert its["now"]["newest"]["accuracy"] > its["now"]["older"]["6"]["accuracy"]
    assert "then" not in json.loads((shifted / "drift.json").read_text())["clients"]["1"]


def test_one_goes_back_by_the_round(shifted: Path, tmp_path: Path) -> None:
    export(shifted, "0", tmp_path / "old", "6")
    export(shifted, "0", tmp_path / "new", "12")
    export(shifted, "0", tmp_path / "last")
    assert json.loads((tmp_path / "old" / "model.json").read_text())["round"] == 6
    read = [read_tensors(tmp_path / name / "model.safetensors")[0] for name in ("old", "new", "last")]
    assert all((read[1][name] == read[2][name]).all() for name in read[1])
    assert any((read[0][name] != read[2][name]).any() for name in read[0])
    with pytest.raises(InputError, match=r"--round is '7'; it must be last, best or one of 3, 6, 9, 12\."):
        export(shifted, "0", tmp_path / "none", "7")


def test_the_report_has_its_section(shifted: Path) -> None:
    page = write_report(fedkt.Result.read(shifted)).read_text()
    assert '<section id="drift">' in page and "<td>0</td><td>8</td><td>then</td>" in page


def test_what_cannot_be_watched_is_said() -> None:
    data = {**SHIFT["data"], "validation": 0.0}
    with pytest.raises(InputError, match=r"drift watches .* data\.validation sets aside, which is 0"):
        checked_world(load({**SHIFT, "data": data}))
