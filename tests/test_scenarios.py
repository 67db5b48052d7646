"""The bundled scenarios: each says what it is for, fits its data, and runs."""

import os
from pathlib import Path

import pytest

import fedkt
from fedkt import scenario
from fedkt.engine.check import checked_world

BUNDLED = scenario.bundled()


def needs_files(name: str) -> bool:
    return "npz:" in scenario.dump(scenario.load(name))


def parameters() -> list[object]:
    marks = [
        pytest.mark.data,
        pytest.mark.skipif("FEDKT_DATA" not in os.environ, reason="FEDKT_DATA is not set"),
    ]
    return [pytest.param(name, marks=marks if needs_files(name) else []) for name in BUNDLED]


def test_there_are_some() -> None:
    assert {"quickstart", "knfu-mnist"} <= set(BUNDLED)


@pytest.mark.parametrize("name", BUNDLED)
def test_the_header_says_what_it_is_for(name: str) -> None:
    from importlib.resources import files

    text = (files("fedkt.scenarios") / f"{name}.yaml").read_text()
    for heading in ("# Question:", "# Data:", "# Hardware:", "# Expected:"):
        assert heading in text
    assert scenario.load(name).name == name


@pytest.mark.parametrize("name", parameters())
def test_it_fits_its_data_and_runs(name: str, tmp_path: Path) -> None:
    described = scenario.load(name, ["engine.kind=inline", "rounds=1"])
    checked_world(described)
    result = fedkt.simulate(described, out=tmp_path / "run")
    assert result.summary["replies"]["accepted"] == result.summary["clients"]
