"""Placebo peers: their answers to other rows, worked by hand, and what a run makes of them."""

from typing import Any

import pytest
import torch

import fedkt
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge.contributions import Contributions
from fedkt.scenario import load
from fedkt.strategy.fusing.fusion import Fused
from fedkt.strategy.fusing.placebo import shuffled, with_placebo

VALUES = torch.tensor([[[1.0, 0.0], [0.6, 0.4], [0.2, 0.8]], [[0.0, 1.0], [0.5, 0.5], [0.9, 0.1]]])
KNOWN = Contributions(("a", "b"), {"values": VALUES, "density": torch.arange(6.0).view(2, 3)})


def mean(known: Contributions) -> Fused:
    return Fused({"values": known.values.mean(0)})


def test_a_client_keeps_its_rows_and_its_peers_answer_to_others() -> None:
    """With the peer's rows in the order (2, 0, 1) the first row of its teacher is (1 + .9)/2, (0 + .1)/2."""
    moved = shuffled(VALUES, ("a", "b"), 0, 1)
    fused = with_placebo(mean, KNOWN, 0, 1)
    assert fused is not None and fused.personal
    first, second = fused.arrays["values"]
    orders = {tuple(VALUES[k].tolist().index(row) for row in moved[k].tolist()) for k in range(2)}
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    assert torch.equal(first, (VALUES[0] + moved[1]) / 2)
    assert torch.equal(second, (VALUES[1] + moved[0]) / 2)
    # What is kept: over all rows each teacher says as often what it said with true peers.
    assert torch.allclose(first.mean(0), torch.tensor([0.5 * 0.6 + 0.5 * 1.4 / 3, 0.5 * 0.4 + 0.5 * 1.6 / 3]))


def test_what_is_said_of_a_row_moves_with_how_well_it_is_known() -> None:
    seen: list[Contributions] = []

    def fuse(known: Contributions) -> Fused:
        seen.append(known)
        return mean(known)

    with_placebo(fuse, KNOWN, 3, 2)
    for n, known in enumerate(seen):
        assert torch.equal(known.values[n], VALUES[n])
        assert torch.equal(known.arrays["density"][n], KNOWN.arrays["density"][n])
        pairs = {
            (*row, d)
            for row, d in zip(VALUES[1 - n].tolist(), KNOWN.arrays["density"][1 - n].tolist(), strict=True)
        }
        peer = zip(known.values[1 - n].tolist(), known.arrays["density"][1 - n].tolist(), strict=True)
        assert {(*row, d) for row, d in peer} == pairs


def test_orders_follow_from_seed_client_and_round() -> None:
    values = torch.arange(40.0).view(2, 20)
    once = shuffled(values, ("a", "b"), 0, 1)
    assert torch.equal(once, shuffled(values, ("a", "b"), 0, 1))
    assert torch.equal(once[1], shuffled(values[1:], ("b",), 0, 1)[0])
    assert not torch.equal(once, shuffled(values, ("a", "b"), 0, 2))
    assert not torch.equal(once, shuffled(values, ("a", "b"), 1, 1))


def test_personal_teachers_are_each_clients_own_and_nothing_stays_nothing() -> None:
    def others(known: Contributions) -> Fused:
        return Fused({"values": known.values.flip(0)}, personal=True)

    fused = with_placebo(others, KNOWN, 0, 1)
    assert fused is not None
    assert torch.equal(fused.arrays["values"], shuffled(VALUES, ("a", "b"), 0, 1).flip(0))
    assert with_placebo(lambda known: None, KNOWN, 0, 1) is None


def test_a_run_with_placebo_peers_learns_otherwise() -> None:
    few = ["engine.kind=inline", "rounds=2", "data.partition.clients=3", "clients.distill.epochs=20"]

    def reached(*more: str) -> Any:
        result = fedkt.simulate("quickstart", [*few, "strategy={name: fedmd, average: probabilities}", *more])
        return result.summary["accuracy"]["global_mean"]

    assert reached("placebo=true") < reached() - 0.05


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fd", "strategy 'fd' fuses no answers about transfer rows"),
        ("local", "strategy 'local' fuses no answers about transfer rows"),
        ("ktpfl", "strategy 'ktpfl' remembers from round to round what it fused"),
    ],
)
def test_where_there_are_no_placebo_peers(name: str, why: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_world(load("quickstart", [f"strategy={{name: {name}}}", "placebo=true"]))
    assert caught.value.problems == (f"placebo is true, but {why}; leave it out.",)


def test_a_server_that_sees_the_mean_alone_cannot_replace_peers() -> None:
    private = "privacy={mode: central_gauss, target_epsilon: 8, delta: 1e-5}"
    with pytest.raises(InputError) as caught:
        checked_world(load("quickstart", ["strategy={name: dsfl}", private, "placebo=true"]))
    assert caught.value.problems[0] == (
        "placebo is true, but strategy 'dsfl' sees no client's own answers with privacy.mode central_gauss; "
        "leave it out."
    )
