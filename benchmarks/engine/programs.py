"""The programs that are compared: each warms up, runs some rounds and returns their seconds."""

import logging
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

import fedkt
from benchmarks.engine import peer, work
from fedkt import scenario
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.runs.run import simulate as run
from fedkt.engine.world.world import World
from fedkt.knowledge.protocol import Reply, Request, i_am
from fedkt.results.observer import Silent
from fedkt.strategy import Setting

ROUNDS = 5
PROCESSES = 2
READY_ROWS = 1000

Seconds = list[float]


# Training -------------------------------------------------------------------------------------------------


def loop(kind: str, device: str = "cpu", a_round: int = work.A_ROUND, rounds: int = ROUNDS) -> Seconds:
    """A plain loop in one process on one thread."""
    torch.set_num_threads(1)
    weights, taken = {name: t.to(device) for name, t in work.start(kind).items()}, []
    for number in range(1 + rounds):
        begun = time.perf_counter()
        asked = work.sample(number, a_round)
        weights = work.mean([work.train(kind, weights, client, device) for client in asked])
        float(next(iter(weights.values())).sum())  # an accelerator may still be at work
        taken.append(time.perf_counter() - begun)
    return taken[1:]


def processes(kind: str) -> Seconds:
    """The same loop in two processes of one thread, which send partial means."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES, torch.set_num_threads, (1,)) as pool:
        weights, taken = work.start(kind), []
        for number in range(
            2 + ROUNDS
        ):  # one more round to warm up, since either process may take both parts
            begun = time.perf_counter()
            sampled = work.sample(number)
            parts = [(kind, weights, sampled[i::PROCESSES]) for i in range(PROCESSES)]
            weights = work.mean(pool.starmap(_part, parts, chunksize=1))
            taken.append(time.perf_counter() - begun)
    return taken[2:]


def _part(kind: str, weights: dict[str, Tensor], clients: Sequence[int]) -> dict[str, Tensor]:
    return work.mean([work.train(kind, weights, client) for client in clients])


Run = Callable[[ClientApp, Callable[[Grid], object], int, int, float], None]
"""Runs a server's ``main(grid)`` over so many nodes, whose app runs in so many actors of a share of a GPU."""


def flower(
    kind: str,
    device: str = "cpu",
    a_round: int = work.A_ROUND,
    rounds: int = ROUNDS,
    actors: int = PROCESSES,
    run: "Run | None" = None,
) -> Seconds:
    """Flower's simulation runtime with its FedAvg; its actors share one accelerator where there is one."""
    clock = _Timed(fraction_train=a_round / work.CLIENTS, fraction_evaluate=0.0, min_train_nodes=a_round)
    first = ArrayRecord({n: Array(t.numpy()) for n, t in work.start(kind).items()})
    share = 1 / actors if device == "cuda" else 0.0

    def main(grid: Grid) -> object:
        return clock.start(grid, first, num_rounds=1 + rounds)

    (run or _run_flower)(trainer(kind, device), main, work.CLIENTS, actors, share)
    return clock.taken[1:]


def trainer(kind: str, device: str = "cpu") -> ClientApp:
    """Return the app of Flower's clients."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        weights = message.content.array_records["arrays"].to_torch_state_dict()
        trained = work.train(kind, weights, int(context.node_config["partition-id"]), device)
        arrays = ArrayRecord({n: Array(t.cpu().numpy()) for n, t in trained.items()})
        metrics = MetricRecord({"num-examples": work.ROWS})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


class _Timed(FedAvg):
    """FedAvg that notes how long rounds take."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.taken: Seconds = []
        self._begun = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Start the clock."""
        self._begun = time.perf_counter()
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Stop it."""
        result = super().aggregate_train(server_round, replies)
        self.taken.append(time.perf_counter() - self._begun)
        return result


def pfl(kind: str) -> Seconds:
    """pfl's simulation with its federated averaging, one process on one thread."""
    torch.set_num_threads(1)
    return peer.rounds(kind, ROUNDS)


def _run_flower(
    app: ClientApp,
    main: Callable[[Grid], object],
    nodes: int,
    actors: int = PROCESSES,
    share: float = 0.0,
) -> None:
    from flwr.simulation import run_simulation

    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < nodes:
            time.sleep(0.1)
        main(grid)

    logging.getLogger("flwr").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_simulation(
            server_app=server,
            client_app=app,
            num_supernodes=nodes,
            backend_config={
                "init_args": {"num_cpus": actors, "include_dashboard": False, "log_to_driver": False},
                "client_resources": {"num_cpus": 1, "num_gpus": share},
            },
        )


def simulate(spec: dict[str, Any]) -> tuple[Seconds, Any]:
    """Run a scenario in a folder that is thrown away; return seconds per round and the summary."""
    with tempfile.TemporaryDirectory() as folder:
        result = fedkt.simulate(spec, out=Path(folder) / "run")
        return [float(s) for s in result.rounds["wall_s"]], result.summary


def fedkt_training(
    kind: str,
    strategy: str,
    a_round: int = work.A_ROUND,
    rounds: int = ROUNDS,
    engine: Mapping[str, Any] | None = None,
) -> Seconds:
    """fedkt on the same work: ``fedavg`` exchanges the same weights, ``fd`` what it is made for."""
    name, settings = work.MODELS[kind]
    taken, _ = simulate(
        {
            "name": "bench",
            "data": {
                "dataset": "benchmarks.engine.work:images",
                "partition": {"kind": "iid", "clients": work.CLIENTS},
            },
            "clients": {
                "models": [{"name": name, **settings}],
                "local": {"epochs": 1, "batch_size": work.BATCH, "optimizer": "sgd", "lr": work.RATE},
            },
            "strategy": {"name": strategy},
            "allow": ["weights"],
            "rounds": 2 + rounds,
            "participation": {"fraction": a_round / work.CLIENTS},
            "evaluate": {"every": 1000},
            "engine": engine or {"kind": "processes", "workers": PROCESSES},
        }
    )
    return taken[1:-1]  # without the last, in which all clients are evaluated


# The engine alone -----------------------------------------------------------------------------------------


def ready_world() -> World:
    """Return clients of a method that exchanges predictions on 1000 rows."""
    return checked_world(
        scenario.from_dict(
            {
                "name": "ready",
                "data": {
                    "dataset": "benchmarks.engine.work:images",
                    "partition": {"kind": "iid", "clients": work.A_ROUND},
                    "transfer": {"size": READY_ROWS},
                },
                "clients": {"models": ["mlp"]},
                "strategy": {"name": "fedmd", "average": "probabilities"},
                "rounds": 1,
            }
        )
    )


def ready_app(world: World) -> ClientApp:
    """Return the app of clients that send a matrix that is ready, and take a teacher."""
    app = ClientApp()
    values = np.full((READY_ROWS, work.CLASSES), 1 / work.CLASSES, np.float32)
    clients = list(world.shards)

    def shapes(dims: Any, with_rows: bool) -> Any:
        return world.behaviour.teacher(dims, world.settings, with_rows=with_rows)

    def reply(message: Message, context: Context, arrays: Any) -> Message:
        client = clients[int(context.node_config["partition-id"])]
        dims = world.dims(client)
        request = Request.unpack(message.content, world.transfer_hash, dims, shapes)
        expected = world.behaviour.contribution(dims.about(0), world.settings)
        return Message(Reply(request.binding, client, arrays=arrays).pack(expected), reply_to=message)

    @app.query()
    def who(message: Message, context: Context) -> Message:
        return i_am(clients[int(context.node_config["partition-id"])], message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return reply(message, context, {"values": values})

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return reply(message, context, None)

    return app


def _ready_rounds(world: World, grid: Grid, rounds: int) -> Seconds:
    setting = Setting(
        scenario=world.scenario,
        run="run",
        dims={client: world.dims(client) for client in world.shards},
        transfer=world.transfer_hash,
        input=world.federation.input,
    )
    strategy = world.strategy(world.config, setting)
    nothing, taken = (ArrayRecord(), ConfigRecord()), []
    for number in range(1, rounds + 1):
        begun = time.perf_counter()
        asked = strategy.configure_train(number, *nothing, grid)
        strategy.aggregate_train(number, grid.send_and_receive(asked, timeout=60))
        taught = strategy.configure_evaluate(number, *nothing, grid)
        strategy.aggregate_evaluate(number, grid.send_and_receive(taught, timeout=60))
        taken.append(time.perf_counter() - begun)
        accepted = [outcome.status for outcome in strategy.course.outcomes.values()]
        assert accepted == ["accepted"] * work.A_ROUND, accepted
    return taken


def ready_fedkt() -> Seconds:
    """The engine alone, on fedkt's grid."""
    from fedkt.engine.clients.app import prepare
    from fedkt.engine.runtimes.forked import ForkedHosts, can_fork
    from fedkt.engine.runtimes.resident import ResidentGrid

    world = ready_world()
    hosts = ForkedHosts(world, prepare, fork=can_fork())
    with closing(ResidentGrid(ready_app, [1.0] * work.A_ROUND, hosts, workers=PROCESSES)) as grid:
        return _ready_rounds(world, grid, 30)[10:]


def ready_flower() -> Seconds:
    """The engine alone, in Flower's runtime."""
    world, found = ready_world(), []
    _run_flower(ready_app(world), lambda grid: found.extend(_ready_rounds(world, grid, 7)), work.A_ROUND)
    return found[2:]


# Many clients ---------------------------------------------------------------------------------------------


class _Stops(Silent):
    """Notes how long rounds take, and interrupts a run after some: all clients are measured in the last."""

    def __init__(self, rounds: int) -> None:
        self.taken: Seconds = []
        self._rounds = rounds

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Note the seconds."""
        self.taken.append(float(row["wall_s"]))
        if len(self.taken) == self._rounds:
            raise KeyboardInterrupt


def many(
    clients: int, a_round: int, engine: dict[str, Any], rounds: int = 6, rows: int | None = None
) -> Seconds:
    """fedkt with a digits-sized perceptron of its own for each client, trained, fused and distilled.

    ``rows``: of each client; None: they share 200 000.
    """
    watch = _Stops(rounds)
    few = {} if rows is None else {"samples_per_client": rows, "min_samples": 1}
    data = {
        "dataset": f"benchmarks.engine.work:{'patches' if rows is None else 'many_patches'}",
        "partition": {"kind": "iid", "clients": clients, **few},
        "transfer": {"size": 100},
    }
    described = {
        "name": "many",
        "data": data,
        "clients": {
            "models": [{"name": "mlp", "width": 64}],
            "local": {"epochs": 1, "batch_size": 10, "steps": 2},
            "distill": {"epochs": 1, "batch_size": 50},
        },
        "strategy": {"name": "fedmd"},
        "rounds": rounds + 1,
        "participation": {"fraction": a_round / clients},
        "evaluate": {"every": 1000},
        "engine": {"kind": "processes", "workers": PROCESSES, **engine},
    }
    with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        run(scenario.from_dict(described), out=Path(folder) / "run", observer=watch)
    return watch.taken[1:]
