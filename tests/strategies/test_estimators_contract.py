"""Every strategy with estimators for clients: it runs, with the same bits, or is refused and says why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedkt
from fedkt import registry
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.files import read_tensors
from fedkt.scenario import load

pytest.importorskip("skops", reason="the extra 'trees' (and 'dev') has what estimators need")
MODELS = [
    {"name": "sklearn", "estimator": "LogisticRegression"},
    {"name": "sklearn", "estimator": "RandomForestClassifier", "n_estimators": 4},
    {"name": "sklearn", "estimator": "KNeighborsClassifier"},
    "mlp",
]
FIT = (
    *(
        "cfd",
        "comd",
        "comet",
        "complementary",
        "dsfl",
        "dwc",
        "dynamic_logits",
        "fedmd",
        "held",
        "knfu",
        "kshot",
    ),
    *("ktpfl", "selective_fd", "transferability", "local", "central"),
)
NOT = [name for name in registry.names("strategies") if name not in FIT]


def scenario(name: str, **more: Any) -> dict[str, Any]:
    transfer = {} if name in ("local", "central") else {"transfer": {"size": 60}}
    return {
        "name": "estimators",
        "data": {
            "partition": {"kind": "dirichlet", "alpha": 0.5, "clients": 4, "samples_per_client": 40},
            "public": {"size": 40},
            **transfer,
        },
        "clients": {"models": MODELS, "local": {"epochs": 1}},
        "strategy": name,
        "rounds": 2,
        "engine": {"kind": "inline"},
        "allow": ["weights", "features"],
        **more,
    }


def states(run: Path) -> dict[str, Any]:
    files = (run / "checkpoint" / "clients").rglob("*.safetensors")
    return {file.parent.name: read_tensors(file)[0] for file in files}


def equal(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(
        one[c].keys() == two[c].keys() and all(np.array_equal(one[c][n], two[c][n]) for n in one[c])
        for c in one
    )


_alone: list[list[int]] = []


def alone(folder: Path) -> list[int]:
    """What client 1 learned without anybody else."""
    if not _alone:
        run = fedkt.simulate(scenario("local"), out=folder / "alone")
        _alone.append(states(run.path)["1"]["model/head.learned"].tolist())
    return _alone[0]


@pytest.mark.parametrize("name", FIT)
def test_estimators_learn_from_one_another_and_the_same_bits_each_time(name: str, tmp_path: Path) -> None:
    one = fedkt.simulate(scenario(name), out=tmp_path / "one")
    two = fedkt.simulate(scenario(name), out=tmp_path / "two")
    assert one.summary["replies"]["accepted"] == 8 and equal(states(one.path), states(two.path))
    learned = states(one.path)["1"]["model/head.learned"].tolist()
    assert (learned == alone(tmp_path)) == (name == "local")


@pytest.mark.parametrize("name", NOT)
def test_what_cannot_teach_estimators_is_refused_and_says_why(name: str) -> None:
    data = {"transfer": {"size": 40}} if registry.find("strategies", name).needs_transfer else {}
    asked = scenario(name)
    asked["data"] = {**{k: v for k, v in asked["data"].items() if k != "transfer"}, **data}
    with pytest.raises(
        InputError, match=r"cannot use model 'sklearn \(LogisticRegression\)', since it is an est"
    ):
        checked_world(load(asked, several=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ray", "flower"])
def test_every_engine_gives_the_same_bits(kind: str, tmp_path: Path) -> None:
    inline = fedkt.simulate(scenario("dwc"), out=tmp_path / "inline")
    other = fedkt.simulate(scenario("dwc", engine={"kind": kind, "workers": 2}), out=tmp_path / kind)
    assert equal(states(inline.path), states(other.path))


def test_who_can_only_vote_takes_part_where_votes_are_exchanged() -> None:
    private = {"mode": "vote_gnmax", "vote_noise": 2.0, "delta": 1e-5, "max_epsilon": 1000.0}
    voters = {"models": [{"name": "sklearn", "estimator": "RidgeClassifier"}], "local": {"epochs": 1}}
    ran = fedkt.simulate(scenario("fedmd", clients=voters, privacy=private))
    assert ran.summary["replies"]["accepted"] == 8


def test_a_server_that_trains_a_model_has_a_net_for_it(tmp_path: Path) -> None:
    forests = {"models": [MODELS[1]], "local": {"epochs": 1}}
    with pytest.raises(InputError, match=r"all of clients\.models are estimators"):
        fedkt.simulate(scenario("cfd", clients=forests), out=tmp_path / "cfd")
    with pytest.raises(InputError, match="the server's model is an estimator"):
        fedkt.simulate(scenario("comd", strategy={"name": "comd", "model": MODELS[1]}), out=tmp_path / "comd")
    assert not list(tmp_path.rglob("rounds.jsonl"))
