"""Training on turned images whose turn is a part of their label."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt.client import Fit, Steps, classification
from fedkt.client.lessons.views import aggregated, attach, augmented, with_views
from fedkt.client.training import ModuleForward, fit, tensors_of
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.results.export import export
from fedkt.scenario import from_dict, to_dict


def test_what_views_say_together_by_hand() -> None:
    """View 0: (2, 0), (0, 1) by class and turn; view 1: (1, 0), (0, 3). Means 1, 1.5; P (.3775, .6225)."""
    joint = torch.tensor([[[[2.0, 0.0], [0.0, 1.0]]], [[[1.0, 0.0], [0.0, 3.0]]]])
    assert torch.allclose(aggregated(joint), torch.tensor([[0.3775, 0.6225]]), atol=1e-4)


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), self.head(x.flatten(1))


def test_the_loss_is_that_of_the_formula() -> None:
    torch.manual_seed(0)
    net = Flat()
    attach(net, 4, 2)
    x, y = torch.randn(3, 1, 2, 2), torch.tensor([0, 1, 1])
    joint = [net.get_submodule("views")(torch.rot90(x, j, (2, 3)).flatten(1)) for j in range(4)]
    ce = torch.nn.functional.cross_entropy
    means = torch.stack([ce(joint[j], 4 * y + j, reduction="none") for j in range(4)]).mean(0)
    told = torch.stack([joint[j].view(3, 2, 4)[:, :, j] for j in range(4)]).mean(0).softmax(-1)
    own = net.head(x.flatten(1))
    apart = (told * (told.log() - own.log_softmax(-1))).sum(-1)
    loss = with_views(ModuleForward(net), {"x": x, "y": y}, {})
    assert torch.allclose(loss, means + ce(own, y, reduction="none") + apart, atol=1e-6)
    # One record is one row: its gradient is that of all its views.
    assert loss.shape == (3,)


def test_only_the_model_s_own_loss_is_augmented() -> None:
    rows = {"x": torch.ones(4, 1, 2, 2), "y": torch.zeros(4, dtype=torch.int64)}
    phase = Fit("train", rows, classification, Steps(1, 2, "sgd", 0.1), private=True)
    net = Flat()
    attach(net, 4, 2)
    before = tensors_of(net)
    fit(net, augmented(phase), {}, seed=0, client="0", round_=1)
    assert not torch.equal(before["views.weight"], tensors_of(net)["views.weight"])
    with pytest.raises(ValueError, match="only plain classification"):
        augmented(augmented(phase))


def scenario(strategy: str = "dwc", **more: Any) -> Any:
    return from_dict(
        {
            "name": "views",
            "data": {"partition": {"clients": 2, "samples_per_client": 20}, "transfer": {"size": 30}},
            "clients": {
                "models": [{"name": "mlp", "width": 8, "hidden": [8]}],
                "local": {"epochs": 1, "augment": "rotations"},
            },
            "strategy": {"name": strategy},
            "rounds": 1,
            "engine": {"kind": "inline", **more},
        }
    )


def test_a_run_and_who_cannot(tmp_path: Path) -> None:
    one = fedkt.simulate(scenario(), out=tmp_path / "one")
    many = fedkt.simulate(scenario(cohort=2), out=tmp_path / "many")
    assert one.clients["global"].tolist() == pytest.approx(many.clients["global"].tolist(), abs=0.02)
    export(tmp_path / "one", "0", out=tmp_path / "model")
    for name in ("fd", "fedproto", "fedavg", "central"):
        with pytest.raises(InputError, match="belongs to plain classification"):
            checked_world(from_dict({**to_dict(scenario(name)), "allow": ["weights"]}))
