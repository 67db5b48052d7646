"""K-shot: the hand numbers of each use, and laws that must hold."""

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fedkt.engine.checks.checked import checked_world
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.scenario import from_dict
from fedkt.strategies.kshot import KShot, KShotConfig
from fedkt.strategy import Contributions, Fused
from fedkt.strategy.fusing.robust import Probe
from fedkt.strategy.fusing.shots import chosen, ranks, recall, stacked, standing


def scenario(**more: Any) -> Any:
    return from_dict(
        {
            "name": "shots",
            "data": {
                "partition": {"kind": "iid", "clients": 4, "samples_per_client": 10},
                "transfer": {"size": 60},
            },
            "clients": {"models": [{"name": "mlp", "width": 4, "hidden": [4]}]},
            "strategy": {"name": "kshot"},
            **more,
        }
    )


@lru_cache
def world() -> World:
    return checked_world(scenario())


def fuse(values: Tensor, rows: list[int], labels: list[int], **settings: Any) -> Fused:
    probe = Probe(torch.tensor(rows), torch.tensor(labels))
    strategy = KShot(KShotConfig(**settings), replace(world().setting("run", Path()), probe=probe))
    names = tuple(str(i) for i in range(len(values)))
    return strategy.fuse(Contributions(names, {"values": values}))


SHOTS = torch.tensor(
    [
        [[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]],
        [[0.2, 0.4, 0.4], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]],
    ]
)
"""Two clients on one labelled row of each class: they give it .9 .7 .1 and .2 .3 .8."""
LABELS = torch.tensor([0, 1, 2])


def test_ranks_begin_at_0_and_ties_keep_their_order() -> None:
    """Negative log-likelihoods and accuracies of four clients: sums 2, 2, 6, 2."""
    by_loss = ranks(torch.tensor([0.50, 0.40, 0.90, 0.45]))
    by_accuracy = ranks(-torch.tensor([0.80, 0.70, 0.60, 0.80]))
    assert by_loss.tolist() == [2, 0, 3, 1]
    assert by_accuracy.tolist() == [0, 2, 3, 1]
    assert (by_loss + by_accuracy).tolist() == [2, 2, 6, 2]


def test_standing_is_by_likelihood_and_accuracy() -> None:
    """(ln .9 + ln .7 + ln .1)/3 = -.921, 2 of 3 right; (ln .2 + ln .3 + ln .8)/3 = -1.012, 1 of 3."""
    assert standing(SHOTS, LABELS).tolist() == [0, 2]


def test_recall_weighs_by_what_a_class_gets_on_its_rows() -> None:
    """(.9 + .1)/2 = .5 beside (.2 + .1)/2 = .15 is .769, and so on; the row is mixed class by class."""
    weights = recall(SHOTS, LABELS)
    assert torch.allclose(weights[0], torch.tensor([0.769, 0.667, 0.182]), atol=5e-4)
    assert torch.allclose(weights.sum(0), torch.ones(3))
    row = torch.tensor([[[0.6, 0.3, 0.1]], [[0.1, 0.2, 0.7]]])
    found = fuse(torch.cat([SHOTS, row], 1), [0, 1, 2], [0, 1, 2]).arrays["values"]
    assert torch.allclose(found[3], torch.tensor([0.361, 0.199, 0.440]), atol=5e-4)
    # A class without a labelled row weighs all alike.
    assert recall(SHOTS[:, :2], LABELS[:2])[:, 2].tolist() == [0.5, 0.5]


def test_who_is_always_right_is_chosen_and_all_of_them_are_the_mean() -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(5, 12, 3, generator=draw).softmax(-1)
    labels = torch.arange(6) % 3
    values[3, :6] = torch.nn.functional.one_hot(labels, 3).float()
    assert 3 in chosen(values[:, :6], labels, values, bank=4, members=2)
    assert chosen(values[:, :6], labels, values, bank=1, members=1) == [3]
    found = fuse(values, list(range(6)), labels.tolist(), use="choose", bank=5, members=5)
    assert torch.allclose(found.arrays["values"], values.mean(0))


def test_the_order_of_clients_does_not_matter_where_none_are_equal() -> None:
    """Client c is wrong on its first c rows, and on each row surer than the one before."""
    labels = torch.arange(6) % 3
    values = torch.rand(5, 12, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    for c in range(5):
        said = torch.where(torch.arange(6) < c, (labels + 1) % 3, labels)
        values[c, :6] = (1 + c) * torch.nn.functional.one_hot(said, 3) + 0.1
    values = values / values.sum(-1, keepdim=True)
    before = chosen(values[:, :6], labels, values, bank=4, members=2)
    order = [4, 2, 0, 3, 1]
    after = chosen(values[order][:, :6], labels, values[order], bank=4, members=2)
    assert sorted(order[i] for i in after) == before


def test_standing_and_unlikeness_are_added() -> None:
    """Standings 0, 2, 4; tuples 01, 02, 12 sum to 2, 4, 6 and rank 2, 0, 1 by cosine: 4, 4, 7, the first."""
    shots = torch.tensor([[[0.8, 0.2]], [[0.8, 0.2]], [[0.6, 0.4]]])
    values = torch.cat([shots, torch.tensor([[[0.9, 0.1]], [[0.9, 0.1]], [[0.1, 0.9]]])], 1)
    assert standing(shots, torch.tensor([0])).tolist() == [0, 2, 4]
    assert chosen(shots, torch.tensor([0]), values, bank=3, members=2) == [0, 1]


def test_scales_of_one_client_in_n_are_the_geometric_mean() -> None:
    """With a ridge that lets nothing move; of (.8 .2) and (.2 .8): (.5 .5), of (.9 .1) twice itself."""
    values = torch.tensor([[[0.8, 0.2], [0.9, 0.1]], [[0.2, 0.8], [0.9, 0.1]]])
    found = fuse(values, [0], [0], use="stack", ridge=1e6).arrays["values"]
    assert torch.allclose(found, torch.tensor([[0.5, 0.5], [0.9, 0.1]]), atol=1e-4)


def test_labels_that_are_all_wrong_move_scales_no_further_than_the_ridge_allows() -> None:
    """ridge · distance² is at most the loss at the start, here that of the geometric mean (.9 .1): ln 10."""
    shots = torch.tensor([[[0.9, 0.1]] * 4] * 2)
    wrong = torch.ones(4, dtype=torch.int64)
    for ridge in (0.01, 1.0):
        scales, shifts = stacked(shots, wrong, ridge)
        moved = (scales - 0.5).square().sum() + shifts.square().sum()
        assert 0 < float(moved) <= math.log(10) / ridge


def test_scales_learn_who_is_right() -> None:
    """Client 0 says the label, client 1 the other class: the first is scaled up, the second down."""
    p = torch.tensor([[[0.9, 0.1], [0.1, 0.9]], [[0.1, 0.9], [0.9, 0.1]]])
    scales, _ = stacked(p, torch.tensor([0, 1]), 0.01)
    assert float(scales[0].min()) > 0.5 > float(scales[1].max())


def test_rows_of_which_no_label_is_known_are_a_plain_mean() -> None:
    values = torch.tensor([[[0.8, 0.2]], [[0.4, 0.6]]])
    strategy_made = fuse(values, [], [])
    assert torch.allclose(strategy_made.arrays["values"], torch.tensor([[0.6, 0.4]]))
    assert strategy_made.report["labelled"] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"strategy": {"name": "kshot", "rows": 61}},
            r"strategy\.rows is 61, but labels of 60 transfer rows are known; it must be at most",
        ),
        ({"strategy": {"name": "kshot", "members": 2}}, "strategy.members has no effect with use 'recall'"),
        (
            {"strategy": {"name": "kshot", "use": "stack"}, "robust": {"centre": "median"}},
            "with strategy.use 'stack' no mean over clients is taken",
        ),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        checked_world(scenario(**changes))


def test_a_server_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match="needs labels of transfer rows at the server"):
        KShot(KShotConfig(), replace(world().setting("run", Path()), probe=None))
