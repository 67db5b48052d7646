"""Alignment before sending, the prior and abstention, for methods with one teacher for all."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedkt.client import Holding, Steps
from fedkt.clients.logits import LogitsClient
from fedkt.distill.alignment import align
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Dims, Logits, Votes
from fedkt.scenario import from_dict
from fedkt.strategies.dsfl import era
from fedkt.strategy import Contributions
from fedkt.strategy.common_teacher import certain

P = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.45, 0.05]])
"""A client's mean prediction is (.55, .375, .075)."""


def scenario(strategy: dict[str, Any], **more: Any) -> Any:
    return from_dict(
        {
            "name": "common",
            "data": {
                "partition": {"kind": "iid", "clients": 3, "samples_per_client": 10},
                "transfer": {"size": 20},
            },
            "clients": {"models": [{"name": "mlp", "width": 4, "hidden": [4]}]},
            "strategy": strategy,
            **more,
        }
    )


def said(form: str, **settings: Any) -> Any:
    """What a client whose predictions are P sends."""
    steps, x = Steps(1, 2, "sgd", 0.1), torch.zeros(2, 1)
    told = {"form": form, "loss": "kl", "temperature": 1.0, **settings}
    held = Holding(
        "0", 0, Dims(2, 2, 3, 1), x, torch.zeros(2).long(), x, None, torch.ones(3), steps, steps, told
    )
    client = LogitsClient(held)
    client.inputs(None)
    return client.extract(torch.zeros(2, 1), P.log(), {})


def test_a_client_frees_its_predictions_before_it_sends_them() -> None:
    """By hand: (.6 .3 .1)/(.55 .375 .075) is (1.091 .8 1.333), of which (.338 .248 .414)."""
    plain = said("probabilities", align={"smoothing": 0.0, "marginals": "uniform"})
    assert isinstance(plain, Logits)
    expected = torch.tensor([[0.338, 0.248, 0.414], [0.328, 0.432, 0.240]])
    assert torch.allclose(torch.as_tensor(np.asarray(plain.values)), expected, atol=6e-4)
    votes = said("votes", align={"smoothing": 0.0, "marginals": "uniform"})
    assert isinstance(votes, Votes)
    assert np.asarray(votes.labels).tolist() == [2, 1]
    assert np.asarray(said("votes").labels).tolist() == [0, 0]
    # Back to the transfer set's own frequencies where they are told.
    told = said("probabilities", align={"smoothing": 0.0, "marginals": [0.55, 0.375, 0.075]})
    assert torch.allclose(torch.as_tensor(np.asarray(told.values)), P, atol=1e-6)


def test_one_client_is_aligned_as_many_are() -> None:
    both = torch.stack([P, P.flip(1)])
    assert torch.allclose(align(both, 0.1)[1], align(P.flip(1), 0.1))


def test_who_is_unsure_is_left_out_where_somebody_is_sure() -> None:
    """Of ln 3: (.8 .1 .1) .582, (.5 .3 .2) .937, (.4 .3 .3) .991."""
    p = torch.tensor([[[0.8, 0.1, 0.1], [0.5, 0.3, 0.2]], [[0.4, 0.3, 0.3], [0.4, 0.3, 0.3]]])
    assert certain(p, 0.6).tolist() == [[1.0, 1.0], [0.0, 1.0]]
    assert certain(p, 1.0).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("strategy", "values"),
    [
        ({"name": "fedmd", "average": "probabilities", "abstain": 0.6}, lambda p: p),
        ({"name": "fedmd", "abstain": 0.6}, lambda p: p.log() + 3),
        ({"name": "dsfl", "abstain": 0.6}, lambda p: p),
    ],
)
def test_means_are_over_those_who_are_heard(strategy: dict[str, Any], values: Any) -> None:
    p = torch.tensor([[[0.8, 0.1, 0.1]], [[0.4, 0.3, 0.3]], [[0.9, 0.05, 0.05]]])
    world = checked_world(scenario(strategy))
    method = world.strategy(world.config, world.setting("run", Path()))
    fused = method.fuse(Contributions(("0", "1", "2"), {"values": values(p)}))
    assert fused is not None
    found: Tensor = fused.arrays["values"]
    mean = values(p[[0, 2]]).mean(0)
    assert torch.allclose(found, era(mean, 0.1) if strategy["name"] == "dsfl" else mean, atol=1e-6)


def test_the_client_half_is_told() -> None:
    told = checked_world(
        scenario(
            {"name": "fedmd", "average": "probabilities", "align": {"marginals": [0.2] * 5 + [0.0001] * 5}}
        )
    ).settings
    assert told["align"]["smoothing"] == 0.1 and len(told["align"]["marginals"]) == 10
    assert "prior" not in told
    assert checked_world(scenario({"name": "dsfl", "prior": True})).settings["prior"] is True


CENTRAL = {"mode": "central_gauss", "delta": 1e-5, "noise_multiplier": 4.0, "max_epsilon": 1e6, "clip": 1.0}


@pytest.mark.parametrize(
    ("strategy", "more", "words"),
    [
        ({"name": "fedmd", "align": {}}, {}, "strategy.align has no effect with average logits"),
        (
            {"name": "dsfl", "abstain": 0.5},
            {"privacy": CENTRAL},
            "asks how sure single clients are, which nobody sees in privacy mode 'central_gauss'",
        ),
        ({"name": "dsfl", "abstain": 0}, {}, "strategy.abstain is 0"),
        (
            {"name": "dsfl", "align": {"marginals": [0.5, 0.5]}},
            {},
            "strategy.align.marginals has 2 numbers, but there are 10 classes",
        ),
        ({"name": "dsfl", "align": {"marginals": "consensus"}}, {}, "strategy.align"),
    ],
)
def test_what_is_wrong_is_said(strategy: dict[str, Any], more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        world = checked_world(scenario(strategy, **more))
        world.strategy(world.config, world.setting("run", Path()))


def test_certainty_is_a_share_of_the_largest_entropy() -> None:
    even = torch.full((1, 1, 4), 0.25)
    assert math.isclose(float(-(even * even.log()).sum()), math.log(4), rel_tol=1e-6)
    assert certain(torch.cat([even, torch.eye(4)[:1].unsqueeze(0)]), 0.99).tolist() == [[0.0], [1.0]]
