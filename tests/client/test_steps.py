"""How many batches a phase takes, and of which rows."""

import numpy as np
import pytest
import torch

from fedkt import models
from fedkt.client import Fit, Steps, classification
from fedkt.client.training import batch_order, fit
from fedkt.data.sets.dataset import InputSpec
from fedkt.models.net import projection
from fedkt.scenario import from_dict


def order(size: int, steps: Steps) -> list[list[int]]:
    return [batch.tolist() for batch in batch_order(size, steps, np.random.default_rng(0))]


def test_epochs_are_passes_over_all_rows() -> None:
    batches = order(5, Steps(2, 2, "sgd", 0.1))
    assert [len(batch) for batch in batches] == [2, 2, 1, 2, 2, 1]
    for epoch in (batches[:3], batches[3:]):
        assert sorted(row for batch in epoch for row in batch) == [0, 1, 2, 3, 4]
    assert batches[:3] != batches[3:]


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [2]), (3, [2, 2, 1]), (4, [2, 2, 1, 2]), (7, [2, 2, 1] * 2 + [2])]
)
def test_a_number_of_batches_in_place_of_epochs(count: int, sizes: list[int]) -> None:
    steps = Steps(9, 2, "sgd", 0.1, batches=count)
    batches = order(5, steps)
    assert [len(batch) for batch in batches] == sizes
    assert steps.count(5) == count
    # The same rows in the same order as whole passes have them.
    assert batches == order(5, Steps(3, 2, "sgd", 0.1))[:count]


def test_no_rows_no_batches() -> None:
    assert order(0, Steps(3, 2, "sgd", 0.1)) == order(0, Steps(3, 2, "sgd", 0.1, batches=4)) == []
    assert order(5, Steps(0, 2, "sgd", 0.1)) == []


def test_a_scenario_says_how_many() -> None:
    local = from_dict({"name": "s", "clients": {"local": {"steps": 20}}}).clients.local
    assert Steps.local(local).count(1000) == 20
    assert Steps.local(from_dict({"name": "s"}).clients.local).count(1000) == 3 * 32


def test_a_phase_trains_only_what_it_names() -> None:
    net = models.build({"name": "mlp", "width": 3, "hidden": [4]}, InputSpec("tabular", (2,)), 2, 0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    only = projection(before)
    rows = {"x": torch.ones(6, 2), "y": torch.tensor([0, 1, 0, 0, 1, 0])}
    phase = Fit("train", rows, classification, Steps(2, 3, "adam", 0.1), only=only)
    state = fit(net, phase, {}, seed=0, client="0", round_=1)
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == only == {"features.3.weight", "features.3.bias"}
    assert {key.rpartition("/")[0] for key in state} == only
    assert all(p.requires_grad for p in net.parameters())
