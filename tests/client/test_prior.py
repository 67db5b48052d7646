"""A client's own class frequencies at prediction: what is personal, and what an exported model brings."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

import fedkt
from fedkt.adversity.hostile import hostile
from fedkt.client.state import DiskStore
from fedkt.engine.checks.checked import checked_world
from fedkt.results.export import export
from fedkt.scenario import from_dict


def scenario(strategy: dict[str, Any], **more: Any) -> Any:
    return from_dict(
        {
            "name": "prior",
            "data": {
                "partition": {"kind": "dirichlet", "alpha": 0.3, "clients": 3, "samples_per_client": 40},
                "transfer": {"size": 30},
                "validation": 0.2,
            },
            "clients": {"models": [{"name": "mlp", "width": 8, "hidden": [8]}], "local": {"epochs": 5}},
            "strategy": strategy,
            "rounds": 1,
            "engine": {"kind": "inline"},
            **more,
        }
    )


def test_personal_accuracy_is_that_with_the_prior_and_global_that_without(tmp_path: Path) -> None:
    result = fedkt.simulate(scenario({"name": "dwc"}), out=tmp_path / "run")
    rows = result.clients
    assert (rows["personal"] == rows["prior_personal"]).all()
    assert (rows["global"] != rows["prior_global"]).any()
    assert (rows["personal"] != rows["model_personal"]).any()
    plain = fedkt.simulate(scenario({"name": "dwc", "prior": False}), out=tmp_path / "plain").clients
    assert (plain["personal"] == rows["model_personal"]).all()
    assert (plain["prior_personal"] == rows["prior_personal"]).all()
    assert "model_personal" not in plain.columns

    # log(share + 1/(2 rows)) of the 32 rows that are left beside 8 for validation.
    world = checked_world(scenario({"name": "dwc"}))
    share = world.shards["0"].share
    assert len(world.shards["0"].rows) == 32
    folder = export(result.path, "0", tmp_path / "model")
    told = json.loads((folder / "model.json").read_text())
    assert told["prior"] == pytest.approx([math.log(s + 0.5 / 32) for s in share], abs=1e-5)
    assert "prior" not in json.loads(
        (export(tmp_path / "plain", "0", tmp_path / "other") / "model.json").read_text()
    )


def test_a_private_run_exports_no_class_frequencies(tmp_path: Path) -> None:
    privacy = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 1e6}
    energy = scenario({"name": "dwc", "weights": "energy"}, privacy=privacy)
    result = fedkt.simulate(energy, out=tmp_path / "run")
    state = DiskStore(result.path / "checkpoint" / "clients").load("0", below=4)
    assert state is not None and "prior" not in state.note


def test_a_hostile_client_predicts_as_its_behaviour_does() -> None:
    attack = {"kind": "echo", "clients": ["0"]}
    world = checked_world(scenario({"name": "dwc"}, attacks=[attack]))
    player = world.player("0")
    assert type(player) is not world.behaviour
    assert player.decides_own == "prior"
    assert player.prior() is not None
    assert hostile(world.behaviour, world.holding("0"), world.hostile["0"]).decides_own == "prior"
