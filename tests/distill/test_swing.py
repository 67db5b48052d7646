"""Swing distillation by hand: ordinary targets teach as ever, those that look private hardly at all."""

import pytest
import torch
from torch import Tensor

from fedkt.distill import looks_back
from fedkt.distill.losses import kl
from fedkt.distill.swing import laplace, private_looking, shielded, swing
from fedkt.engine.checks.checked import checked_world
from fedkt.scenario import from_dict

EVEN = torch.zeros(1, 2)


def log(*row: float) -> Tensor:
    return torch.tensor([row]).log()


def test_how_private_a_target_looks() -> None:
    """KL of (.9, .1) to (.2, .8) is .9 ln 4.5 - .1 ln 8 = 1.1457, .1457 of the way from 1 nat to 2."""
    assert private_looking(log(0.9, 0.1), log(0.2, 0.8)).item() == pytest.approx(0.1457, abs=1e-4)
    assert private_looking(log(0.9, 0.1), log(0.5, 0.5)).item() == 0
    assert private_looking(log(0.98, 0.01, 0.01), log(0.1, 0.8, 0.1)).item() == 1


def test_a_target_by_hand() -> None:
    """At T = 1 + 9 · .1457 (.9, .1) is (.7212, .2788); noise of (1, -1) adds .02 · .1457 to the first."""
    teacher, before = log(0.9, 0.1), log(0.2, 0.8)
    flat = shielded(teacher, before, EVEN)
    assert flat.exp()[0].tolist() == pytest.approx([0.7212, 0.2788], abs=1e-4)
    noisy = shielded(teacher, before, torch.tensor([[1.0, -1.0]]))
    assert noisy.exp()[0].tolist() == pytest.approx([0.7241, 0.2759], abs=1e-4)
    # .7241 ln 1.4483 + .2759 ln .5517
    found = swing(EVEN, teacher, before=before, noise=torch.tensor([[1.0, -1.0]]))
    assert found.item() == pytest.approx(0.1041, abs=2e-4)
    # A wholly private one at T = 10: .98^.1 : .01^.1 = .998 : .631.
    secret = shielded(log(0.98, 0.01, 0.01), log(0.1, 0.8, 0.1), torch.zeros(1, 3))
    assert secret.exp()[0].tolist() == pytest.approx([0.4416, 0.2792, 0.2792], abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_what_the_student_would_have_thought_is_learned_as_by_kl(temperature: float) -> None:
    student, teacher = torch.tensor([[0.3, -0.2, 0.1]]), torch.tensor([[1.0, 0.5, 0.0]])
    found = swing(student, teacher, temperature, before=student, noise=torch.full((1, 3), 5.0))
    assert found.item() == pytest.approx(kl(student, teacher, temperature).item(), abs=1e-6)


def test_noise_takes_no_probability_below_zero() -> None:
    teacher, before = log(0.98, 0.01, 0.01), log(0.1, 0.8, 0.1)
    found = shielded(teacher, before, torch.tensor([[0.0, -100.0, 0.0]])).exp()
    assert found.sum().item() == pytest.approx(1) and found[0, 1].item() == pytest.approx(0, abs=1e-7)


def test_noise_is_laplace_and_never_the_same() -> None:
    """Mean 0, mean size 1; two draws differ."""
    drawn = laplace(200, 100)
    assert abs(drawn.mean().item()) < 0.05 and drawn.abs().mean().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(drawn, laplace(200, 100))


def test_a_digestion_keeps_its_noise_and_what_the_student_said_before() -> None:
    told = {
        "name": "swings",
        "data": {"partition": {"clients": 2, "samples_per_client": 20}, "transfer": {"size": 5}},
        "clients": {"models": ["mlp"], "distill": {"loss": "swing"}},
        "strategy": {"name": "fedmd"},
        "rounds": 1,
        "engine": {"kind": "inline"},
    }
    world = checked_world(from_dict(told))
    party = world.behaviour(world.holding("0"))
    teacher = {"values": torch.randn(5, 10), "rows": torch.arange(5, dtype=torch.int32)}
    phase = party.digest(teacher)
    assert looks_back(swing) and phase is not None and phase.rows["noise"].shape == (5, 10)
    (asked,) = phase.first
    said = torch.zeros(5, 10)
    assert asked.rows(torch.zeros(5, 4), said)["before"] is said
    batch = {**phase.rows, "before": said}
    values = phase.loss(lambda x: (x.flatten(1), said), batch, {})  # type: ignore[arg-type]
    assert torch.allclose(values, swing(said, batch["target"], before=said, noise=batch["noise"]))
