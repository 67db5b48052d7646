"""Which rows clients contradict one another about, by hand; and that a pool's noise is not asked for."""

import math

import pytest
import torch

from fedkt.scenario.about_data import Transfer
from fedkt.strategy.choosing.chooser import RowChoice
from fedkt.strategy.choosing.utilities.disagreement import disagreement
from fedkt.strategy.choosing.utilities.doubt import entropy

A, B, HALF, NONE = [0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.0, 0.0]


def test_jensen_shannon_of_two_clients() -> None:
    """Row 0: (.9, .1) and (.1, .9), H(mean) = ln 2 = .6931, each H = .3251; row 1: both sure of one class;
    row 2: both in doubt; row 3: sure opposites."""
    found = disagreement(torch.tensor([[A, B, HALF, [1.0, 0.0]], [B, B, HALF, [0.0, 1.0]]]))
    assert found.tolist() == pytest.approx([0.3681, 0, 0, math.log(2)], abs=1e-4)


def test_who_left_a_row_out_does_not_count() -> None:
    """Selective-FD sends zeros of what a client does not know."""
    found = disagreement(torch.tensor([[A, A, NONE], [B, NONE, NONE], [NONE, NONE, NONE]]))
    assert found.tolist() == pytest.approx([0.3681, 0, 0], abs=1e-4)


def test_the_order_of_clients_and_classes_does_not_matter() -> None:
    p = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    assert torch.allclose(disagreement(p), disagreement(p.flip(0)), atol=1e-6)
    assert torch.allclose(disagreement(p), disagreement(p.flip(2)), atol=1e-6)


def test_noise_is_not_asked_for() -> None:
    """Of eight rows the last six are noise: everybody is in doubt about them alike."""
    answers = torch.tensor([[A, B, *[HALF] * 6], [B, B, *[HALF] * 6]])

    def asked(policy: str) -> list[int]:
        choice = RowChoice(Transfer.model_validate({"size": 8, "rows": 1, "policy": policy}), 8, 0)
        choice.learn(None, answers, answers.mean(0)[None])
        chosen = choice.choose(2)
        assert chosen is not None
        return [int(row) for row in chosen]

    assert asked("disagreement") == [0]
    # The mean of row 0 is (.5, .5), too; of row 1 it is not. Entropy and margin cannot tell 0 from noise.
    doubt = entropy(answers.mean(0))
    assert doubt[0] == pytest.approx(doubt[2])
    assert asked("entropy")[0] != 1
