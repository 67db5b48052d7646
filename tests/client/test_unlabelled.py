"""A site without labels of its own learns from teachers, and what it says is not fused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import fedkt
from fedkt.client.digesting import believed, by_belief, prototypes_of, self_training
from fedkt.client.joint import joined
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.scenario import from_dict


def test_beliefs_by_hand() -> None:
    """Prototypes (0,0) (2,0) (0,3), feature (.5,.5): distances .707 1.581 2.550, softmax (.635 .265 .100).

    Times what is thought of it, (.5 .4 .1): (.732 .244 .023).
    """
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    z, own = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.4, 0.1]])
    even = believed(z, torch.full((1, 3), 1 / 3), centres)
    assert torch.allclose(even, torch.tensor([[0.635, 0.265, 0.100]]), atol=1e-3)
    assert torch.allclose(believed(z, own, centres), torch.tensor([[0.732, 0.244, 0.023]]), atol=1e-3)
    # Classes that have one prototype are told apart by one's own opinion alone.
    assert torch.allclose(believed(z, own, centres[:1].expand(3, -1)), own, atol=1e-6)


def test_prototypes_are_means_by_the_teacher() -> None:
    """Features 0, 2, 4; the teacher gives class 0 (1, .5, 0): (0 + 1)/1.5; class 1 (0, .5, 1); 2 none."""
    target = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]])
    found = prototypes_of(torch.tensor([[0.0], [2.0], [4.0]]), target)
    assert torch.allclose(found, torch.tensor([[2 / 3], [10 / 3], [2.0]]))


TAUGHT = {"epochs": 10, "batch_size": 16, "lr": 0.01}


def scenario(strategy: str = "dwc", **more: Any) -> Any:
    data = {
        "partition": {"clients": 3, "alpha": 5, "samples_per_client": 40},
        "transfer": {"size": 60},
        "unlabelled": ["1"],
        **more.pop("data", {}),
    }
    return from_dict(
        {
            "name": "unlabelled",
            "data": data,
            "clients": {
                "models": [{"name": "mlp", "width": 16, "hidden": [16]}],
                "local": {"epochs": 10, "batch_size": 8, "lr": 0.01},
                "distill": TAUGHT,
                **more.pop("clients", {}),
            },
            "strategy": {"name": strategy},
            "rounds": 3,
            "engine": {"kind": "inline", "cohort": 3},
            **more,
        }
    )


def test_it_holds_no_labels_and_trains_on_beliefs() -> None:
    world = checked_world(scenario())
    held = world.holding("1")
    assert not held.labelled and (held.y == -1).all() and held.label_share.sum() == 0
    assert world.holding("0").labelled
    client = world.behaviour(held)
    assert client.train(None) is None
    teacher = {"values": torch.full((60, 10), 0.1)}
    training, digestion = client.train(teacher), client.digest(teacher)
    assert training is not None and digestion is not None
    assert set(training.rows) == {"x"} and training.private and training.loss is by_belief
    both = joined(training, digestion)
    (asked,) = both.first
    made = asked.rows(torch.randn(100, 16), torch.randn(100, 10))["believed"]
    assert made.shape == (100, 10)
    assert torch.allclose(made[:40].sum(1), torch.ones(40)) and not made[40:].any()
    alone = self_training(held, torch.zeros(0, 1, 8, 8), torch.zeros(0, 10))
    assert alone.size == 40


@pytest.mark.parametrize("strategy", ["dwc", "knfu"])
def test_it_learns_what_the_others_know(strategy: str, tmp_path: Path) -> None:
    told = fedkt.simulate(scenario(strategy), out=tmp_path / "run")
    last = told.clients[told.clients["round"] == 3].set_index("client")["global"]
    assert last.to_dict()[1] > 0.4, last.to_dict()
    # Nobody hears it.
    lines = [json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()]
    assert all(line["report"]["clients"] == ["0", "2"] for line in lines), lines[0]


def test_what_is_wrong_is_said() -> None:
    privacy = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 1e6}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"strategy": "fedproto"}, "strategy 'fedproto' learns from labels of one's own"),
        ({"strategy": "local"}, "strategy 'local' learns from labels of one's own"),
        ({"data": {"unlabelled": ["7"]}}, "data.unlabelled names '7', but there is no such client"),
        ({"data": {"unlabelled": ["0", "1"]}}, "leaves 1 clients with labels, of which 2 must take part"),
        ({"data": {"unlabelled": ["1", "1"]}}, "names '1' twice"),
        ({"clients": {"guard": {}}}, "clients.guard decides by labelled rows"),
        ({"strategy": "knfu", "privacy": privacy}, "privacy mode 'dpsgd' trains on labelled rows"),
    ]
    for more, sentence in wrong:
        with pytest.raises(InputError) as raised:
            taught = {} if more.get("strategy") in ("fedproto", "local") else TAUGHT
            checked_world(scenario(**{"clients": {"distill": taught}, **more}))
        assert sentence in str(raised.value)
