"""A large model moved by what small experts learned: hand numbers, and laws that must hold."""

import pytest
import torch
from torch import Tensor

from fedkt.distill.shifting import divergence, nearest, shifted


def log(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


BASE, EXPERT, SECOND = log((0.5, 0.3, 0.2)), log((0.2, 0.7, 0.1)), log((0.1, 0.1, 0.8))
LARGE = log((0.6, 0.1, 0.3))


def test_a_large_model_that_is_the_base_becomes_the_expert() -> None:
    """P = Q: alpha 1 moves it exactly as far, and there it says what the expert says."""
    moved, alpha = shifted(BASE, EXPERT[None], BASE)
    assert alpha.item() == pytest.approx(1.0)
    assert moved.exp()[0].tolist() == pytest.approx([0.2, 0.7, 0.1])


def test_one_expert_by_hand() -> None:
    """a = .34054, b = .34259; at alpha 1.2 P' is (.3293, .4555, .2152), and the miss .00777."""
    moved, alpha = shifted(LARGE, EXPERT[None], BASE)
    assert alpha.item() == pytest.approx(1.2)
    assert moved.exp()[0].tolist() == pytest.approx([0.3293, 0.4555, 0.2152], abs=1e-4)
    away, back = divergence(EXPERT, BASE), divergence(BASE, EXPERT)
    assert (away.item(), back.item()) == pytest.approx((0.34054, 0.34259), abs=1e-5)
    assert nearest(LARGE, EXPERT - BASE, away, back, 2.0, 0.1)[1].item() == pytest.approx(0.00777, abs=1e-5)


def test_of_two_experts_the_nearer_one_moves() -> None:
    """Means of the divergences .58938 and .59981: the second expert with alpha .8 comes nearest."""
    moved, alpha = shifted(LARGE, torch.stack([EXPERT, SECOND]), BASE)
    assert alpha[:, 0].tolist() == pytest.approx([0.0, 0.8])
    assert moved.exp()[0].tolist() == pytest.approx([0.1483, 0.0372, 0.8145], abs=1e-4)


def test_an_expert_that_learned_nothing_moves_nothing() -> None:
    moved, alpha = shifted(LARGE, BASE[None], BASE)
    assert alpha.item() == 0
    assert moved.exp()[0].tolist() == pytest.approx(LARGE.exp()[0].tolist())


def test_rows_are_moved_one_by_one_and_by_no_constant() -> None:
    """Stacked rows give what each gives alone, and logits may have any constant added."""
    large, experts, base = torch.cat([LARGE, BASE]), EXPERT.expand(1, 2, -1), BASE.expand(2, -1)
    moved, alpha = shifted(large + 3.0, experts - 1.0, base + 2.0)
    alone = [shifted(row, EXPERT[None], BASE) for row in (LARGE, BASE)]
    assert torch.allclose(moved, torch.cat([one for one, _ in alone]))
    assert alpha[0].tolist() == [one.item() for _, one in alone]
