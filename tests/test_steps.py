"""How many batches a phase takes, and of which rows."""

import numpy as np
import pytest

from fedkt.client import Steps
from fedkt.scenario import from_dict
from fedkt.training import batch_order


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
