"""FD with a learned ratio: the numbers of the recipe, and the gradient that the published script lacks."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt.client.training import ModuleForward
from fedkt.clients.class_logits_ratio import (
    NET,
    ClassLogitsRatioClient,
    ahead,
    ratio_of,
    shared_out,
    state_of,
)
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.scenario import from_dict


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.head(x)


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    tiny = Tiny()
    ClassLogitsRatioClient.attach(tiny, 2)
    return tiny


def rows(n: int, seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(n, 2, generator=draw), "y": torch.arange(n) % 3}


TABLE = {
    "values": torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]),
    "counts": torch.tensor([1, 2, 0], dtype=torch.int32),
}


def test_the_state_of_a_row_by_hand() -> None:
    """S (.5 .3 .2), G (1 0 0), Tbar (.7 .2 .1)."""
    s, g, t = (torch.tensor([v]) for v in ([0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.7, 0.2, 0.1]))
    expected = [0.5, 0.3, 0.2, 1, 0, 0, 0.7, 0.2, 0.1, 0.25, 0.09, 0.04, 0.04, 0.01, 0.01, 0.09, 0.04, 0.01]
    assert torch.allclose(state_of(s, g, t), torch.tensor([expected]), atol=1e-7)


def test_the_ratio_has_a_gradient_by_the_loss_on_rows_set_aside(module: nn.Module) -> None:
    """In the published script it is None; a ratio that moves against it lowers that loss."""
    constants = {**TABLE, **rows(12)}
    batch = rows(9, seed=1)
    loss = ahead(ModuleForward(module), batch, constants, step=0.5)
    assert loss.shape == (9,)
    loss.mean().backward()
    ratio = {n: p for n, p in module.named_parameters() if n.startswith(NET)}
    slopes = {n: p.grad for n, p in ratio.items()}
    assert any(g is not None and g.abs().max() > 1e-7 for g in slopes.values())
    with torch.no_grad():
        for name, p in ratio.items():
            g = slopes[name]
            assert g is not None
            p.sub_(10 * g)
    after = ahead(ModuleForward(module), batch, constants, step=0.5)
    assert after.mean() < loss.mean()


def test_a_step_ahead_is_a_step(module: nn.Module) -> None:
    """The same as the loss of a model that has taken the step."""
    constants, batch, step = {**TABLE, **rows(12)}, rows(9, seed=1), 0.5
    told = ahead(ModuleForward(module), batch, constants, step=step)
    net = ModuleForward(module)
    own = shared_out(net, {"x": constants["x"], "y": constants["y"]}, TABLE).mean()
    head = [module.get_parameter("head.weight"), module.get_parameter("head.bias")]
    slopes = torch.autograd.grad(own, head)
    with torch.no_grad():
        for p, slope in zip(head, slopes, strict=True):
            p.sub_(step * slope)
    alone = partial(shared_out, alpha=0.0)(ModuleForward(module), batch, TABLE)
    assert torch.allclose(told, alone, atol=1e-6)


def test_shares_of_the_loss(module: nn.Module) -> None:
    net, batch = ModuleForward(module), rows(6)
    logits = net(batch["x"])[1]
    truth = torch.eye(3)[batch["y"]]
    ratio = ratio_of(net.params, state_of(logits.softmax(-1), truth, TABLE["values"][batch["y"]]))
    assert ((ratio > 0) & (ratio < 1)).all()
    own = torch.nn.functional.cross_entropy(logits, batch["y"], reduction="none")
    others = -(TABLE["values"][batch["y"]] * logits.log_softmax(-1)).sum(-1)
    known = batch["y"] < 2  # nobody else holds class 2
    assert torch.allclose(shared_out(net, batch, TABLE, alpha=0.0), own)
    quarter = torch.where(known, 0.75 * own + 0.25 * others, own)
    assert torch.allclose(shared_out(net, batch, TABLE, alpha=0.25), quarter)
    learned = torch.where(known, (1 - ratio) * own + ratio * others, own)
    assert torch.allclose(shared_out(net, batch, TABLE), learned)
    # With a teacher that is the truth the ratio does not matter.
    sure = {"values": torch.eye(3), "counts": torch.ones(3, dtype=torch.int32)}
    assert torch.allclose(shared_out(net, batch, sure), own, atol=1e-6)


def scenario(strategy: Any, **more: Any) -> Any:
    return from_dict(
        {
            "name": "ratio",
            "data": {"partition": {"clients": 3, "samples_per_client": 30}},
            "clients": {"models": [{"name": "mlp", "width": 8, "hidden": [8]}], "local": {"epochs": 1}},
            "strategy": strategy,
            "rounds": 2,
            "engine": {"kind": "inline", "cohort": 3},
            **more,
        }
    )


def test_the_ratio_alone_is_learned_on_rows_that_are_trained_with_by_nobody() -> None:
    world = checked_world(scenario({"name": "fd_ratio"}))
    client = world.behaviour(world.holding("0"))
    training, learning = client.train(None), client.digest(world_table(10))
    assert training is not None and learning is not None
    assert (training.size, learning.size) == (24, 6)
    assert all(name.startswith(NET) for name in learning.only) and len(learning.only) == 6
    assert not training.only & learning.only
    fixed = checked_world(scenario({"name": "fd_ratio", "alpha": 0.5}))
    behaviour = fixed.behaviour(fixed.holding("0"))
    assert behaviour.digest(world_table(10)) is None
    every = behaviour.train(None)
    assert every is not None and every.size == 30


def world_table(classes: int) -> dict[str, Tensor]:
    return {"values": torch.full((classes, classes), 1 / classes), "counts": torch.ones(classes).int()}


def test_a_run_learns_the_ratio_and_leaves_it_at_home(tmp_path: Path) -> None:
    told = fedkt.simulate(scenario({"name": "fd_ratio"}), out=tmp_path / "stacked")
    alone = fedkt.simulate(scenario({"name": "fd_ratio"}, engine={"kind": "inline"}), out=tmp_path / "alone")
    assert told.clients["personal"].tolist() == pytest.approx(alone.clients["personal"].tolist(), abs=0.02)
    world = checked_world(scenario({"name": "fd_ratio"}))
    assert set(world.full_contribution("0")) == {"values", "counts"}


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match=r"strategy\.lr has no effect where strategy\.alpha is given"):
        checked_world(scenario({"name": "fd_ratio", "alpha": 0.5, "lr": 0.01}))
    privacy = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 1e6}
    with pytest.raises(InputError, match="privacy mode 'dpsgd'"):
        checked_world(scenario({"name": "fd_ratio"}, privacy=privacy))
