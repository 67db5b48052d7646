"""The forecast: evidence worked by hand, the table that ships, and who is not taught because of it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fedkt
from fedkt import registry
from fedkt.cli.commands import app
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.runs.foretold import first_exchange, prospects
from fedkt.errors import InputError
from fedkt.knowledge.contributions import Contributions
from fedkt.scenario import load
from fedkt.strategy.fusing import forecast as forecasting
from fedkt.strategy.fusing.evidence import EVIDENCE, entropy, evidence, evidence_of, own_weight
from fedkt.strategy.fusing.forecast import Chance, chances, design, fitted_for, forecast, table
from fedkt.strategy.fusing.fusion import Fused
from fedkt.strategy.rounds import declining

VALUES = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.8, 0.2], [0.2, 0.8]], [[0.4, 0.6], [0.0, 1.0]]])
"""Three clients, two rows, two classes."""
SMALL = ["engine.kind=inline", "rounds=2", "data.partition.clients=3", "data.transfer.size=60"]


def told(values: torch.Tensor, teachers: torch.Tensor) -> list[dict[str, float]]:
    found = evidence(values, teachers, rounds=10, steps=30, together=True)
    return [dict(zip(EVIDENCE, row, strict=True)) for row in found.tolist()]


def test_evidence_by_hand() -> None:
    teacher = VALUES.mean(0)  # (2.2/3, .8/3), (.7/3, 2.3/3)
    first = told(VALUES, teacher.expand_as(VALUES))[0]
    assert first["own_entropy"] == pytest.approx(0.5)  # of 0 and 1
    assert first["own_breadth"] == pytest.approx(-0.75 * math.log2(0.75) - 0.25 * math.log2(0.25))
    # Its peers: (.6 .4) and (.1 .9), on the mean (.35 .65).
    h = [-(p * math.log2(p) + (1 - p) * math.log2(1 - p)) for p in (0.6, 0.1, 2.2 / 3, 0.7 / 3)]
    assert first["peer_entropy"] == pytest.approx((h[0] + h[1]) / 2, abs=1e-6)
    assert first["teacher_entropy"] == pytest.approx((h[2] + h[3]) / 2, abs=1e-6)
    assert first["overlap"] == pytest.approx(1 - 0.4)  # (.75 .25) against (.35 .65)
    # Tops: 0 and, of a tie, 0; 0 and 1; 1 and 1. The teacher's: 0 and 1.
    assert first["agreement"] == 0.5
    assert first["peer_agreement"] == pytest.approx((0.5 + 0.0) / 2)
    assert first["among_peers"] == 0.5
    assert first["movement"] == pytest.approx(((1 - 2.2 / 3) + (0.5 - 0.7 / 3)) / 2, abs=1e-6)
    assert first["own_weight"] == pytest.approx(1 / 3, abs=1e-6)
    assert first["surer"] == 0.5  # 2.2/3 < 1, 2.3/3 > .5
    each = [
        0.5,
        -(0.8 * math.log2(0.8) + 0.2 * math.log2(0.2)),
        -(0.4 * math.log2(0.4) + 0.6 * math.log2(0.6)) / 2,
    ]
    assert first["peers_entropy"] == pytest.approx((each[1] + each[2]) / 2, abs=1e-6)
    assert first["apart"] == pytest.approx((h[2] + h[3]) / 2 - sum(each) / 3, abs=1e-6)
    assert (first["own_tops"], first["teacher_tops"]) == pytest.approx((0.0, 1.0))
    # (.75 .25), (.5 .5) and (.2 .8) against their mean (1.45/3, 1.55/3): .8/3, .05/3, .85/3.
    assert first["skew"] == pytest.approx((0.8 + 0.05 + 0.85) / 9, abs=1e-6)
    # All three think the first row likelier to be of class 0 than the second: with two rows they vary alike.
    assert (first["like_peers"], first["peers_alike"]) == pytest.approx((1.0, 1.0))
    # The client's mean (.75 .25) over the teacher's (2.9/6, 3.1/6); the second row: .7/3, 2.3/3, times that.
    ratio = (0.75 / (2.9 / 6), 0.25 / (3.1 / 6))
    rows = [(2.2 / 3 * ratio[0], 0.8 / 3 * ratio[1]), (0.7 / 3 * ratio[0], 2.3 / 3 * ratio[1])]
    assert rows[1][1] > rows[1][0]  # so there, a tie that it decides for class 0, its teacher would be right
    assert first["believed_gain"] == pytest.approx((rows[1][1] - rows[1][0]) / sum(map(sum, rows)), abs=1e-6)
    assert [
        first[f"log_{what}"] for what in ("rows", "clients", "classes", "rounds", "steps")
    ] == pytest.approx([math.log(n) for n in (2, 3, 2, 10, 30)])
    assert first["together"] == 1.0


def test_evidence_of_extremes() -> None:
    alike = VALUES[:1].expand(2, -1, -1)
    both = told(alike, alike)
    assert both[0] == both[1]
    assert both[0]["overlap"] == 1 and both[0]["movement"] == 0 and both[0]["surer"] == 0
    assert both[0]["own_weight"] == 1  # nothing is taken where there is nothing else
    assert both[0]["among_peers"] == both[0]["peers_alike"] == 1  # a single peer
    assert both[0]["like_peers"] == pytest.approx(1) and both[0]["believed_gain"] == 0
    same = torch.full((2, 3, 2), 0.5)
    assert told(same, same)[0]["like_peers"] == 0  # nobody tells a row from another
    with pytest.raises(ValueError, match="two clients"):
        evidence(VALUES[:1], VALUES[:1], rounds=1, steps=1, together=False)


def test_evidence_knows_neither_order_nor_names() -> None:
    values = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    teachers = values.flip(0)
    once = evidence(values, teachers, rounds=4, steps=8, together=False)
    order, rows = torch.tensor([2, 0, 3, 1]), torch.tensor([5, 1, 0, 2, 4, 3])
    again = evidence(values[order][:, rows], teachers[order][:, rows], rounds=4, steps=8, together=False)
    assert torch.allclose(once[order], again)
    classes = torch.tensor([1, 2, 0])
    assert torch.allclose(
        once, evidence(values[..., classes], teachers[..., classes], rounds=4, steps=8, together=False)
    )


def test_own_weight_is_that_of_a_mixture() -> None:
    own, others = VALUES[:2], VALUES[1:]
    assert own_weight(own, others, 0.3 * own + 0.7 * others).tolist() == pytest.approx([0.3, 0.3])
    assert own_weight(own, others, 2 * others - own).tolist() == [0.0, 0.0]
    assert entropy(torch.full((5,), 0.2)).item() == pytest.approx(1)


def test_logits_and_a_common_teacher_are_read_as_probabilities() -> None:
    logits = VALUES.clamp_min(1e-6).log() + 3.0
    known = Contributions(("0", "1", "2"), {"values": logits})
    common = Fused({"values": logits.mean(0)})
    described = load("quickstart", ["rounds=3", "clients.distill.epochs=4", "clients.distill.batch_size=1"])
    found = evidence_of(known, common, "logits", described, together=False)
    teachers = logits.mean(0).softmax(-1).expand_as(logits)  # two rows, one at a time, four times
    expected = evidence(logits.softmax(-1), teachers, rounds=3, steps=8, together=False)
    assert torch.allclose(found, expected)


def test_a_chance_and_its_interval_by_hand() -> None:
    """A score of .5 with deviation .2: 1/(1 + e^-.5) = .6225, and at .5 ± .329: .5426, .6961."""
    fit = {"coefficients": [0.1, 0.2], "covariance": [[0.0, 0.0], [0.0, 0.01]]}
    (found,) = chances(np.array([[1.0, 2.0]]), fit)
    assert (found.probability, found.low, found.high) == pytest.approx((0.62246, 0.54265, 0.69614), abs=1e-5)


def test_rows_are_standardised_and_say_their_cell() -> None:
    held: dict[str, Any] = {"mean": [0.5] * len(EVIDENCE), "deviation": [0.25] * len(EVIDENCE)}
    held["cells"] = ["dwc joint", "dwc phases", "knfu joint"]
    held |= {"low": [0.0] * len(EVIDENCE), "high": [1.0] * len(EVIDENCE)}
    rows = np.full((2, len(EVIDENCE)), 1.5)  # beyond what was seen: as 1
    rows[1, EVIDENCE.index("together")] = 0.0
    found = design(rows, ["knfu", "dwc"], held)
    assert found[:, 0].tolist() == [1, 1]
    assert found[0, 1:-3].tolist() == [2.0] * len(EVIDENCE)
    assert found[1, 1 + EVIDENCE.index("together")] == -2.0
    assert found[:, -3:].tolist() == [[0, 0, 1], [0, 1, 0]]


def test_the_table_that_ships() -> None:
    held = table()
    assert held["evidence"] == list(EVIDENCE)
    assert set(fitted_for()) <= set(registry.names("strategies"))
    assert {"dwc", "knfu", "fedmd", "complementary"} <= set(fitted_for())
    assert held["cells"] == [f"{name} {steps}" for name in fitted_for() for steps in ("joint", "phases")]
    size = 1 + len(EVIDENCE) + len(held["cells"])
    for measure in ("personal", "global"):
        assert len(held[measure]["coefficients"]) == size
        covariance = np.array(held[measure]["covariance"])
        assert covariance.shape == (size, size)
        assert np.linalg.eigvalsh(covariance).min() > -1e-4
    assert held["federations"] >= 100


def test_chances_are_in_order_for_every_strategy() -> None:
    values = torch.rand(5, 20, 4, generator=torch.Generator().manual_seed(1)).softmax(-1)
    seen = evidence(values, values.mean(0).expand_as(values), rounds=10, steps=30, together=True)
    for name in fitted_for():
        for each in forecast(name, seen):
            for chance in each.values():
                assert 0 < chance.low <= chance.probability <= chance.high < 1
    with pytest.raises(ValueError, match="not fitted for fd"):
        forecast("fd", seen)


def test_the_evidence_of_a_run_is_that_of_its_first_exchange() -> None:
    described = load("quickstart", [*SMALL, "strategy={name: knfu}"])
    seen = first_exchange(checked_world(described))
    assert sorted(seen) == ["0", "1", "2"]
    (one,) = {tuple(seen[c].tolist()[EVIDENCE.index("log_rows") :]) for c in seen}
    assert one == pytest.approx([math.log(n) for n in (60, 3, 10, 2, 6)] + [0.0])  # three times two batches


def only(probability: float) -> Any:
    chance = Chance(probability, probability, probability)
    return lambda strategy, seen: [{"personal": chance, "global": chance}] * len(seen)


def reached(*more: str) -> Any:
    result = fedkt.simulate("quickstart", [*SMALL, *more])
    lines = (result.path / "rounds.jsonl").read_text().splitlines()
    return result.summary["accuracy"], [json.loads(line)["report"] for line in lines]


def test_whom_the_forecast_is_against_trains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In phases to the bits of strategy local; whoever rehearses trains longer until it is taught."""
    common = "strategy={name: fedmd}"
    alone, _ = reached("strategy={name: local}")
    taught, _ = reached(common)
    monkeypatch.setattr(declining, "forecast", only(0.4))
    spared, reports = reached(common, "forecast=decline")
    assert [report["untaught"] for report in reports] == [["0", "1", "2"]] * 2
    assert reports[0]["forecast"] == {"0": 0.4, "1": 0.4, "2": 0.4}
    assert {k: spared[k] for k in ("personal_mean", "global_mean")} == {
        k: alone[k] for k in ("personal_mean", "global_mean")
    }
    assert taught["global_mean"] != alone["global_mean"]
    monkeypatch.setattr(declining, "forecast", only(0.5))
    assert reached(common, "forecast=decline")[0]["global_mean"] == taught["global_mean"]


def test_where_a_filter_leaves_one_client_nothing_is_foretold() -> None:
    """Krum keeps one contribution of three, and whoever sent it has no peers to be compared with."""
    krum = ["strategy={name: fedmd}", "robust.filter=krum"]
    _, reports = reached(*krum, "forecast=decline")
    assert [len(report["dropped"]) for report in reports] == [2, 2]
    assert [(report["forecast"], report["untaught"]) for report in reports] == [({}, [])] * 2
    with pytest.raises(InputError) as caught:
        prospects([load("quickstart", [*SMALL, *krum])])
    assert caught.value.problems == (
        "forecast: robust.filter 'krum' leaves 'fedmd' a single client, which has no peers; it must leave at "
        "least 2.",
    )


def test_a_resumed_run_remembers_its_forecasts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(declining, "forecast", only(0.4))
    first = load("quickstart", [*SMALL, "forecast=decline"])
    world = checked_world(first)
    strategy = world.strategy(world.config, world.setting("run", tmp_path))
    assert strategy.course._declining is not None
    strategy.course._declining.chances = {"0": 0.4, "1": 0.9}
    tensors, note = strategy.course.state()
    again = world.strategy(world.config, world.setting("run", tmp_path))
    again.course.load_state(tensors, note)
    assert again.course._declining is not None
    assert [again.course._declining.spares(c) for c in "012"] == [True, False, False]
    assert again.course._declining.report() == {"forecast": {"0": 0.4, "1": 0.9}, "untaught": ["0"]}


def test_the_command_prints_a_line_for_each_client() -> None:
    words = ["forecast", "quickstart", "--strategies", "knfu,dwc"]
    ended = CliRunner().invoke(app, [*words, *(part for text in SMALL for part in ("--set", text))])
    assert ended.exit_code == 0, ended.output
    lines = ended.output.splitlines()
    assert [line.split()[:2] for line in lines[1:7]] == [[s, c] for s in ("knfu", "dwc") for c in "012"]
    assert lines[7].startswith("knfu: of 3 clients ")


BAD = [
    (["--set", "strategy={name: fd}"], "forecast: it was not fitted for strategy 'fd'; it was for "),
    (
        [
            "--set",
            "privacy={mode: dpsgd, noise_multiplier: 1, max_epsilon: 1e6, delta: 0.001}",
            "--strategies",
            "knfu",
        ],
        "forecast: it was not fitted for noise, which privacy.mode dpsgd adds; it must be none.",
    ),
    (
        ["--set", "data.partition.clients=1", "--strategies", "knfu"],
        "forecast: there is one client, which has no peers; there must be at least 2.",
    ),
]


@pytest.mark.parametrize(("words", "sentence"), BAD)
def test_what_cannot_be_forecast(words: list[str], sentence: str) -> None:
    ended = CliRunner().invoke(app, ["forecast", "quickstart", *words])
    assert ended.exit_code == 2
    assert f"fedkt: {sentence}" in ended.stderr
    assert "Traceback" not in ended.output


def test_all_that_is_wrong_with_several_strategies_is_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        prospects([load("quickstart", [f"strategy={{name: {name}}}"]) for name in ("fd", "local", "knfu")])
    assert [problem[:46] for problem in caught.value.problems] == [
        "forecast: it was not fitted for strategy 'fd';",
        "forecast: it was not fitted for strategy 'loca",
    ]


def test_declining_needs_a_fitted_strategy() -> None:
    with pytest.raises(InputError) as caught:
        checked_world(load("quickstart", ["strategy={name: fd}", "forecast=decline"]))
    assert caught.value.problems == (
        "forecast is 'decline', but it was not fitted for strategy 'fd'; it was for "
        f"{', '.join(forecasting.fitted_for())}.",
    )
