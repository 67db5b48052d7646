"""Transfer rows that look like the client's own count more."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fedkt
from fedkt.client import Fit, Steps, classification
from fedkt.client.digesting import likeness, times_weight, weighed
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.stack import loss_key
from fedkt.errors import InputError
from fedkt.scenario import from_dict


def scenario(**more: Any) -> Any:
    distill = {"epochs": 1, "batch_size": 8, "weigh": "likeness", **more.pop("distill", {})}
    return from_dict(
        {
            "name": "likeness",
            "data": {
                "partition": {"kind": "pathological", "classes_per_client": 4, "clients": 3},
                "transfer": {"size": 20},
            },
            "clients": {"models": [{"name": "mlp", "width": 8, "hidden": [8]}], "distill": distill},
            "strategy": {"name": "dwc"},
            "rounds": 2,
            "engine": {"kind": "inline"},
            **more,
        }
    )


def test_rows_among_the_clients_own_count_and_rows_far_from_them_do_not() -> None:
    """Ten own rows about 0; of six transfer rows three lie there, three a hundred away: 2, 2, 2, 0, 0, 0."""
    own = torch.linspace(-1, 1, 10).unsqueeze(1)
    near = torch.tensor([[-0.2], [0.0], [0.2]])
    weights = likeness(torch.cat([near, near + 100]), own, seed=0, client="0")
    assert torch.allclose(weights, torch.tensor([2.0, 2.0, 2.0, 0.0, 0.0, 0.0]), atol=1e-3)
    assert weights.mean().item() == pytest.approx(1.0)


def test_rows_that_resemble_nothing_or_everything_count_alike() -> None:
    own = torch.linspace(-1, 1, 10).unsqueeze(1)
    assert likeness(own + 1e6, own, 0, "0").tolist() == pytest.approx([1.0] * 10, abs=1e-4)
    same = torch.zeros(5, 2)
    assert likeness(same, same, 0, "0").tolist() == [1.0] * 5


def test_a_loss_is_multiplied_row_by_row_and_keeps_its_identity() -> None:
    made = checked_world(scenario())
    player = made.player("0")
    teacher = {"values": torch.full((20, 10), 0.1)}
    phase = player.digest(teacher)
    assert phase is not None
    weights = likeness(phase.rows["x"], made.holding("0").x, 0, "0")
    assert torch.equal(phase.rows["weight"], weights)
    batch = {"weight": torch.tensor([0.0, 3.0])}
    found = times_weight(None, batch, {}, loss=lambda *_: torch.tensor([5.0, 7.0]))  # type: ignore[arg-type]
    assert found.tolist() == [0.0, 21.0]
    other = made.player("1").digest(teacher)
    assert other is not None and loss_key(other.loss) == loss_key(phase.loss)  # so that they can be stacked


def test_who_is_not_asked_to_weigh_does_not() -> None:
    held = checked_world(scenario(distill={"weigh": None})).holding("0")
    phase = Fit("digest", {"x": torch.zeros(3, 2)}, classification, Steps(1, 2, "sgd", 0.1))
    assert weighed(phase, held) is phase


def test_it_counts_in_a_run(tmp_path: Path) -> None:
    with_it = fedkt.simulate(scenario(), out=tmp_path / "a").clients
    without = fedkt.simulate(scenario(distill={"weigh": None}), out=tmp_path / "b").clients
    assert (with_it["global"] != without["global"]).any()


PRIVATE = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 1e6}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"strategy": {"name": "fd"}},
            r"strategy 'fd' makes nothing of clients\.distill\.weigh",
        ),
        (
            {"strategy": {"name": "knfu"}, "privacy": PRIVATE},
            "'dpsgd' does not pay for the comparison with private rows that clients.distill.weigh asks for",
        ),
        ({"distill": {"weigh": "density"}}, r"clients\.distill\.weigh is 'density'"),
    ],
)
def test_what_is_wrong_is_said(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        checked_world(scenario(**more))
