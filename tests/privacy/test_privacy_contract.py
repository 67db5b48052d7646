"""Every strategy under every privacy mode: it runs, or is refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from fedkt.engine.runs.run import simulate
from fedkt.engine.world.private import privacy_notes, privacy_problems
from tests.strategy.test_contract import NAMES, scenario, world_of

SETTINGS: dict[str, dict[str, Any]] = {
    "dpsgd": {"noise_multiplier": 2.0},
    "proto_gauss": {
        "noise_multiplier": 4.0,
        "provenance": "dp_trained",
        "training_noise_multiplier": 2.0,
    },
    "logit_gauss": {"noise_multiplier": 4.0},
    "vote_rr": {"epsilon_per_vote": 0.2},
    "central_gauss": {"noise_multiplier": 4.0},
    "vote_gnmax": {"vote_noise": 10.0},
}

ON_ROWS = {"dpsgd", "logit_gauss", "vote_rr"}
MEAN_OF_ROWS = ON_ROWS | {"central_gauss", "vote_gnmax"}
CLASS_MEANS = {"proto_gauss", "logit_gauss"}
FITS: dict[str, set[str]] = {
    "local": {"dpsgd"},
    # predictions on transfer rows; whole numbers (cfd) cannot be noised
    "fedmd": MEAN_OF_ROWS,
    "dsfl": MEAN_OF_ROWS,
    "knfu": ON_ROWS,
    "ktpfl": ON_ROWS,
    "transferability": ON_ROWS,
    "kshot": ON_ROWS,
    "complementary": {"dpsgd", "logit_gauss"},  # votes do not say how sure a client is
    "comd": {"dpsgd", "logit_gauss"},
    "dynamic_logits": {"dpsgd", "logit_gauss"},
    "dwc": {"logit_gauss"},  # how familiar rows are depends on private ones
    "held": {"logit_gauss"},  # label shares
    "comet": ON_ROWS,
    "selective_fd": {"logit_gauss", "vote_rr"},  # which rows it answers depends on private ones
    "cfd": {"dpsgd"},
    # means per class
    "fd": CLASS_MEANS,
    "fd_ratio": {"logit_gauss"},  # two phases on private rows
    "fedproto": CLASS_MEANS,
    "fedtgp": CLASS_MEANS,
    "fedpcl": CLASS_MEANS,
    # moments of features, and features of private rows
    "fedka": {"logit_gauss"},
    "fedgkt": {"logit_gauss"},
    # weights
    "fedavg": {"dpsgd"},
    "fedprox": {"dpsgd"},
    "feddf": {"dpsgd"},
    "fedet": {"dpsgd"},
    # weights with counts or means of private rows beside them; data
    "fedgen": set(),
    "fedhkd": set(),
    "fedka_weights": set(),
    "central": set(),
}


def private(name: str, mode: str, **more: Any) -> Any:
    privacy = {"mode": mode, "delta": 1e-5, "max_epsilon": 1e4, **SETTINGS[mode]}
    return scenario(name, privacy=privacy, rounds=1, **more)


def test_every_strategy_is_spoken_of() -> None:
    assert set(FITS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_does_not_fit_is_refused_with_the_reason(name: str) -> None:
    for mode in SETTINGS:
        world = world_of(private(name, mode))
        problems = privacy_problems(world)
        if mode in FITS[name]:
            assert not problems, (mode, problems)
            privacy_notes(world)
        else:
            assert problems and all(f"strategy '{name}'" in problem for problem in problems), mode


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_fits_runs(name: str, tmp_path: Path) -> None:
    for mode in sorted(FITS[name]):
        out = tmp_path / mode
        simulate(private(name, mode), out=out)
        summary = json.loads((out / "summary.json").read_text())
        assert summary["replies"]["accepted"] == 4, mode
        assert summary["privacy"]["epsilon"] > 0, mode
