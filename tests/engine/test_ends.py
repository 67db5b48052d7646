"""How runs end: the same on every engine, in one sentence with its remedy, and nothing lost.

Fifty rows a client of two columns, three clients; ``Trouble`` makes what is named by TROUBLE happen.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt import models
from fedkt.client import Arrays, Fit, Forward
from fedkt.client.behaviour import Steps
from fedkt.client.training import all_finite, batch_order, fit
from fedkt.clients.logits import LogitsClient
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.clients.stack import Stack, Unstackable
from fedkt.errors import Diverged, InputError, RunError
from fedkt.knowledge import Knowledge
from fedkt.models.net import Net, mixes_rows
from fedkt.results.observer import Silent
from fedkt.strategies.fedmd import FedMD
from fedkt.strategy import Contributions, Fused

TABLE = InputSpec("tabular", (2,))


def rows() -> Any:
    """Two columns, two classes, three sites of 50 rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 150)
    x = (rng.normal(0, 0.5, (150, 2)) + 2 * np.eye(2)[y]).astype(np.float32)
    return x, y, np.repeat(["a", "b", "c"], 50)


def rows_with_one_alone() -> Any:
    """As :func:`rows`, and a site of a single row."""
    x, y, sites = rows()
    return x, y, np.r_[sites[:149], ["d"]]


def raises() -> Any:
    """A data set that is not there."""
    raise FileNotFoundError("no such disk")


class Normalises(nn.Module):
    """Statistics over a batch in a layer of one's own, whose single row would become NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / x.std(0)


def batch_norm(input: InputSpec, classes: int) -> Net:
    return Net(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU()), nn.Linear(4, classes), 4)


def own_norm(input: InputSpec, classes: int) -> Net:
    return Net(nn.Sequential(nn.Linear(2, 4), Normalises()), nn.Linear(4, classes), 4)


def scalar_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return (student - teacher).square().mean()


def raising_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    raise ZeroDivisionError("by nothing")


def infinite(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    return net(batch["x"])[1].sum(-1) * float("inf")


def summed(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    return net(batch["x"])[1].sum()


class Trouble(LogitsClient):
    """Client b meets what the environment names."""

    def _here(self, what: str) -> bool:
        return self.holding.client == "b" and self.holding.settings["trouble"] == what

    def train(self, teacher: Arrays | None) -> Fit:
        if self._here("exit"):
            sys.exit("enough")
        if self._here("memory"):
            raise MemoryError("1000 GB for row 7 of Alice")
        phase = super().train(teacher)
        losses = {"diverges": infinite, "scalar": summed}
        return replace(phase, loss=next((f for name, f in losses.items() if self._here(name)), phase.loss))

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        if self._here("extract"):
            raise KeyError("Alice")
        return super().extract(features, logits * (1e6 if self._here("range") else 1), params)

    def digest(self, teacher: Arrays) -> Fit:
        if self._here("digest"):
            raise KeyError("Alice")
        return super().digest(teacher)

    def predictors(self, features: Tensor, logits: Tensor, teacher: Arrays) -> dict[str, Tensor]:
        if self._here("evaluate"):
            raise KeyError("Alice")
        return {}


class Troubled(FedMD):
    """FedMD whose client b is in trouble."""

    client = f"{__name__}:Trouble"

    class Config(FedMD.Config):
        trouble: str = "none"

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        return super().settings(config) | {"trouble": config.trouble}

    def fuse(self, contributions: Contributions) -> Fused:
        if self.config.trouble == "fuse" and self.round == BROKEN[0]:
            raise ZeroDivisionError("by nothing")
        return super().fuse(contributions)


BROKEN = [2]
"""The round in which fusion fails; none after a repair."""

SMALL: dict[str, Any] = {
    "name": "ends",
    "data": {"dataset": f"{__name__}:rows", "partition": {"kind": "domain"}}
    | {"transfer": {"from": "train", "size": 12}},
    "clients": {
        "models": [{"name": "mlp", "hidden": [], "width": 4}],
        "local": {"epochs": 1},
        "distill": {"epochs": 1},
    },
    "strategy": {"name": f"{__name__}:Troubled"},
    "rounds": 2,
    "engine": {"kind": "inline", "cohort": "off"},
    "allow": ["weights"],
}


class Listener(Silent):
    """Keeps what a person would be told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def noted(self, text: str) -> None:
        self.heard.append(text)


def run(out: Path, *overrides: str, resume: bool = False, observer: Any = None) -> Any:
    from fedkt.engine.runs.run import simulate

    scenario = fedkt.load_scenario(SMALL, overrides)
    return simulate(scenario, out=out, resume=resume, observer=observer)


def counted(result: Any) -> Mapping[str, int]:
    return {name: n for name, n in result.summary["replies"].items() if n}


# ---- a failing client

TOLD = {
    "extract": "client b, round 1, stage extract: KeyError",
    "exit": "client b, round 1, stage train: SystemExit",
    "scalar": "client b, round 1, stage train: ValueError",
    "memory": "client b ran out of memory in round 1, stage train; lower clients.local.batch_size or take a "
    "smaller model.",
    "diverges": "client b's model is no longer finite after training in round 1; lower clients.local.lr or "
    "set data.standardise.",
    "range": "the values that client b would send in round 1 leave their range, at most [-10000, 10000]; "
    "lower clients.local.lr or set data.standardise.",
}


@pytest.mark.parametrize("trouble", TOLD)
def test_a_failure_costs_the_reply_and_is_told(tmp_path: Path, trouble: str) -> None:
    listener = Listener()
    result = run(tmp_path / "run", f"strategy.trouble={trouble}", observer=listener)
    assert counted(result) == {"accepted": 4, "failed": 2}
    assert result.summary["failures"] == {"b": TOLD[trouble]}
    lines = [line for line in listener.heard if line.startswith("failed: ")]
    assert len(lines) == 1 and lines[0].startswith(f"failed: {TOLD[trouble].rstrip('.')}")
    # What may quote data is not in the reply, but in the client's own file; and there to be read here.
    assert "Alice" not in (tmp_path / "run/clients.jsonl").read_text()
    assert "Traceback" in (tmp_path / "run/checkpoint/clients/b/failure.txt").read_text()
    if trouble == "extract":
        # Where in the user's own code, and where all of it is.
        file = tmp_path / "run/checkpoint/clients/b/failure.txt"
        said, where = lines[0].split(" (test_ends.py:")
        assert said == f"failed: {TOLD[trouble]}: 'Alice'"
        assert where.endswith(f", in {trouble}); the traceback is in {file}.")
        assert "ends.py:" not in (tmp_path / "run/summary.json").read_text()


def test_a_failing_evaluation_costs_the_metrics_alone(tmp_path: Path) -> None:
    result = run(tmp_path / "run", "strategy.trouble=evaluate")
    assert result.summary["failures"] == {"b": "client b, round 1, stage evaluate: KeyError"}
    assert counted(result) == {"accepted": 6}
    last = result.clients[result.clients["round"] == 2].set_index("client")
    assert last.loc[["a", "c"], "global"].notna().all() and np.isnan(last.loc["b", "global"])


def test_a_teacher_that_could_not_be_digested_comes_again(tmp_path: Path) -> None:
    result = run(tmp_path / "run", "strategy.trouble=digest")
    assert result.summary["failures"] == {"b": "client b, round 1, stage digest: KeyError"}
    assert counted(result) == {"accepted": 5, "failed": 1}  # with the second round's training
    (of_b,) = result.clients[(result.clients["client"] == "b") & (result.clients["round"] == 2)]["detail"]
    assert of_b == "client b, round 2, stage digest: KeyError"


def test_an_evaluation_of_nobody_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr("fedkt.tasks.scoring.evaluate", broken)
    words = "every client failed in round 1; the first: client a, round 1, stage evaluate: ZeroDivisionError"
    own = r"on purpose \(test_ends.py:\d+, in broken\)"
    with pytest.raises(RunError, match=f"^{words}: {own}; its traceback is in ") as caught:
        run(tmp_path / "run")
    error = tmp_path / "run/error.txt"
    assert str(caught.value).endswith(f"{error}.")
    assert "Traceback" in error.read_text() and 'ZeroDivisionError("on purpose")' in error.read_text()


# ---- models that diverge

LOST = "every client failed in round 1; the first: client a's model is no longer finite after training in "


@pytest.mark.parametrize("strategy", ["local", "cfd", "fd", "fedavg", "fedproto", "knfu"])
def test_diverged_models_end_the_run_in_one_sentence(tmp_path: Path, strategy: str) -> None:
    big = ["clients.local.optimizer=sgd", "clients.local.lr=1e+30", "data.standardise=true"]
    with pytest.raises(Diverged) as caught:
        run(tmp_path / "run", f"strategy={{name: {strategy}}}", *big)
    where = tmp_path / "run" / "error.txt"
    assert str(caught.value) == f"{LOST}round 1; lower clients.local.lr; its traceback is in {where}."


def test_one_diverged_model_of_a_cohort_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", "strategy.trouble=none", "strategy={name: local}", "rounds=1")
    whole = run(tmp_path / "cohort", "strategy.trouble=diverges", "engine.cohort=3", "rounds=1")
    assert counted(whole) == {"accepted": 2, "failed": 1}
    assert whole.summary["failures"] == {"b": TOLD["diverges"]}
    before = {row["client"]: row["global"] for row in alone.clients.to_dict("records")}
    after = {row["client"]: row["before_digest"] for row in whole.clients.to_dict("records")}
    assert after["a"] == pytest.approx(before["a"]) and after["c"] == pytest.approx(before["c"])


def test_a_diverged_distillation_names_its_own_rate(tmp_path: Path) -> None:
    with pytest.raises(Diverged) as caught:
        run(
            tmp_path / "run",
            "clients.distill.optimizer=sgd",
            "clients.distill.lr=1e+35",
            "clients.distill.epochs=9",
            "clients.distill.loss=mse",
        )
    words = "client a's model is no longer finite after distillation in round 1; lower clients.distill.lr"
    assert words in str(caught.value)


SERVERS = {
    "{name: feddf, lr: 1e+30}": "the server's model 'student' is no longer finite after training in round 1; "
    "lower strategy.lr.",
    "{name: dsfl, era_temperature: 1e-40}": "the teacher of strategy 'dsfl' is not finite in round 1; change "
    "strategy.era_temperature (1e-40).",
    "{name: fedtgp, lr: 1e+30}": "the server's model 'tgp' is no longer finite after training in round 1; "
    "lower strategy.lr.",
}


@pytest.mark.parametrize("strategy", SERVERS)
def test_a_servers_own_divergence_names_the_setting(tmp_path: Path, strategy: str) -> None:
    with pytest.raises(Diverged) as caught:
        run(tmp_path / "run", f"strategy={strategy}")
    assert str(caught.value) == SERVERS[strategy]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["server_model={model: mlp, distill: {optimizer: sgd, lr: 1e+35, epochs: 9, loss: mse}}"],
            "the server's model 'server' is no longer finite after training in round 1; lower "
            "server_model.distill.lr.",
        ),
        (
            ["strategy={name: central}", "clients.local.lr=1e+30", "clients.local.optimizer=sgd"],
            "the server's model 'central' is no longer finite after training in round 1; lower "
            "clients.local.lr.",
        ),
    ],
)
def test_so_does_that_of_a_model_beside_the_method(tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(Diverged) as caught:
        run(tmp_path / "run", *overrides)
    assert str(caught.value) == words


def test_finite_is_told_for_many_tensors_at_once() -> None:
    ones, ids = torch.ones(2, 2), torch.tensor([3])
    assert all_finite([]) and all_finite([ids]) and all_finite([ones, ids, torch.tensor([3e38, -3e38])])
    for bad in (float("nan"), float("inf"), -float("inf")):
        assert not all_finite([torch.tensor([1.0, bad]), ones]) and not all_finite(
            [ones, torch.tensor([bad])]
        )


# ---- a strategy that fails


def test_a_strategy_that_fails_loses_no_round(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "strategy.trouble=fuse", "rounds=1")
    with pytest.raises(RunError) as caught:
        run(tmp_path / "run", "strategy.trouble=fuse")
    error = tmp_path / "run" / "error.txt"
    said, where = str(caught.value).split(" (test_ends.py:")
    failed = f"strategy '{__name__}:Troubled' failed at the server in round 2"
    assert said == f"{failed}: ZeroDivisionError: by nothing"
    assert where.endswith(f", in fuse); the traceback is in {error}.")
    assert "in fuse" in error.read_text()
    (first,) = (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()
    assert json.loads(first)["accuracy"] == whole.summary["accuracy"]
    BROKEN[0] = 0
    try:
        again = run(tmp_path / "run", "strategy.trouble=fuse", resume=True)
        never = run(tmp_path / "never", "strategy.trouble=fuse")
    finally:
        BROKEN[0] = 2
    assert again.summary["accuracy"] == never.summary["accuracy"] and counted(again) == {"accepted": 6}


# ---- batches of one


def sizes(size: int, batch: int, **more: Any) -> list[int]:
    steps = Steps(1, batch, "sgd", 0.1, **more)
    return [len(index) for index in batch_order(size, steps, np.random.default_rng(0), pairs=True)]


def test_a_last_row_joins_the_batch_before_it() -> None:
    assert sizes(97, 32) == [32, 32, 33]
    assert sizes(98, 32) == [32, 32, 32, 2]
    assert sizes(65, 64) == [65]
    assert sizes(3, 2) == [3]
    assert sizes(5, 2, batches=5) == [2, 3, 2, 3, 2]
    assert sizes(2, 32) == [2]
    steps = Steps(1, 32, "sgd", 0.1)
    plain = [len(index) for index in batch_order(97, steps, np.random.default_rng(0))]
    assert plain == [32, 32, 32, 1]  # other models keep their batches, and their bits
    for size, batch in ((1, 32), (4, 1)):
        with pytest.raises(ValueError, match=f"here are {size} rows in batches of {batch}"):
            sizes(size, batch)


def test_models_that_mix_rows_are_found_whatever_they_are_called() -> None:
    names = (f"{__name__}:batch_norm", f"{__name__}:own_norm", "mlp")
    built = [models.build(name, TABLE, 2, 0) for name in names]
    assert [net.mixes_rows for net in built] == [True, True, False]
    group = Net(nn.Sequential(nn.Linear(2, 4), nn.GroupNorm(2, 4), nn.Dropout(0.5)), nn.Linear(4, 2), 4)
    assert not mixes_rows(group, TABLE)
    tokens = Net(nn.Sequential(nn.Embedding(9, 4), nn.Flatten()), nn.Linear(12, 2), 12)
    assert not mixes_rows(tokens, InputSpec("tokens", (3,), 9))
    with pytest.raises(Unstackable, match="normalises over the rows of a batch"):
        Stack(built[1])  # padded rows would count in its statistics


@pytest.mark.parametrize("model", ["batch_norm", "own_norm"])
def test_such_a_model_trains_on_any_number_of_rows(tmp_path: Path, model: str) -> None:
    # 38, 40 or 42 rows a client are left: 37, 39 or 41 in a batch leave one.
    sizes_ = [f"clients.local.batch_size={n}" for n in (3, 13)]
    for i, size in enumerate(sizes_):
        result = run(tmp_path / str(i), f"clients.models=['{__name__}:{model}']", size, "rounds=1")
        assert counted(result) == {"accepted": 3} and result.summary["failures"] == {}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["clients.local.batch_size=1"], "clients.local.batch_size is 1, but model '{}' takes statistics"),
        (["clients.distill.batch_size=1"], "clients.distill.batch_size is 1, but model '{}' takes"),
        (
            [f"data.dataset='{__name__}:rows_with_one_alone'"],
            "client d has 1 row (clients.local.batch_size is 32), but model '{}' takes statistics",
        ),
    ],
)
def test_a_batch_of_one_is_refused_before_the_first_round(
    tmp_path: Path, overrides: list[str], words: str
) -> None:
    name = f"{__name__}:batch_norm"
    with pytest.raises(InputError) as caught:
        run(tmp_path / "run", f"clients.models=['{name}']", "strategy={name: fd}", *overrides)
    assert words.format(name) in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_private_training_refuses_a_layer_of_ones_own_that_mixes_rows(tmp_path: Path) -> None:
    name = f"{__name__}:own_norm"
    privacy = "privacy={mode: dpsgd, noise_multiplier: 2, delta: 1e-5, max_epsilon: 80}"
    with pytest.raises(InputError, match="depends on the other rows of its batch, so private training"):
        run(tmp_path / "run", f"clients.models=['{name}']", "strategy={name: fedmd}", privacy)


# ---- a client with one row


@pytest.mark.parametrize("strategy", ["fd", "local", "fedproto", "fedavg"])
def test_a_client_with_one_row_trains_on_it_and_is_measured_by_the_others(
    tmp_path: Path, strategy: str
) -> None:
    data = f"data.dataset='{__name__}:rows_with_one_alone'"
    result = run(tmp_path / "run", data, "data.transfer=null", f"strategy={{name: {strategy}}}")
    assert counted(result) == {"accepted": 8} and result.summary["failures"] == {}
    last = result.clients[result.clients["round"] == 2].set_index("client")
    assert np.isnan(last.loc["d", "personal"]) and last["global"].notna().all()


def test_a_site_with_one_row_keeps_it_too(tmp_path: Path) -> None:
    from fedkt.data.own import Sources, build_own

    np.savez(tmp_path / "one.npz", x_train=np.ones((1, 2), np.float32), y_train=np.array([1]))
    scenario = fedkt.load_scenario(SMALL | {"data": {"dataset": "digits"}})
    own = build_own("d", Sources(tmp_path, "npz:one.npz", classes=2), scenario)
    (shard,) = own.shards
    assert shard.rows.tolist() == [0] and shard.test is None and shard.share.tolist() == [0.0, 1.0]


# ---- plug-ins that are wrong are refused before anything runs


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            f"clients.distill.loss='{__name__}:scalar_loss'",
            f"loss '{__name__}:scalar_loss' returns a value of shape [] for 2 rows; it must return one value "
            "per row, [2], whose mean is taken later.",
        ),
        (
            f"clients.distill.loss='{__name__}:raising_loss'",
            f"loss '{__name__}:raising_loss' fails on made rows: ZeroDivisionError: by nothing; it must be a "
            "function (student, teacher, temperature) of scores [B, classes].",
        ),
        (
            f"data.dataset='{__name__}:raises'",
            f"data set '{__name__}:raises' cannot be made: FileNotFoundError: no such disk (test_ends.py:",
        ),
    ],
)
def test_wrong_plug_ins_are_refused(tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        run(tmp_path / "run", override)
    assert words in str(caught.value) and not (tmp_path / "run").exists()


def test_a_loss_without_a_value_per_row_trains_nothing() -> None:
    phase = Fit("train", {"x": torch.ones(4, 2)}, summed, Steps(1, 4, "sgd", 0.1))
    with pytest.raises(
        ValueError, match=r"the loss has shape \[\]; it must be one value per row, here \[4\]"
    ):
        fit(models.build("mlp", TABLE, 2, 0), phase, {}, seed=0, client="a", round_=1)


# ---- every engine


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "flower"])
def test_every_engine_ends_alike(tmp_path: Path, engine: str) -> None:
    kind = f"engine={{kind: {engine}, workers: 1, cohort: off}}"
    for trouble in ("extract", "diverges", "exit"):
        one = run(tmp_path / f"inline-{trouble}", f"strategy.trouble={trouble}")
        other = run(tmp_path / f"{engine}-{trouble}", f"strategy.trouble={trouble}", kind)
        for part in ("replies", "failures", "accuracy"):
            assert one.summary[part] == other.summary[part]
    with pytest.raises(RunError, match="failed at the server in round 2: ZeroDivisionError: by nothing"):
        run(tmp_path / "fuse", "strategy.trouble=fuse", kind)
    with pytest.raises(Diverged, match="the teacher of strategy 'dsfl' is not finite in round 1"):
        run(tmp_path / "server", "strategy={name: dsfl, era_temperature: 1e-40}", kind)
    with pytest.raises(Diverged, match=LOST):
        run(tmp_path / "all", "strategy={name: local}", "clients.local={optimizer: sgd, lr: 1e+30}", kind)
