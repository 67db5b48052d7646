"""What every strategy that fits a task keeps to, what does not fit is told, on small runs."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt import registry
from fedkt.data.columns.choices import Choices
from fedkt.data.graph.triples import numbered
from fedkt.data.own import Sources, build_own
from fedkt.data.sets import reading
from fedkt.data.sets.dataset import Split
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.results.export import export
from fedkt.scenario import Scenario, load
from fedkt.scenario.about_data import TaskName
from fedkt.strategy.for_task import strategies_for
from fedkt.tasks import TASKS, named

VOTES = "privacy={mode: vote_gnmax, vote_noise: 5.0, max_epsilon: 1e6, delta: 1e-5}"
OTHERS = [name for name in TASKS if name != "classification"]
QUICK = {"held", "knfu", "feddf"}
"""Links are several labels with one of them: what is their own is in these."""
FITTING = [
    pytest.param(task, name, marks=pytest.mark.slow if task == "links" and name not in QUICK else ())
    for task in OTHERS
    for name in strategies_for(named(task))
]
NAMES = registry.names("strategies")
KINDS = {
    "multilabel": "label_probabilities",
    "regression": "numbers",
    "links": "link_probabilities",
    "language": "top_logits",
}
MLP = {"name": "mlp", "width": 8, "hidden": [8]}
LM = {"name": "lm", "tokens": 270, "width": 8, "grams": [2], "hashes": 64, "tokenizer": "public"}
MODELS = {"links": {"name": "kge", "width": 4}, "language": LM}


@cache
def rows(task: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((150, 5)).astype(np.float32)
    linear = x @ rng.standard_normal((5, 3)) + 0.3 * rng.standard_normal((150, 3))
    return x, (linear > 0.3).astype(int) if task == "multilabel" else 10 * linear


def multilabel() -> tuple[np.ndarray, np.ndarray]:
    return rows("multilabel")


def language() -> tuple[np.ndarray, None]:
    """Sentences that differ; no labels."""
    rng = np.random.default_rng(0)
    words = np.array(["the", "cat", "sat", "on", "a", "mat", "naïve", "hat", "rule", "1911"])
    return np.array([" ".join(rng.choice(words, rng.integers(1, 9))).encode() for _ in range(60)]), None


def regression() -> tuple[np.ndarray, np.ndarray]:
    return rows("regression")


def links() -> Split:
    """A ring of thirty, each linked to the next and to the next but one, and to those before."""
    ring = [(f"p{k}", f"r{s}", f"p{(k + s) % 30}") for k in range(30) for s in (1, 2, 28, 29)]
    return reading.links("ring", numbered("ring", {"train": ring}), Choices(task="links"))


def described(task: str, strategy: Any = "fedmd", *more: str) -> Scenario:
    """Three clients with one small model; with other rows where ``data.dataset`` names them."""
    language = task == "language"  # which takes long to learn
    local = {"epochs": 1 if language else 2, "batch_size": 16, "lr": 0.01}
    text = {"speech": {"passage": 32, "top": 4, "places": 8}} if language else {}
    return load(
        {
            "name": "small",
            "data": {
                "dataset": f"{__name__}:{task}",
                "task": task,
                "partition": {"kind": "dirichlet", "alpha": 1.0, "clients": 3},
                "transfer": {"size": 12 if language else 30},
                **text,
            },
            "clients": {"models": [MODELS.get(task, MLP)], "local": local},
            "strategy": {"name": strategy} if isinstance(strategy, str) else strategy,
            "rounds": 2,
            "engine": {"kind": "inline"},
            "allow": ["weights"],
        },
        list(more),
    )


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let language models go on with a passage for a few bytes, once: it takes longer than their training."""
    monkeypatch.setattr("fedkt.engine.runs.summed.MOST_EXAMPLES", 1)
    monkeypatch.setattr("fedkt.engine.runs.summed.WRITTEN", 8)


def run(scenario: Scenario, out: Path) -> dict[str, Any]:
    return fedkt.simulate(scenario, out=out, progress=False).summary


def test_the_schema_names_the_tasks() -> None:
    from typing import get_args

    assert set(get_args(TaskName)) == set(TASKS)
    assert {registry.find("strategies", n).tasks - set(TASKS) for n in NAMES} == {frozenset()}
    assert set(strategies_for(named("language"))) == {
        *("local", "fedmd", "dsfl", "knfu", "dwc", "dynamic_logits")
    }
    must = {"local", "central", "fedavg", "fedprox", "fedmd", "knfu", "dwc", "feddf"}
    assert must <= set(strategies_for(named("regression")))
    assert must | {"dsfl", "held"} <= set(strategies_for(named("multilabel")))


@pytest.mark.parametrize(("task", "name"), FITTING)
def test_a_strategy_that_fits_runs(task: str, name: str, tmp_path: Path) -> None:
    summary = run(described(task, name), tmp_path / "run")
    assert summary["metric"] == named(task).metric.told()
    assert "accuracy" not in summary
    assert math.isfinite(summary["score"]["personal_mean"])
    assert math.isfinite(summary["score"]["global_mean"])
    assert summary["replies"]["accepted"] == 6


@pytest.mark.parametrize("task", OTHERS)
def test_answers_are_of_the_tasks_kind_and_of_the_size_that_is_said(task: str, tmp_path: Path) -> None:
    world = checked_world(described(task))
    assert world.dims("0").predictions.kind == KINDS[task]
    size = sum(spec.nbytes for spec in world.full_contribution("0").values())
    assert run(world.scenario, tmp_path / "run")["bytes"]["up"] == 2 * 3 * size


@pytest.mark.parametrize("task", OTHERS)
def test_the_same_seed_gives_the_same_and_a_resumed_run_too(task: str, tmp_path: Path) -> None:
    whole = run(described(task, "knfu"), tmp_path / "whole")
    run(described(task, "knfu", "rounds=1"), tmp_path / "resumed")
    longer = fedkt.simulate(described(task, "knfu"), out=tmp_path / "resumed", resume=True, progress=False)
    assert longer.summary["score"] == whole["score"]


@pytest.mark.parametrize("task", OTHERS)
def test_clients_one_by_one_agree_with_a_cohort(task: str, tmp_path: Path) -> None:
    means = [
        run(described(task, "dwc", f"engine.cohort={cohort}"), tmp_path / cohort)["score"]["global_mean"]
        for cohort in ("auto", "off")
    ]
    assert means[0] == pytest.approx(means[1], abs=1e-3)


MODES = {
    "dpsgd": "{mode: dpsgd, noise_multiplier: 1.0, max_epsilon: 1e6, delta: 1e-3}",
    "logit_gauss": "{mode: logit_gauss, noise_multiplier: 0.5, clip: 1.0, max_epsilon: 1e6, delta: 1e-3}",
    "central_gauss": "{mode: central_gauss, noise_multiplier: 0.5, clip: 1.0, max_epsilon: 1e6, delta: 1e-3}",
    "vote_rr": "{mode: vote_rr, epsilon_per_vote: 4, max_epsilon: 1e6, delta: 1e-3}",
}
FITS: dict[str, list[str]] = {"language": ["dpsgd", "vote_rr"], "links": []}


@pytest.mark.parametrize(
    ("task", "mode"),
    [(task, mode) for task in OTHERS for mode in FITS.get(task, ["dpsgd", "logit_gauss", "central_gauss"])],
)
def test_privacy_modes_that_fit(task: str, mode: str, tmp_path: Path) -> None:
    summary = run(described(task, "fedmd", f"privacy={MODES[mode]}", "rounds=1"), tmp_path / "run")
    assert summary["privacy"]["epsilon"] > 0
    assert summary["replies"]["accepted"] == 3


@pytest.mark.parametrize("task", OTHERS)
def test_a_strategy_for_classes_is_refused_with_the_reason(task: str) -> None:
    for name in sorted(set(NAMES) - set(strategies_for(named(task)))):
        kind = registry.find("strategies", name)
        with pytest.raises(InputError) as raised:
            checked_world(described(task, name, "allow=[weights, features]", "data.public={size: 20}"))
        words = f"data.task is {task}, which strategy '{name}' is not for, since "
        words += f"{named(task).unfit or kind.one_class}; "
        assert words in str(raised.value)


@pytest.mark.parametrize(
    ("task", "strategy", "setting", "words"),
    [
        ("multilabel", "fedmd", "data.target=y>0", "data.target is y>0, but it makes two classes"),
        ("regression", "fedmd", "data.labels=[a, b]", "data.labels is a, b, but it names classes"),
        ("regression", "fedmd", VOTES, "privacy.mode is vote_gnmax, but what it protects is one class"),
        ("multilabel", "fedmd", VOTES, "privacy.mode is vote_gnmax"),
        ("multilabel", "fedmd", "data.transfer={size: 30, rows: 9, policy: margin}", "utility is margin"),
        ("regression", "fedmd", "attacks=[{kind: label-flip, clients: 1}]", "it lies about classes"),
        ("multilabel", "fedmd", "clients.distill.loss=kl", "distill.loss is kl, but data.task is multi"),
        ("regression", "fedmd", "clients.distill.loss=ce", "whose losses are mse, mae"),
        ("multilabel", "fedmd", "strategy={name: fedmd, prior: true}", "strategy.prior speaks of one class"),
        ("multilabel", "fedmd", "strategy={name: dwc, weights: aligned}", "strategy.weights is aligned"),
        ("regression", "fedmd", "strategy={name: dwc, weights: energy}", "it must be density"),
        ("regression", "fedmd", "strategy={name: knfu, epd: labels}", "strategy.epd is labels"),
        ("regression", "fedmd", "participation.blocked={'0': [1]}", "participation.blocked is"),
        ("multilabel", "fedmd", "data.tasks={by: label, groups: [[0], [1]], rounds: 1}", "data.tasks.by is"),
        ("regression", "fedmd", "data.tasks={by: domain, rounds: 1}", "data.tasks.by is domain, but"),
        ("multilabel", "fedmd", "clients.adapt.loss=im", "clients.adapt.loss is im, but it makes"),
        ("regression", "fedmd", "clients.distill.snapshot=0.5", "clients.distill.snapshot is 0.5, but"),
    ],
)  # fmt: skip
def test_settings_that_speak_of_classes_are_refused(
    task: str, strategy: str, setting: str, words: str
) -> None:
    with pytest.raises(InputError) as raised:
        checked_world(described(task, strategy, setting))
    assert words in str(raised.value)


def test_energies_weigh_labels(tmp_path: Path) -> None:
    summary = run(described("multilabel", {"name": "dwc", "weights": "energy"}), tmp_path / "run")
    assert math.isfinite(summary["score"]["global_mean"])


def floats() -> tuple[np.ndarray, np.ndarray]:
    return rows("regression")[0], rows("regression")[1][:, 0]


def holes() -> tuple[np.ndarray, np.ndarray]:
    x, y = rows("regression")
    return x, np.where(np.arange(len(y))[:, None] == 7, np.nan, y)


def two() -> tuple[np.ndarray, np.ndarray]:
    return rows("multilabel")[0], rows("multilabel")[1][:, :2]


@pytest.mark.parametrize(
    ("dataset", "task", "words"),
    [
        ("floats", "classification", "labels must be whole numbers"),
        ("multilabel", "classification", "y has shape (150, 3); it must have one dimension"),
        ("holes", "regression", "y lacks 3 values (first: row 7, column 0)"),
        ("regression", "multilabel", "each label must be 0 or 1"),
        ("floats", "multilabel", "y has 1 label per row"),
        ("{a: MODULE:multilabel, b: MODULE:two}", "multilabel", "has 2 targets per row but"),
        ("{a: MODULE:multilabel, b: MODULE:floats}", "multilabel", "domain 'b': "),
    ],
)
def test_targets_of_another_task_are_told(dataset: str, task: str, words: str) -> None:
    named_ = dataset.replace("MODULE", __name__) if "MODULE" in dataset else f"{__name__}:{dataset}"
    with pytest.raises(InputError) as raised:
        checked_world(
            described(task, "fedmd", f"data.dataset={named_}", "data.partition={kind: iid, clients: 2}")
        )
    assert words in str(raised.value)


def test_ranges_of_what_is_no_number_are_refused() -> None:
    for task, targets, words in (
        ("multilabel", "[[0, 1]]", "which only data.task regression predicts"),
        ("regression", "[[1, 0]]", "the first must be below the second"),
    ):
        with pytest.raises(InputError) as raised:
            described(task, "fedmd", f"data.targets={targets}")
        assert words in str(raised.value)


def test_a_site_reads_its_targets_and_declines_bad_ones(tmp_path: Path) -> None:
    x, y = rows("regression")
    np.savez(tmp_path / "good.npz", x_train=x, y_train=y)
    np.savez(tmp_path / "bad.npz", x_train=x, y_train=holes()[1])
    scenario = described("regression", "fedmd", "data.targets=[[-200, 200], [-200, 200], [-200, 200]]")
    own = build_own(
        "a", Sources(tmp_path, "npz:good.npz", transfer="npz:good.npz", overlap="report"), scenario
    )
    assert own.classes == 3
    assert own.tensors(own.shards[0])[1].abs().max() < 1
    with pytest.raises(InputError, match="y lacks 3 values"):
        build_own("a", Sources(tmp_path, "npz:bad.npz"), scenario)


def test_an_exported_model_predicts_in_units(tmp_path: Path) -> None:
    ranges = "data.targets=[[-200, 200], [-200, 200], [-200, 200]]"
    scenario = described("regression", "fedmd", ranges, "rounds=4", "clients.local.epochs=10")
    result = fedkt.simulate(scenario, out=tmp_path / "run", progress=False)
    model = fedkt.load_model(export(result.path, "0", tmp_path / "model"))
    x, y = rows("regression")
    error = (model(x)[1] - torch.from_numpy(y)).square().mean().sqrt().item()
    assert model.task.name == "regression"
    assert error < y.std()


def test_names_of_labels_come_with_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fedkt.cli.scenario_view import show_scenario

    x, y = rows("multilabel")
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, label_names=np.array(["red", "green", "blue"]))
    world = checked_world(described("multilabel", "fedmd", "data.dataset=npz:d.npz"), tmp_path)
    assert world.federation.label_names == ("red", "green", "blue")
    show_scenario(world, tmp_path)
    told = capsys.readouterr().out
    assert "task: multilabel, 3 labels, each there or not" in told
    assert "training rows of each rarest label" in told
