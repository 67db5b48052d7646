"""The bundled scenarios: each says what it is for, fits its data, and runs."""

import os
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import fedkt
from fedkt import registry, scenario
from fedkt.data.examples.clinics import write
from fedkt.engine.checks.checked import checked_world

BUNDLED = scenario.bundled()


def marks(name: str) -> list[pytest.MarkDecorator]:
    files = re.findall(r"npz:([\w.-]+)", scenario.dump(scenario.load(name)))
    folder = os.environ.get("FEDKT_DATA")
    missing = [file for file in files if folder is None or not (Path(folder) / file).is_file()]
    if scenario.load(name).data.dataset in ("umls", "kinships"):
        lacking = find_spec("pykeen") is None
        return [
            pytest.mark.data,
            pytest.mark.skipif(lacking, reason="pykeen, whose files are read, is missing"),
        ]
    where = "$FEDKT_DATA, which is not set" if folder is None else folder
    reason = f"{', '.join(missing)} must be in {where}"
    return [pytest.mark.data, pytest.mark.skipif(bool(missing), reason=reason)] if files else []


def parameters() -> list[object]:
    return [pytest.param(name, marks=marks(name)) for name in BUNDLED]


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
def test_it_fits_its_data_and_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = scenario.load(name)
    if name == "clinics":  # its files are made, by what its header says
        monkeypatch.chdir(tmp_path)
        write(Path("data"))
    churns = told.churn.active and told.churn.speeds is None  # then who is there depends on the round
    changes = ["rounds=8" if churns else "rounds=1"]
    if told.engine.kind != "board":
        changes.append("engine.kind=inline")
    if told.data.tasks is not None:
        changes = ["engine.kind=inline", f"rounds={len(told.data.tasks.groups or ())}", "data.tasks.rounds=1"]
    if told.data.task == "language":
        changes.append("clients.local.steps=2")
    described = scenario.load(name, changes)
    checked_world(described)
    replies = fedkt.simulate(described, out=tmp_path / "run").summary["replies"]
    asked = sum(replies.values())
    assert 0 < replies["accepted"] < asked if churns else replies["accepted"] == asked > 0


KNOWLEDGE_ONLY = [
    name
    for name in registry.names("strategies")
    if registry.find("strategies", name).shares in (("knowledge",), ("nothing",))
]


@pytest.mark.parametrize("name", KNOWLEDGE_ONLY)
def test_one_scenario_suits_every_strategy_that_shares_knowledge_only(name: str) -> None:
    described = scenario.load("strategies-digits", [f"strategy={{name: {name}}}", "rounds=1"])
    assert not described.allow
    world = checked_world(described)
    assert len(world.shards) == 10
