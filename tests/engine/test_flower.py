"""Both halves are Flower's own kind: its loop drives our strategies, and our grid runs its strategies."""

import os
from functools import partial
from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedkt.client.state import DiskStore, MemoryStore
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.app import make_app
from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.scenario import from_dict
from fedkt.strategy import Setting


def test_flowers_loop_drives_knfu(tmp_path: Path) -> None:
    scenario = from_dict(
        {
            "name": "flower",
            "data": {"partition": {"clients": 3}, "transfer": {"size": 30}},
            "clients": {"models": ["mlp"], "local": {"epochs": 1}, "distill": {"epochs": 1}},
            "strategy": {"name": "knfu"},
            "engine": {"kind": "inline"},
        }
    )
    world = checked_world(scenario)
    store = MemoryStore(DiskStore(tmp_path))
    setting = Setting(
        scenario=scenario,
        run="run",
        dims={client: world.dims(client) for client in world.shards},
        transfer=world.transfer_hash,
        input=world.federation.input,
    )
    strategy = world.strategy(world.config, setting)
    strategy.course.wants_metrics = frozenset(world.shards)
    grid = InlineGrid(make_app(lambda: (world, store), raise_errors=True), len(world.shards))

    result = strategy.start(grid, ArrayRecord(), num_rounds=2)

    assert [metrics["clients"] for metrics in result.train_metrics_clientapp.values()] == [3, 3]
    assert list(result.evaluate_metrics_clientapp) == [1, 2]
    assert all(0 < float(m["personal"]) <= 1 for m in result.evaluate_metrics_clientapp.values())  # type: ignore[arg-type]
    assert strategy.teachers.made_in(2)
    weights = torch.tensor(strategy.course.report["weights"])
    assert weights.shape == (3, 3)
    assert torch.allclose(weights.sum(-1), torch.ones(3))
    for client in world.shards:
        teacher = strategy.teachers.of(client)
        assert teacher is not None
        assert teacher["values"].shape == (30, 10)
        assert torch.allclose(teacher["values"].sum(-1), torch.ones(30))
    states = [store.load(client, below=6) for client in world.shards]
    assert [state.note["digested"] for state in states if state is not None] == [2, 2, 2]


def quickstart() -> ClientApp:
    """An app as in Flower's quickstarts. Client k adds k + 1 to the weight and has 2k + 1 rows."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        k = int(context.node_config["partition-id"])
        state = message.content.array_records["arrays"].to_torch_state_dict()
        state["w"] = state["w"] + (k + 1)
        metrics = MetricRecord({"train_loss": float(k), "num-examples": 2 * k + 1})
        return Message(RecordDict({"arrays": ArrayRecord(state), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        k = int(context.node_config["partition-id"])
        w = message.content.array_records["arrays"].to_torch_state_dict()["w"]
        metrics = MetricRecord({"eval_loss": float(w.sum()) + k, "num-examples": 1})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def test_our_grid_runs_flowers_fedavg() -> None:
    grid = InlineGrid(quickstart(), 2)
    start = ArrayRecord({"w": Array(torch.zeros(2).numpy())})
    result = FedAvg().start(grid, start, num_rounds=2)
    # Each round adds (1*1 + 3*2)/4 = 1.75.
    assert result.arrays.to_torch_state_dict()["w"].tolist() == [3.5, 3.5]
    # (1*0 + 3*1)/4
    assert result.train_metrics_clientapp[1]["train_loss"] == pytest.approx(0.75)
    # Two weights: 3.5 + (0 + 1)/2, then 7 + 1/2
    losses = [result.evaluate_metrics_clientapp[number]["eval_loss"] for number in (1, 2)]
    assert losses == pytest.approx([4.0, 7.5])


def troubled() -> ClientApp:
    """Flower's quickstart app, in which client 1 raises and client 2 ends its process."""
    app = quickstart()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        k = int(context.node_config["partition-id"])
        if k == 2:
            os._exit(1)
        return Message(RecordDict({"m": MetricRecord({"inverse": 1 / (1 - k)})}), reply_to=message)

    return app


@pytest.mark.slow
def test_on_ray_flowers_fedavg_runs_and_a_failing_client_costs_its_own_reply_only() -> None:
    from fedkt.engine.runtimes.cluster import ray_session
    from fedkt.engine.runtimes.ray_hosts import RayHosts, host
    from fedkt.engine.runtimes.resident import ResidentGrid
    from fedkt.scenario import Engine

    with ray_session(Engine(workers=2)):
        hosts = RayHosts(None, partial(host, Engine()))
        grid = ResidentGrid(lambda shared: troubled(), [1.0] * 8, hosts, workers=2)
        start = ArrayRecord({"w": Array(torch.zeros(2).numpy())})
        result = FedAvg(min_train_nodes=8, min_evaluate_nodes=8).start(grid, start, num_rounds=1, timeout=60)
        # Weights 2k + 1 of values k + 1: sum (2k+1)(k+1) / sum (2k+1) = 372/64 for k = 0..7.
        assert result.arrays.to_torch_state_dict()["w"].tolist() == pytest.approx([5.8125, 5.8125])
        nodes = grid.get_node_ids()
        replies = grid.send_and_receive([Message(RecordDict(), n, "query") for n in nodes], timeout=120)
        by_client = {r.metadata.src_node_id - min(nodes): r for r in replies}
        assert {k for k, r in by_client.items() if r.has_error()} == {1, 2}
        assert "ZeroDivisionError" in str(by_client[1].error.reason)
        assert by_client[3].content["m"]["inverse"] == -0.5
