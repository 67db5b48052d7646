"""The ray engine on clusters and with any number of workers. Starting Ray takes seconds, so all are slow."""

import time
from pathlib import Path

import pytest
import torch

from fedkt.errors import InputError
from tests.test_cohorts import distance, final_tensors, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_cohorts_on_any_number_of_workers_agree_with_one_by_one(tmp_path: Path, workers: int) -> None:
    alone = run(tmp_path / "alone", "engine.cohort=off")
    many = run(tmp_path / "many", f"engine={{kind: ray, workers: {workers}, cohort: 4}}")
    assert distance(final_tensors(tmp_path / "alone"), final_tensors(tmp_path / "many")) < 1e-4
    difference = alone.summary["accuracy"]["global_mean"] - many.summary["accuracy"]["global_mean"]
    assert abs(difference) <= 0.01


def test_workers_on_two_nodes_give_the_same_bits(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        # Each worker asks for one processor, so that two have to be on two nodes.
        cluster.add_node(num_cpus=1)
        engine = f"engine={{kind: ray, address: '{cluster.address}', workers: 2, cohort: off}}"
        run(tmp_path / "cluster", engine)
    finally:
        cluster.shutdown()
    run(tmp_path / "inline", "engine.cohort=off")
    one, other = final_tensors(tmp_path / "cluster"), final_tensors(tmp_path / "inline")
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_an_address_where_no_ray_answers_is_refused_within_ten_seconds(tmp_path: Path) -> None:
    import ray  # noqa: F401 (its import is not what is timed)

    begun = time.monotonic()
    with pytest.raises(InputError, match=r"no Ray cluster answers at engine.address 127.0.0.1:9"):
        run(tmp_path / "run", "engine={kind: ray, address: '127.0.0.1:9'}")
    assert time.monotonic() - begun < 10
