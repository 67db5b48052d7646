"""A model of the server's own: what it learns, what is refused, and that a resume goes on with it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import fedkt
from fedkt import registry
from fedkt.client import Steps
from fedkt.client.state import DiskStore
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Dims
from fedkt.models import Net
from fedkt.results.folder import read_rows
from fedkt.scenario import Scenario, from_dict
from fedkt.strategies.fedmd import FedMD, FedMDConfig
from fedkt.strategies.knfu import KnFu, KnFuConfig
from fedkt.strategy import Fused, Setting, Strategy
from fedkt.strategy.fusing.server_model import build, lesson

STEPS = Steps(1, 2, "sgd", 0.1)
TABLE = InputSpec("tabular", (2,), 0)
X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def scenario(name: str, **more: Any) -> Scenario:
    return from_dict(
        {
            "name": "server",
            "data": {"partition": {"clients": 3, "samples_per_client": 30}, "transfer": {"size": 40}},
            "clients": {"models": [{"name": "mlp", "width": 8}], "local": {"epochs": 1}},
            "strategy": {"name": name},
            "server_model": {"model": {"name": "mlp", "width": 12}, "distill": {"epochs": 2}},
            "rounds": 2,
            "engine": {"kind": "inline"},
            **more,
        }
    )


def begin(kind: Any, config: Any) -> Any:
    dims = {str(i): Dims(3, 3, 2, 8) for i in range(2)}
    federation: Any = SimpleNamespace(transfer=X, server_tensors=lambda _: (X, None))
    return kind(config, Setting(scenario("knfu"), "run", dims, "", TABLE, federation))


def test_it_learns_the_common_teacher() -> None:
    strategy = begin(FedMD, FedMDConfig())
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0], [1.0, 1.0]])
    phase = strategy.server_lesson(Fused({"values": logits}))
    assert torch.equal(phase.rows["x"], X)
    assert torch.equal(phase.rows["target"], logits)
    assert phase.steps.epochs == 2
    # Mean absolute error, the method's own loss: features and logits of a model that says (1, 1).
    found = phase.loss(lambda x: (x, torch.ones(3, 2)), phase.rows, {})
    assert found.tolist() == [1.5, 1.5, 0.0]  # (1 + 2)/2, (1 + 2)/2, 0


def test_it_learns_the_mean_of_personal_teachers_on_the_rows_asked_for() -> None:
    strategy = begin(KnFu, KnFuConfig())
    strategy.course.rows = torch.tensor([0, 2], dtype=torch.int32).numpy()
    teachers = torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.5, 0.5], [0.3, 0.7]]])
    phase = strategy.server_lesson(Fused({"values": teachers}, personal=True))
    assert torch.equal(phase.rows["x"], X[[0, 2]])
    # (1 + .5)/2, (.5 + .3)/2; log-probabilities stand for them.
    assert phase.rows["target"].exp().flatten().tolist() == pytest.approx([0.75, 0.25, 0.4, 0.6])


def test_beliefs_stand_for_teachers_that_hold_no_probabilities() -> None:
    strategy = begin(KnFu, KnFuConfig())
    beliefs = torch.tensor([[0.9, 0.1], [0.0, 0.0], [0.2, 0.8]])
    phase = strategy.server_lesson(Fused({"labels": torch.tensor([0, -1, 1])}, beliefs=beliefs))
    # Nobody knows about the second row: it is left out.
    assert torch.equal(phase.rows["x"], X[[0, 2]])
    assert phase.rows["target"].exp().flatten().tolist() == pytest.approx([0.9, 0.1, 0.2, 0.8])


def test_a_student_goes_on_from_its_state() -> None:
    settings = {"loss": "kl", "temperature": 1.0}
    steps = Steps(1, 2, "adam", 0.1)
    phase = lesson(X, torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]), settings, steps, logits=False)
    straight, stopped = (build({"name": "mlp", "width": 4}, TABLE, 2, 0) for _ in range(2))
    untrained = stopped.predict(X)
    for number in (1, 2):
        straight.fit(phase, 0, number)
    stopped.fit(phase, 0, 1)
    resumed = build({"name": "mlp", "width": 4}, TABLE, 2, 0)
    resumed.load(stopped.state())
    resumed.fit(phase, 0, 2)
    assert torch.equal(straight.predict(X), resumed.predict(X))
    assert not torch.equal(straight.predict(X), untrained)


def test_its_accuracy_is_reported_and_survives_a_resume(tmp_path: Path) -> None:
    straight = fedkt.simulate(scenario("dsfl"), out=tmp_path / "a")
    rows = read_rows(tmp_path / "a" / "rounds.jsonl")
    assert straight.summary["accuracy"]["server"] == rows[-1]["accuracy"]["server"]
    assert all(0 <= row["accuracy"]["server"] <= 1 for row in rows)
    # Interrupted after the first round: the second one's checkpoint and lines are gone.
    fedkt.simulate(scenario("dsfl"), out=tmp_path / "b")
    (tmp_path / "b" / "checkpoint" / "round-000002.safetensors").unlink()
    again = fedkt.simulate(scenario("dsfl"), out=tmp_path / "b", resume=True)
    assert again.summary["accuracy"] == straight.summary["accuracy"]
    one = fedkt.simulate(scenario("dsfl", server_model=None), out=tmp_path / "c")
    assert one.summary["accuracy"]["server"] is None
    # It changes nothing for the clients.
    for name in ("personal_mean", "global_mean"):
        assert one.summary["accuracy"][name] == straight.summary["accuracy"][name]


@pytest.mark.parametrize("name", registry.names("strategies"))
def test_who_can_teach_none_says_why(name: str) -> None:
    strategy: type[Strategy] = registry.find("strategies", name)
    why = strategy.no_server_model()
    if why is None:
        assert strategy.needs_transfer or strategy.serve is not Strategy.serve
        return
    with pytest.raises(InputError) as raised:
        checked_world(scenario(name, allow=["weights", "features"]))
    assert f"strategy '{name}' can teach no server model, since {why};" in str(raised.value)


# Running statistics -----------------------------------------------------------------------------


def normed(input: InputSpec, classes: int) -> Net:
    """Return a model whose running statistics decide what it says."""
    size = 1
    for extent in input.shape:
        size *= extent
    features = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(size), nn.Linear(size, 8), nn.ReLU())
    return Net(features, nn.Linear(8, classes), 8)


@pytest.mark.parametrize("name", ["fedavg", "feddf", "fedgen", "fedka_weights"])
def test_running_statistics_are_weights(name: str, tmp_path: Path) -> None:
    """One model for all: what the server measures of it is what each client measures."""
    made = scenario(name, server_model=None, allow=["weights"], clients={"models": [f"{__name__}:normed"]})
    run = fedkt.simulate(made, out=tmp_path / "run")
    last = [row["global"] for row in read_rows(tmp_path / "run" / "clients.jsonl") if row["round"] == 2]
    assert last == [pytest.approx(run.summary["accuracy"]["server"])] * 3
    held = DiskStore(tmp_path / "run" / "checkpoint" / "clients").load("0", below=99)
    assert held is not None
    key = "model/features.1.running_mean"
    assert held.tensors[key].abs().max() > 0.1  # digits are not of mean 0, where it began


def test_a_server_s_running_statistics_are_resumed(tmp_path: Path) -> None:
    """By hand: of 1 and 3 with momentum 0.1 the running mean is 0.2, the variance 0.9 + 0.1 · 2."""
    student = build(f"{__name__}:normed", InputSpec("tabular", (1,), 0), 2, 0)
    student.module.train()
    student.module(torch.tensor([[1.0], [3.0]]))
    again = build(f"{__name__}:normed", InputSpec("tabular", (1,), 0), 2, 1)
    again.load(student.state())
    held = again.module.state_dict()
    assert held["features.1.running_mean"].item() == pytest.approx(0.2)
    assert held["features.1.running_var"].item() == pytest.approx(1.1)
    assert held["features.1.num_batches_tracked"].item() == 1
