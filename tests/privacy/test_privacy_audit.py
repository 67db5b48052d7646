"""The audit's bounds against vectors, its calibration on exact mechanisms, and bugs that it must flag."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.auditor import gaussian_run
from fedkt.privacy.attacks import roc
from fedkt.privacy.attacks.audit import (
    area,
    distance,
    judge,
    label_leak,
    relative,
    toss,
    two_sided_bound,
)
from fedkt.privacy.attacks.one_run import one_run_bound
from fedkt.privacy.attacks.scores import margins
from fedkt.rng import numpy_stream


@pytest.mark.parametrize(
    ("m", "r", "v", "pure", "approximate"),
    [
        (1000, 100, 100, 3.4930, 3.4654),
        (1000, 200, 150, 0.8214, 0.8200),
        (1000, 1000, 600, 0.2975, 0.2972),
        (1000, 100, 60, 0.0519, 0.0495),
        (100, 100, 75, 0.7022, 0.7019),
        (200, 40, 38, 1.7413, 1.7386),
    ],
)
def test_one_run_bound(m: int, r: int, v: int, pure: float, approximate: float) -> None:
    """Vectors of the published code's form, at delta 0 and 1e-5."""
    assert one_run_bound(m, r, v, 0) == pytest.approx(pure, abs=1e-4)
    assert one_run_bound(m, r, v, 1e-5) == pytest.approx(approximate, abs=1e-4)


def test_no_better_than_a_coin_shows_nothing() -> None:
    assert one_run_bound(1000, 100, 50, 1e-5) == 0
    assert one_run_bound(1000, 100, 0, 1e-5) == 0


@pytest.mark.parametrize(("hits", "alarms", "bound"), [(90, 5, 1.8366), (500, 0, 4.8461), (200, 100, 0.3784)])
def test_two_sided_bound(hits: int, alarms: int, bound: float) -> None:
    assert two_sided_bound(hits, 1000, alarms, 1000, 1e-5) == pytest.approx(bound, abs=1e-4)


def test_judging_by_hand() -> None:
    """40 canaries whose scores are their numbers, members the upper half: all is told."""
    found = judge(np.arange(40.0), np.arange(40) >= 20, 1e-5)
    assert (found.guesses, found.right, found.auc, found.advantage) == (2, 2, 1.0, 1.0)
    assert found.tpr_at_1_percent_fpr == 1.0
    assert found.exposure == pytest.approx(np.log2(20))
    assert area(np.array([1.0, 3.0]), np.array([2.0, 0.0])) == 0.75


def test_margins_and_label_leak_by_hand() -> None:
    """log(.7/.3) and log(.1/.9); logits give the same. KL((.5, .5) || (.9, .1)) = .5108."""
    p = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    expected = [np.log(0.7 / 0.3), np.log(0.1 / 0.9)]
    assert margins(p, [0, 2]).tolist() == pytest.approx(expected)
    assert margins(np.log(p) - 3, [0, 2]).tolist() == pytest.approx(expected)
    assert label_leak(np.array([[0.9, 0.1]]), np.array([0.5, 0.5])) == pytest.approx(0.510826, abs=1e-6)
    assert label_leak(np.array([[0.5, 0.5]]), np.array([0.5, 0.5])) == pytest.approx(0, abs=1e-9)
    # Not quite a distribution: (1.8, 0.2) is (.9, .1), .4 away from (.5, .5).
    assert distance(np.array([1.8, 0.2]), np.array([0.5, 0.5])) == pytest.approx(0.4)


def test_label_shares_beyond_what_all_say() -> None:
    """Means (.7, .3) and (.5, .5) around (.6, .4), all have (.5, .5): (.6, .4) and (.4, .6)."""
    told = np.array([[0.7, 0.3], [0.5, 0.5]])
    assert relative(told, np.array([0.5, 0.5])).tolist() == [
        pytest.approx([0.6, 0.4]),
        pytest.approx([0.4, 0.6]),
    ]
    # .05 less than nothing is nothing: (1.05, -.05) is (1, 0).
    assert relative(told, np.array([0.95, 0.05]))[0].tolist() == pytest.approx([1.0, 0.0])


def test_roc_curves_by_hand() -> None:
    """Scores 4 (in), 3 (out), 2 (in and out): half of the members without an alarm, all with every alarm."""
    members = np.array([True, False, True, False])
    assert roc.curve(np.array([4.0, 3.0, 2.0, 2.0]), members) == {
        "fpr": [0, 0, 0.5, 1],
        "tpr": [0, 0.5, 0.5, 1],
    }
    # Points on a line are left out: members first, then others.
    assert roc.curve(np.array([4.0, 1.0, 3.0, 2.0]), members) == {"fpr": [0, 0, 1], "tpr": [0, 1, 1]}
    with pytest.raises(ValueError, match="members and others"):
        roc.curve(np.array([1.0]), np.array([True]))


@pytest.mark.parametrize(
    ("std", "epsilon", "median"), [(0.5, 9.997, 2.756), (1, 4.377, 1.645), (2, 1.993, 0.620)]
)
def test_the_auditor_is_calibrated_on_exact_gaussians(std: float, epsilon: float, median: float) -> None:
    """1000 unit canaries, one dimension each: bounds below the exact epsilon, and about as high as known."""
    bounds = [gaussian_run(1000, std, seed).epsilon_at_least for seed in range(9)]
    assert max(bounds) < epsilon
    assert np.median(bounds) == pytest.approx(median, abs=0.5)


def test_so_few_canaries_show_nothing_and_say_so() -> None:
    """Two of them, one of each: both guesses right is no evidence, and not a mistake of the user's either."""
    members = toss(2, numpy_stream(0, "coins"))
    assert sorted(members.tolist()) == [False, True]
    found = judge(members.astype(float), members, 1e-5)
    assert (found.guesses, found.right, found.epsilon_at_least, found.ceiling) == (2, 2, 0.0, 0.0)
    assert found.curve_ceiling == 0.0


@pytest.mark.slow
def test_an_audit_of_a_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without privacy memory shows; with it the bound stays below the claim.

    The first client's canaries teach the others, also the one whose classes are reconstructed, so the coins
    of the run without privacy are always the same; the system's made another model each time.
    """
    from fedkt.engine.audits.audited import audit_scenario, report
    from fedkt.scenario import from_dict

    plain = {
        "name": "audited",
        "data": {
            "partition": {"kind": "iid", "clients": 2, "samples_per_client": 100},
            "transfer": {"size": 200},
        },
        "clients": {
            "models": [{"name": "mlp", "width": 100}],
            "local": {"epochs": 40, "batch_size": 32, "lr": 0.003},
        },
        "strategy": {"name": "knfu"},
        "rounds": 1,
    }
    with monkeypatch.context() as fixed:
        fixed.setattr("fedkt.engine.audits.audited._coins", lambda: numpy_stream(0, "coins"))
        found = audit_scenario(from_dict(plain), out=tmp_path / "plain", canaries=200, lokt=True)
    assert found["lokt"]["recognised"] >= 0.5 and found["lokt"]["guessing"] == 0.1
    assert "an attack's result, no guarantee" in report(found)
    assert (tmp_path / "plain" / "inversion.png").is_file() and (tmp_path / "plain" / "roc.png").is_file()
    assert found["auc"]["distillation"] == pytest.approx(found["run"]["auc"])
    assert found["auc"]["cooperative"] > 0.6 and found["auc"]["margin"] > 0.6
    assert found["run"]["auc"] > 0.6 and found["claimed_epsilon"] is None
    assert (tmp_path / "plain" / "audit.json").is_file()
    private = plain | {
        "privacy": {"mode": "dpsgd", "delta": 1e-5, "target_epsilon": 3},
        "clients": {
            "models": ["mlp"],
            "local": {"epochs": 3, "batch_size": 100, "optimizer": "sgd", "lr": 0.5},
        },
    }
    found = audit_scenario(from_dict(private), out=tmp_path / "private", canaries=200)
    assert found["run"]["epsilon_at_least"] <= found["claimed_epsilon"] <= 3
    assert found["verdict"].startswith("PASS")


ROWS: dict[str, Any] = {
    "data": {"partition": {"kind": "iid", "clients": 3, "samples_per_client": 100}},
    "clients": {
        "models": [{"name": "mlp", "hidden": [64], "width": 32}],
        "local": {"epochs": 20, "batch_size": 50, "optimizer": "adam", "lr": 0.003},
    },
    "rounds": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "decides", "least"),
    [
        ({"name": "cfd"}, "distillation", 0.6),  # quantised
        ({"name": "fedka", "voting": "majority"}, "sums", 0.99),  # moments, and votes beside them
        ({"name": "fd"}, "sums", 0.8),  # mean predictions per class
        ({"name": "fedproto"}, "sums", 0.99),
        ({"name": "fedpcl"}, "sums", 0.99),
        ({"name": "fedgkt"}, "nearest", 0.99),  # features of rows
        ({"name": "fedavg"}, "margin", 0.55),  # weights
        ({"name": "dwc"}, "distillation", 0.7),
        ({"name": "selective_fd"}, "distillation", 0.7),
    ],
)
def test_every_kind_of_knowledge_is_attacked(
    strategy: dict[str, str], decides: str, least: float, tmp_path: Path
) -> None:
    """Without privacy each attack finds members among 200 canaries; by guessing the area would be 0.5."""
    from fedkt.engine.audits.audited import audit_scenario
    from fedkt.scenario import from_dict

    name = strategy["name"]
    described: dict[str, Any] = {**ROWS, "name": "kinds", "strategy": strategy, "data": dict(ROWS["data"])}
    if name in ("cfd", "fedka", "dwc", "selective_fd"):
        described["data"]["transfer"] = {"size": 200}
    if name == "fedpcl":
        described["data"]["public"] = {"from": "train", "size": 100}
    if name in ("fedavg", "fedgkt"):
        described["allow"] = ["weights" if name == "fedavg" else "features"]
    found = audit_scenario(from_dict(described), out=tmp_path / "out", canaries=200)
    assert found["decides"] == decides and found["run"]["auc"] >= least
    assert set(found["attacks"]) == set(found["roc"]) == set(found["auc"])
    assert found["attacks"][decides]["curve_ceiling"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["fd", "fedproto"])
def test_means_with_too_little_noise_are_refuted(strategy: str, tmp_path: Path) -> None:
    """Public features, so that nothing else is noisy: sound at a claim of 1, refuted where noise is off."""
    from fedkt.engine.audits.audited import audit_scenario
    from fedkt.privacy import mechanisms
    from fedkt.scenario import from_dict

    described = {
        "name": "means",
        "data": {
            "image": {"size": 16, "channels": 1},
            "partition": {"kind": "iid", "clients": 2, "samples_per_client": 100},
            "normalise": "none",
        },
        "clients": {"models": ["scatter"], "local": {"epochs": 1, "batch_size": 100, "optimizer": "sgd"}},
        "strategy": {"name": strategy},
        "privacy": {
            "mode": "proto_gauss",
            "delta": 1e-5,
            "target_epsilon": 1,
            "clip": 1,
            "provenance": "public" if strategy == "fedproto" else "dp_trained",
            **({} if strategy == "fedproto" else {"training_noise_multiplier": 30}),
        },
        "rounds": 1,
    }
    sound = audit_scenario(from_dict(described), out=tmp_path / "sound", canaries=350)
    assert sound["verdict"].startswith("PASS") and sound["run"]["refutable"]
    with pytest.MonkeyPatch.context() as bug:
        bug.setattr(mechanisms, "discrete_gaussian", lambda values, scale, sensitivity: values)
        found = audit_scenario(from_dict(described), out=tmp_path / "bug", canaries=350)
    assert found["verdict"].startswith("FAIL")
