"""Which model suits a site: successive halving by hand, what models cost, short trials, larger teachers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fedkt
from fedkt.cli.commands import app
from fedkt.cli.sites.models import amount
from fedkt.client.behaviour import Steps
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.trials.candidates import ZOO, candidates
from fedkt.engine.trials.elder import lesson_of_elder
from fedkt.engine.trials.halving import Rung, halved, rungs, spent
from fedkt.engine.trials.recommended import Trial, Tried, recommended
from fedkt.errors import InputError
from fedkt.models import build
from fedkt.scenario import Scenario, load
from fedkt.tasks import CLASSIFICATION

IMAGES = InputSpec("image", (1, 8, 8))
PUBLIC = "data.public={size: 60}"
PRIVATE = "privacy={mode: logit_gauss, noise_multiplier: 0.5, clip: 1.0, max_epsilon: 1e6, delta: 1e-3}"


def described(*more: str, models: Any = "mlp") -> Scenario:
    return load(
        {
            "name": "small",
            "data": {
                "partition": {"kind": "iid", "clients": 2, "samples_per_client": 100},
                "transfer": {"size": 40},
            },
            "clients": {"models": [models], "local": {"epochs": 1, "batch_size": 16, "lr": 0.01}},
            "strategy": "fedmd",
            "rounds": 4,
            "engine": {"kind": "inline"},
        },
        list(more),
    )


@pytest.mark.parametrize("entrants", [1, 2, 3, 9, 14])
@pytest.mark.parametrize("full", [40, 300])
def test_trials_keep_to_their_share(entrants: int, full: int) -> None:
    plan = rungs(entrants, full, 0.12)
    assert [rung.entrants for rung in plan] == sorted((rung.entrants for rung in plan), reverse=True)
    assert all(rung.steps <= full for rung in plan)
    if entrants > 1:
        assert plan[-1].entrants == 2
    if full == 300:
        assert spent(plan) <= 0.12 * entrants * full


def test_a_plan_by_hand() -> None:
    # 5, 3, 2: units 5 + 3 + 2 * 2 = 12; a tenth of 5 * 240 is 120 steps: 10, then 10 more, then 20 more.
    assert rungs(5, 240, 0.1) == [Rung(5, 10), Rung(3, 20), Rung(2, 40)]
    assert rungs(1, 240, 0.1) == []


def test_the_better_half_goes_on_and_no_number_is_the_worst() -> None:
    asked: list[tuple[str, int]] = []

    def trial(name: str, steps: int) -> float:
        asked.append((name, steps))
        return {"a": 0.5, "b": math.nan, "c": 0.9 - steps / 10, "d": 0.8, "e": 0.7}[name]

    order = halved("abcde", [Rung(5, 1), Rung(3, 2), Rung(2, 6)], trial)
    # After 1 step: a .5, e .7, then c .8 and d .8, of which c comes first. After 2: a .5, e .7, c .7.
    assert [name for name, steps in asked if steps == 2] == ["a", "e", "c"]
    assert order[:3] == ["a", "e", "c"] and order[-1] == "b"
    assert halved(["only"], [], trial) == ["only"]


def test_costs_by_hand() -> None:
    # 64 * 4 + 4 and 4 * 10 + 10 parameters; two operations for each product.
    (first, *others) = candidates(IMAGES, False, 10, [{"name": "mlp", "width": 4}], 0)
    assert (first.parameters, first.flops) == (310, 2 * (64 * 4 + 4 * 10))
    assert first.called == "mlp(width=4)"
    assert len({(one.model[0], one.parameters, one.flops) for one in [first, *others]}) == len(others) + 1
    cnn = next(one for one in others if one.called == "cnn(channels=[2, 4], width=8)")
    products = 64 * 9 * 1 * 2 + 16 * 9 * 2 * 4 + 2 * 2 * 4 * 8 + 8 * 10
    assert cnn.flops == 2 * products


@pytest.mark.parametrize("kind", list(ZOO))
def test_every_kind_of_rows_has_candidates(kind: str) -> None:
    spec = {
        "image": IMAGES,
        "tabular": InputSpec("tabular", (6,)),
        "sparse": InputSpec("sparse", (50,)),
        "tokens": InputSpec("tokens", (5,), 30),
        "links": InputSpec("tokens", (3,), 30),
    }[kind]
    found = candidates(spec, kind == "links", 1 if kind == "links" else 3, [], 0)
    assert len(found) == len(ZOO[kind])


def test_too_small_images_leave_out_what_cannot_take_them() -> None:
    names = {one.model[0] for one in candidates(InputSpec("image", (1, 3, 3)), False, 3, [], 0)}
    assert names == {"mlp", "resnet8"}


def test_a_trial_in_two_parts_goes_on_where_it_was() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(40, 1, 8, 8, generator=rng)
    y = (x[:, 0, :, 0].sum(1) > 0).long()
    steps = Steps(1, 8, "adam", 0.01)
    trial = Trial((x[:30], y[:30]), (x[30:], y[30:]), CLASSIFICATION, steps, 0, "0")
    (one,) = candidates(IMAGES, False, 2, [{"name": "mlp", "width": 4}], 0)[:1]
    tried = Tried(one)
    whole = Tried(one._replace(net=build({"name": "mlp", "width": 4}, IMAGES, 2, 0)))
    assert trial(tried, 20) != trial(tried, 60) and tried.steps == 60
    assert tried.figure is not None and trial(whole, 20) > 0
    count = next(value for key, value in tried.state.items() if key.endswith("/step"))
    assert count == 60


def test_models_within_the_budget_are_recommended_for_each_client() -> None:
    scenario = described("rounds=40")
    found = recommended(scenario, parameters=2500, flops=30_000)
    assert [choice.client for choice in found] == ["0", "1"]
    for choice in found:
        assert all(one.candidate.parameters <= 2500 and one.candidate.flops <= 30_000 for one in choice.tried)
        assert choice.rows == (80, 20) and choice.share <= 0.12 and choice.costly > 0
        assert choice.full == 40 * 7
        assert choice.tried[0].steps == max(one.steps for one in choice.tried)
    again = recommended(scenario, parameters=2500, flops=30_000, clients=["1"])
    assert [one.loss for one in again[0].tried] == [one.loss for one in found[1].tried]


def test_in_a_privacy_mode_trials_read_public_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = described(PRIVATE, PUBLIC)
    world = checked_world(scenario)
    kind = type(world.federation)
    monkeypatch.setattr(kind, "tensors", lambda *_: pytest.fail("private rows were read"))
    monkeypatch.setattr("fedkt.engine.trials.recommended.checked_world", lambda *_: world)
    (choice,) = recommended(scenario, parameters=700, clients=["0"])
    assert choice.rows == (48, 12)
    with pytest.raises(InputError, match="data\\.public must give labelled rows"):
        monkeypatch.undo()
        recommended(described(PRIVATE), parameters=700)


def test_the_command_prints_a_table_and_the_line_of_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(fedkt.scenario.dump(described()))
    ended = CliRunner().invoke(app, ["models", str(file), "--params", "1k", "--client", "0"])
    assert ended.exit_code == 0, ended.output
    assert "recommended: " in ended.output and "FLOPs a row" in ended.output
    line = ended.output.splitlines()[-1]
    assert line.startswith("models: [")
    (model,) = fedkt.scenario.load(str(file), [f"clients.{line.replace(': ', '=', 1)}"]).clients.models
    net = build(model, IMAGES, 10, 0)
    assert sum(p.numel() for p in net.parameters()) <= 1000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--params", "five"], "--params is 'five'; it must be a number"),
        (["--flops", "0"], "--flops is '0'"),
        (["--params", "20"], "fits the budget; the smallest, mlp(width=4), has 310 parameters"),
        (["--client", "9"], "there is no client '9'; the scenario has 0, 1"),
    ],
)
def test_bad_budgets_are_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(fedkt.scenario.dump(described()))
    ended = CliRunner().invoke(app, ["models", str(file), *arguments])
    assert ended.exit_code == 2 and told in ended.output


def test_amounts() -> None:
    assert [amount("--params", text) for text in ("5000", "5k", "1.5M", "2g", None)] == [
        *(5000, 5000, 1_500_000, 2_000_000_000),
        None,
    ]


# A larger model of the client's own ------------------------------------------------------------------

SLIM = {"name": "mlp", "width": 4, "slim_from": {"name": "mlp", "width": 32}}


def test_a_larger_model_teaches_on_transfer_rows_in_the_steps_of_training() -> None:
    world = checked_world(described(models=SLIM))
    lesson = lesson_of_elder(world, world.player("0"))
    assert lesson is not None and lesson.size == 40 and not lesson.private
    again = lesson_of_elder(checked_world(described(models=SLIM)), world.player("0"))
    assert again is not None and torch.equal(lesson.rows["target"], again.rows["target"])
    assert lesson_of_elder(checked_world(described()), world.player("0")) is None
    # It learned from the client's rows: on them it is right more often than a model that did not.
    x, y = world.federation.tensors(world.shards["0"])
    held = world.player("0").holding
    fresh = build({"name": "mlp", "width": 32}, IMAGES, 10, 0)(held.transfer)[1].argmax(-1)
    hidden = torch.from_numpy(np.asarray(world.federation.transfer_labels))
    right = (lesson.rows["target"].argmax(-1) == hidden).float().mean()
    assert right > (fresh == hidden).float().mean() and len(x) == len(y) == 100


@pytest.mark.parametrize("strategy", ["local", "dwc"])
def test_it_changes_what_a_small_model_learns_and_nothing_that_is_sent(strategy: str, tmp_path: Path) -> None:
    plain = {"name": "mlp", "width": 4}
    told = {
        name: fedkt.simulate(
            described(f"strategy={strategy}", "rounds=2", models=model), out=tmp_path / name, progress=False
        ).summary
        for name, model in (("plain", plain), ("slim", SLIM))
    }
    assert told["plain"]["bytes"] == told["slim"]["bytes"]
    assert told["plain"]["accuracy"]["global_mean"] != told["slim"]["accuracy"]["global_mean"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([PRIVATE], "for which no privacy mode pays"),
        (["strategy=fd", "data.transfer=null"], "of which there are none"),
        (["strategy=fd"], "which strategy 'fd' has in its own form"),
        (["clients.distill.loss=rkd"], "compares rows or looks back"),
        (["clients.models=[{name: mlp, slim_from: nothing}]"], "slim_from of model 'mlp': "),
        (["clients.models=[{name: mlp, slim_from: {name: mlp, size: 4}}]"], "no setting 'size'"),
    ],
)
def test_where_it_cannot_teach_is_told(more: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        checked_world(described(*more, models=SLIM))
