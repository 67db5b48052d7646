"""What is mixed into a teacher, what of it gives way, and a head that all have alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt.client.behaviour import Fit, Others, Steps, classification
from fedkt.client.lessons.snapshot import Before, mixed, reminded
from fedkt.client.state import DiskStore
from fedkt.client.training import fit
from fedkt.distill.conflict import reconciled
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.models.heads.frozen_head import directions_of
from fedkt.results.observer import Silent
from fedkt.scenario import from_dict

PROBABILITIES = {"form": "probabilities", "temperature": 1.0}


def scenario(**more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": "small",
        "data": {
            "partition": {"kind": "iid", "clients": 2, "samples_per_client": 30},
            "transfer": {"from": "train", "size": 20},
        },
        "clients": {"models": [{"name": "mlp", "hidden": [], "width": 12}], "local": {"epochs": 1}},
        "strategy": {"name": "fedmd", "average": "probabilities"},
        "rounds": 2,
        "engine": {"kind": "inline"},
    }
    for path, value in more.items():
        *parts, last = path.split("__")
        at = made
        for part in parts:
            at = at.setdefault(part, {})
        at[last] = value
    return made


def test_half_of_a_teacher_is_the_clients_own() -> None:
    own = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]).log()
    told = {"values": torch.tensor([[0.7, 0.3], [0.0, 0.0]]), "rows": torch.tensor([1, 2], dtype=torch.int32)}
    both = mixed(told, own, 0.5, PROBABILITIES)
    torch.testing.assert_close(both["values"], torch.tensor([[0.45, 0.55], [0.0, 0.0]]))
    logits = mixed(
        {"values": told["values"][:1].log(), "rows": told["rows"][:1]}, own, 0.25, {"form": "logits"}
    )
    # .75 x (.7, .3) + .25 x (.2, .8)
    torch.testing.assert_close(logits["values"].softmax(-1), torch.tensor([[0.575, 0.425]]))


def test_a_teacher_of_another_round_than_the_answers_is_left_as_it_is() -> None:
    told, own = {"values": torch.tensor([[0.7, 0.3]])}, torch.tensor([[0.2, 0.8]]).log()
    how = {**PROBABILITIES, "snapshot": 0.5}
    for made, first in ((3, 0.45), (4, 0.7)):
        found = reminded(told, how, Before(own, 3), made)
        assert found["values"][0, 0].item() == pytest.approx(first)


def test_a_state_keeps_what_was_said_before(tmp_path: Path) -> None:
    run = fedkt.simulate(scenario(clients__distill__snapshot=0.5), out=tmp_path / "run", observer=Silent())
    state = DiskStore(run.path / "checkpoint" / "clients").load("0", 99)
    assert state is not None
    assert state.tensors["before/logits"].shape == (20, 10)
    assert state.note["before"] == 2
    plain = fedkt.simulate(scenario(), out=tmp_path / "plain", observer=Silent())
    other = DiskStore(plain.path / "checkpoint" / "clients").load("0", 99)
    assert other is not None
    assert not any(name.startswith("before") for name in other.tensors)


@pytest.mark.parametrize(
    ("taught", "least", "expected"),
    [
        ([-2.0, 3.0], 0.0, [0.0, 3.0]),  # cosine -.55: the part against (1, 0) goes
        ([-2.0, 3.0], -0.6, [-2.0, 3.0]),  # agreement is asked for from -.6 on only
        ([2.0, 3.0], 0.0, [2.0, 3.0]),
        ([2.0, 3.0], 1.0, [2.0, 3.0]),  # it does not point against it
    ],
)
def test_what_a_teacher_asks_against_private_rows_is_taken_off(
    taught: list[float], least: float, expected: list[float]
) -> None:
    found = reconciled(torch.tensor([1.0, 0.0]), torch.tensor(taught), least)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_joint_step_projects_layer_by_layer() -> None:
    """One step of SGD with rate 1 on w, whose private gradient is a and whose other is b."""
    net = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.zeros_(net.weight)

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, self.inner(x)

    def loss(net: Any, batch: Any, constants: Any) -> torch.Tensor:
        logits: torch.Tensor = net(batch["x"])[1]
        return logits.squeeze(-1)

    x = torch.tensor([[2.0, 0.0], [-4.0, 6.0]])  # mean over two rows: (1, 0) and (-2, 3)
    steps = Steps(1, 1, "sgd", 1.0)
    phase = Fit("train", {"x": x}, loss, steps, others=Others(1, 1), project=0.0)
    fit(Both(), phase, {}, seed=0, client="0", round_=1)
    torch.testing.assert_close(net.weight.detach(), torch.tensor([[-1.0, -3.0]]))


def test_a_common_head_is_the_same_for_all_and_never_trained(tmp_path: Path) -> None:
    models = [{"name": "mlp", "width": 12, "common_head": "random-orthogonal"}, {"name": "cnn", "width": 12}]
    models[1]["common_head"] = "random-orthogonal"
    world = checked_world(from_dict(scenario(clients__models=models)))
    first, second = (world.net(client) for client in "01")
    assert torch.equal(first.head.directions, second.head.directions)  # type: ignore[arg-type]
    rows = {"x": world.holding("0").x, "y": world.holding("0").y}
    fit(
        first, Fit("train", rows, classification, Steps(2, 8, "adam", 0.01)), {}, seed=0, client="0", round_=1
    )
    assert torch.equal(first.head.directions, second.head.directions)  # type: ignore[arg-type]
    assert first.head.scale.item() != 10.0  # type: ignore[operator]
    z = torch.tensor([[3.0, 4.0]])
    head = second.head
    head.directions = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    torch.testing.assert_close(head(z).detach(), torch.tensor([[8.0, 6.0]]))


def test_directions_come_from_a_file_that_fits(tmp_path: Path) -> None:
    np.save(tmp_path / "names.npy", np.array([[3.0, 4.0], [0.0, 2.0]]))
    found = directions_of(str(tmp_path / "names.npy"), 2, 2)
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    with pytest.raises(InputError, match=r"holds an array of shape \[2, 2\]; .* \[3, 2\]"):
        directions_of(str(tmp_path / "names.npy"), 3, 2)
    with pytest.raises(InputError, match="was not found"):
        directions_of("nowhere.npy", 3, 2)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"strategy": {"name": "cfd"}, "clients__distill__snapshot": 0.5},
            "those of strategy 'cfd' are quantised",
        ),
        ({"clients__distill__project": 0.0}, "clients.distill.project is about joint steps"),
    ],
)
def test_what_has_no_lesson_to_change_is_told(more: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as error:
        checked_world(from_dict(scenario(**more)))
    assert any(told in problem for problem in error.value.problems), error.value.problems
