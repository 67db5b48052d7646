"""Every privacy mode in a run: what is paid, what leaves, what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedkt.engine.checks.checked import checked_world
from fedkt.engine.runs.run import simulate
from fedkt.engine.world.costs import training_event
from fedkt.engine.world.guard import Guard, without_private_rows
from fedkt.engine.world.private import epsilons, privacy_notes, privacy_problems
from fedkt.errors import InputError
from fedkt.knowledge.codec import Spec
from fedkt.privacy import curator as central
from fedkt.privacy.accounting import Event, spent
from fedkt.privacy.ledger import Ledger
from fedkt.privacy.modes import LogitGauss, mode_of
from fedkt.results.folder import read_rows
from fedkt.scenario import Scenario, load

DPSGD = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 2.0, "max_epsilon": 20}
PROTO = {"mode": "proto_gauss", "delta": 1e-5, "noise_multiplier": 4.0, "max_epsilon": 20}
TRAINED = {"provenance": "dp_trained", "training_noise_multiplier": 2.0}
MODES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # a strategy and a mode that fit
    "dpsgd": ({"name": "knfu"}, DPSGD),
    "dpsgd, weights": ({"name": "fedavg"}, DPSGD),
    "proto_gauss": ({"name": "fedproto"}, PROTO | TRAINED),
    "proto_gauss, predictions": ({"name": "fd"}, PROTO | TRAINED),
    "logit_gauss": (
        {"name": "fedmd"},
        {"mode": "logit_gauss", "delta": 1e-5, "noise_multiplier": 4.0, "clip": 5.0, "max_epsilon": 20},
    ),
    "logit_gauss, classes": (
        {"name": "fd"},
        {"mode": "logit_gauss", "delta": 1e-5, "noise_multiplier": 4.0, "max_epsilon": 20},
    ),
    "logit_gauss, moments": (
        {"name": "fedka"},
        {"mode": "logit_gauss", "delta": 1e-5, "noise_multiplier": 4.0, "max_epsilon": 20},
    ),
    "vote_rr": (
        {"name": "knfu"},
        {"mode": "vote_rr", "delta": 1e-5, "epsilon_per_vote": 0.2, "max_epsilon": 20},
    ),
    "central_gauss": (
        {"name": "fedmd"},
        {"mode": "central_gauss", "delta": 1e-5, "noise_multiplier": 4.0, "clip": 5.0, "max_epsilon": 20},
    ),
    "vote_gnmax": (
        {"name": "dsfl"},
        {"mode": "vote_gnmax", "delta": 1e-5, "vote_noise": 10.0, "max_epsilon": 50},
    ),
    "vote_gnmax, confident": (
        {"name": "fedmd"},
        {
            "mode": "vote_gnmax",
            "delta": 1e-5,
            "vote_noise": 10.0,
            "threshold": 2.0,
            "threshold_noise": 10.0,
            "max_epsilon": 50,
        },
    ),
}


def scenario(strategy: dict[str, Any], privacy: dict[str, Any], **more: Any) -> Scenario:
    """Three clients of 100 rows: 4 batches of 25 are 4 steps at rate 1/4 a round."""
    return load(
        {
            "name": "private",
            "data": {
                "partition": {"kind": "iid", "clients": 3, "samples_per_client": 100},
                "transfer": {"size": 30},
                **more.pop("data", {}),
            },
            "clients": {
                "models": [{"name": "mlp", "width": 8}],
                "local": {"epochs": 1, "batch_size": 25},
                "distill": {"epochs": 1},
                **more.pop("clients", {}),
            },
            "strategy": strategy,
            "privacy": privacy,
            "rounds": 2,
            "engine": {"kind": "inline"},
            "allow": ["weights", "features"],
            **more,
        },
        several=True,
    )


def run(out: Path, described: Scenario, **how: Any) -> dict[str, Any]:
    simulate(described, out=out, **how)
    return json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize("name", MODES)
def test_a_mode_runs_pays_and_says_so(tmp_path: Path, name: str) -> None:
    described = scenario(*MODES[name])
    summary = run(tmp_path / "run", described)
    assert summary["replies"] == {"accepted": 6, "rejected": 0, "late": 0, "declined": 0, "failed": 0}
    privacy = summary["privacy"]
    assert privacy["mode"] == name.split(",")[0]
    planned = epsilons(checked_world(described))
    assert privacy["epsilon"] == pytest.approx(max(v[-1] for v in planned.values()), rel=1e-6)
    assert 0 < privacy["epsilon"] <= described.privacy.max_epsilon
    assert f"({privacy['epsilon']:.3g}, 1e-05)-differentially private" in privacy["statement"]
    rows = read_rows(tmp_path / "run" / "clients.jsonl")
    assert all(row["released"] is False and row["personal"] is not None for row in rows)
    by_round = [{row["epsilon"] for row in rows if row["round"] == number} for number in (1, 2)]
    assert all(len(values) == 1 for values in by_round)
    assert min(by_round[0]) < min(by_round[1]) == privacy["epsilon"]


def test_what_modes_cost() -> None:
    """By hand: 4 steps at rate 1/4 a round; 30 votes at 0.2 a round; one release a round."""
    step = Event("gauss", "record", 2.0, 0.25, 4)
    release = Event("gauss", "record", 4.0, discrete=True)
    expected = {
        "dpsgd": [step] * 2,
        "proto_gauss": [step, release] * 2,
        "logit_gauss": [Event("gauss", "client", 4.0, discrete=True)] * 2,
        "vote_rr": [Event("rr", "client", 0.2, count=60, classes=10)],
        "central_gauss": [Event("gauss", "client", 4.0, discrete=True)] * 2,
        "vote_gnmax": [Event("gauss", "client", 10 / math.sqrt(2), count=60, discrete=True)],
    }
    for name, events in expected.items():
        world = checked_world(scenario(*MODES[name]))
        assert world.mode is not None
        planned = next(iter(epsilons(world).values()))[-1]
        assert planned == pytest.approx(spent(events, 1e-5, world.mode.unit).epsilon, rel=1e-9), name


def test_private_replies_hold_nothing_but_knowledge_and_epsilon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedkt.knowledge.protocol import Reply

    seen: list[Reply] = []
    pack = Reply.pack

    def noted(reply: Reply, expected: Any, *how: Any) -> Any:
        seen.append(reply)
        return pack(reply, expected, *how)

    monkeypatch.setattr(Reply, "pack", noted)
    run(tmp_path / "run", scenario({"name": "fedavg"}, DPSGD))
    assert len(seen) == 12
    assert {name for reply in seen for name in reply.metrics} == {"epsilon"}
    # How many rows stand behind weights is not said.
    assert {int(reply.arrays["examples"]) for reply in seen if reply.arrays} == {1}


def test_a_spent_budget_declines_before_training(tmp_path: Path) -> None:
    """The budget holds one round and not two: in the second all decline, nothing is trained or sent."""
    once = spent([Event("gauss", "record", 2.0, 0.25, 4)], 1e-5).epsilon
    described = scenario({"name": "knfu"}, DPSGD | {"max_epsilon": once * 1.01})
    assert any("is spent after round 1 of 2" in note for note in privacy_notes(checked_world(described)))
    summary = run(tmp_path / "run", described)
    assert (summary["replies"]["accepted"], summary["replies"]["declined"]) == (3, 3)
    assert summary["privacy"]["epsilon"] == pytest.approx(once)
    rows = [row for row in read_rows(tmp_path / "run" / "clients.jsonl") if row["round"] == 2]
    assert {(row["status"], row["reason"]) for row in rows} == {("declined", "budget")}
    states = tmp_path / "run" / "checkpoint" / "clients" / "0"
    assert sorted(p.stem for p in states.glob("0*.safetensors")) == ["00000002", "00000003"]


def test_a_ledger_goes_on_from_run_to_run(tmp_path: Path) -> None:
    described = scenario({"name": "knfu"}, DPSGD | {"ledger": str(tmp_path / "ledgers")})
    first = run(tmp_path / "one", described)["privacy"]["epsilon"]
    second = run(tmp_path / "two", described)["privacy"]["epsilon"]
    assert second == pytest.approx(spent([Event("gauss", "record", 2.0, 0.25, 16)], 1e-5).epsilon)
    assert second > first
    ledger = tmp_path / "ledgers" / "1" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"count": 4', '"count": 1', 1))
    with pytest.raises(InputError, match=r"1.ledger\.jsonl was changed at line"):
        run(tmp_path / "three", described)
    assert not (tmp_path / "three").exists()


def test_a_missing_ledger_declines(tmp_path: Path) -> None:
    """A client's state remembers its ledger: without it nothing is trained, nor the last round done again."""
    import shutil

    run(tmp_path / "run", scenario({"name": "knfu"}, DPSGD, rounds=1))
    shutil.rmtree(tmp_path / "run" / "checkpoint" / "clients" / "1" / "ledger")
    text = (tmp_path / "run" / "scenario.yaml").read_text()
    (tmp_path / "run" / "scenario.yaml").write_text(text.replace("rounds: 1", "rounds: 2"))
    summary = run(tmp_path / "run", scenario({"name": "knfu"}, DPSGD), resume=True)
    assert summary["replies"]["declined"] == 2
    declined = [r for r in read_rows(tmp_path / "run" / "clients.jsonl") if r["status"] == "declined"]
    assert [(r["client"], r["round"], r["reason"]) for r in declined] == [(1, 1, "ledger"), (1, 2, "ledger")]
    assert all("is missing: it had 2 entries" in r["detail"] for r in declined)


def test_a_repeated_request_is_answered_with_the_same_bytes(tmp_path: Path) -> None:
    """The server lost its newest checkpoint and asks again: no client pays or trains twice."""
    described = scenario({"name": "knfu"}, DPSGD)
    before = run(tmp_path / "run", described)
    newest = max((tmp_path / "run" / "checkpoint").glob("*.safetensors"))
    newest.unlink()
    after = run(tmp_path / "run", described, resume=True)
    assert after["privacy"]["epsilon"] == before["privacy"]["epsilon"]
    for client in "012":
        ledger = Ledger(tmp_path / "run" / "checkpoint" / "clients" / client / "ledger")
        assert [entry["state"] for entry in ledger.entries()] == ["reserved", "released"] * 2


def test_noise_differs_from_run_to_run_and_client_to_client(tmp_path: Path) -> None:
    def sent(out: str) -> list[bytes]:
        described = scenario(*MODES["logit_gauss"], rounds=1)
        run(tmp_path / out, described)
        clients = tmp_path / out / "checkpoint" / "clients"
        return [next((clients / c / "ledger" / "sent").iterdir()).read_bytes() for c in "012"]

    assert len({*sent("one"), *sent("two")}) == 6


def test_deterministic_noise_is_told_to_hide_nothing(tmp_path: Path) -> None:
    described = scenario({"name": "knfu"}, DPSGD | {"deterministic_noise": True})
    first, second = run(tmp_path / "one", described), run(tmp_path / "two", described)
    assert first["accuracy"] == second["accuracy"]
    assert first["privacy"]["epsilon"] is None
    assert "epsilon is infinite" in first["privacy"]["statement"]
    assert any("hides nothing" in note for note in privacy_notes(checked_world(described)))


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "prototypes after dpsgd": ({"name": "fedproto"}, DPSGD, {}, "private rows once more"),
    "label histogram": ({"name": "knfu", "epd": "labels"}, DPSGD, {}, "private rows once more"),
    "pooled data": ({"name": "central"}, DPSGD, {}, "pools all data"),
    "means of predictions": ({"name": "fedmd"}, PROTO | TRAINED, {}, "not means per class"),
    "trained features as public": (
        {"name": "fedproto"},
        PROTO | {"provenance": "public"},
        {},
        "are trained on private rows",
    ),
    "noise on weights": ({"name": "fedavg"}, MODES["logit_gauss"][1], {}, "it sends weights"),
    "personal teachers at a server": (
        {"name": "knfu"},
        MODES["central_gauss"][1],
        {},
        "more than the clients' mean",
    ),
    "robust noise": (
        {"name": "fedmd"},
        MODES["central_gauss"][1],
        {"robust": {"centre": "median"}},
        "robust fusion does not take",
    ),
    "a first round too dear": ({"name": "knfu"}, DPSGD | {"max_epsilon": 0.1}, {}, "the first round alone"),
    "a target out of reach": (
        {"name": "fedproto"},
        {"mode": "proto_gauss", "delta": 1e-5, "target_epsilon": 1, "provenance": "dp_trained",
         "training_noise_multiplier": 1.0},
        {},
        "cannot be reached",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(name: str) -> None:
    strategy, privacy, more, words = REFUSED[name]
    with pytest.raises(InputError) as refused:
        checked_world(scenario(strategy, privacy, **more))
    assert any(words in problem for problem in refused.value.problems), refused.value.problems


def test_inputs_scaled_by_private_rows_are_refused() -> None:
    world = checked_world(scenario({"name": "knfu"}, DPSGD))
    parts = world.scenario.data.model_copy(update={"standardise": True, "missing": "mean"})
    world.scenario = world.scenario.model_copy(update={"data": parts})
    first, second = privacy_problems(world)
    assert "data.standardise scales columns by statistics of private rows" in first
    assert "data.missing is mean, a statistic of private rows" in second


def normed(input: Any, classes: int) -> nn.Module:
    """A model with BatchNorm."""
    size = math.prod(input.shape)
    module = nn.Module()
    module.features = nn.Sequential(nn.Flatten(), nn.Linear(size, 4), nn.BatchNorm1d(4))
    module.head = nn.Linear(4, classes)
    return module


def test_batch_norm_is_refused() -> None:
    clients = {
        "models": ["tests.privacy.test_privacy_modes:normed"],
        "local": {"epochs": 1, "batch_size": 25},
    }
    with pytest.raises(InputError, match=r"has BatchNorm1d, whose statistics mix rows.*use GroupNorm"):
        checked_world(scenario({"name": "knfu"}, DPSGD, clients=clients))


def test_a_large_delta_is_noted() -> None:
    described = scenario({"name": "knfu"}, DPSGD | {"delta": 0.01})
    assert any("not below 1/100" in note for note in privacy_notes(checked_world(described)))


def test_the_signal_of_noised_logits_is_told() -> None:
    """3 clients, 30 rows, 10 classes, σ = 4: √3 / (2·4·√300) = 0.0125."""
    (note,) = privacy_notes(checked_world(scenario(*MODES["logit_gauss"])))
    assert "at most 0.012 of its noise" in note and "dpsgd gives the same release for less" in note


def test_a_number_per_row_does_not_widen_the_rows_beside_it() -> None:
    """3 clients, 100 rows of 10 classes and their 100 densities, σ = 4: √3 / (2·4·√(101 · 10)) = 0.00681."""
    sent = {"values": Spec("float32", (100, 10)), "density": Spec("float32", (100,))}
    mode = mode_of(scenario(*MODES["logit_gauss"]).privacy)
    assert isinstance(mode, LogitGauss)
    assert mode.signal_to_noise(sent, 4.0, 3) == pytest.approx(0.00681, abs=1e-5)
    alone = {"density": Spec("float32", (100,))}  # √3 / (2·4·√100) = 0.02165
    assert mode.signal_to_noise(alone, 4.0, 3) == pytest.approx(0.02165, abs=1e-5)


@pytest.mark.parametrize("name", MODES)
def test_a_target_is_met_over_all_rounds(name: str) -> None:
    strategy, privacy = MODES[name]
    noises = (
        "noise_multiplier",
        "epsilon_per_vote",
        "vote_noise",
        "max_epsilon",
        "threshold",
        "threshold_noise",
    )
    target = {k: v for k, v in privacy.items() if k not in noises} | {"target_epsilon": 5.0}
    if name.startswith("proto"):
        target["training_noise_multiplier"] = 4.0
    planned = next(iter(epsilons(checked_world(scenario(strategy, target))).values()))
    assert 4.9 < planned[-1] <= 5.0


# Inside ---------------------------------------------------------------------------------------------------


def guard(tmp_path: Path, described: Scenario, behaviour: Any = None) -> Guard:
    world = checked_world(described)
    return Guard(world, "0", behaviour or world.player("0"), tmp_path)


def test_only_rows_of_a_private_phase_hold_private_data(tmp_path: Path) -> None:
    """A behaviour that puts a statistic of private rows into its constants gets that of no rows."""
    described = scenario({"name": "knfu"}, DPSGD)
    world = checked_world(described)

    class Leaky(world.behaviour):  # type: ignore[name-defined]
        def train(self, teacher: Any) -> Any:
            from dataclasses import replace

            return replace(super().train(teacher), constants={"mean": self.holding.x.sum(0)})

    world.behaviour = Leaky
    held = Guard(world, "0", Leaky(world.holding("0")), tmp_path)
    phase, how = held.phase(lambda behaviour: behaviour.train(None), 1)
    assert phase is not None and how is not None and how.multiplier == 2.0
    assert len(phase.rows["x"]) == 100 and not phase.constants["mean"].any()
    assert len(held.releasing.holding.x) == 0


def test_public_phases_hold_no_private_rows(tmp_path: Path) -> None:
    held = guard(tmp_path, scenario({"name": "knfu"}, DPSGD))
    teacher = {"values": torch.full((30, 10), 0.1)}
    phase, how = held.phase(lambda behaviour: behaviour.digest(teacher), 1)
    assert phase is not None and how is None and len(phase.rows["x"]) == 30


def test_what_a_phase_costs_is_what_it_trains() -> None:
    world = checked_world(scenario({"name": "knfu"}, DPSGD))
    (phase,) = world.private_phases("0")[1]
    assert training_event(phase, 2.0) == Event("gauss", "record", 2.0, 0.25, 4)
    assert without_private_rows(world.holding("0")).label_share.sum() == 0


def test_votes_are_debiased_and_fused_to_distributions() -> None:
    """Two classes at ε = ln 3: kept with 3/4, so an answer of class 0 is (1 - 1/4)/(1/2) = 1.5 and -0.5."""
    from fedkt.privacy.mechanisms import unbiased

    values = unbiased(torch.tensor([[1.0, 0.0]]), 2, math.log(3))
    assert values.tolist()[0] == pytest.approx([1.5, -0.5])
    assert central.teachable(values).tolist()[0] == pytest.approx([1.0, 0.0])


def test_class_means_are_noisy_sums_over_noisy_counts(tmp_path: Path) -> None:
    """With hardly any noise: features of norm 5 cut to 1, means per class, counts as they are."""
    described = scenario(
        {"name": "fedproto"}, PROTO | TRAINED | {"noise_multiplier": 1e-6, "max_epsilon": 1e15}
    )
    held = guard(tmp_path, described)
    y = held._own.holding.y
    features = torch.zeros(len(y), 8)
    features[:, 0] = torch.where(y == 3, 5.0, 0.5)
    found = held.class_means(features, torch.zeros(len(y), 10))
    assert found is not None
    assert found["counts"].tolist() == torch.bincount(y, minlength=10).tolist()
    assert found["values"][3, 0] == pytest.approx(1.0, abs=1e-4)
    assert found["values"][4, 0] == pytest.approx(0.5, abs=1e-4)
    assert np.abs(found["values"][:, 1:]).max() < 1e-3
