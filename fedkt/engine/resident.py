"""A Flower grid over long-lived Ray actors that own their clients.

Each node belongs to one actor for the whole run, so models, optimisers and data stay where they are and
only messages move. Any Flower ``Strategy`` and ``ClientApp`` works over it; nothing in it knows fedkt's.
"""

import heapq
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedkt.engine.flwr_runtime import FIRST_NODE, become_server, number
from fedkt.errors import InputError
from fedkt.scenario import Engine

WAIT_S = 0.05
CLIENT_PROCESS_DIED = 1001
"""Error code of a reply that could not be made: the actor died twice over the same message."""

MakeApp = Callable[[Any], ClientApp]


class Resident:
    """One process: its nodes' contexts stay here between messages."""

    def __init__(self, make: MakeApp, shared: list[Any], partitions: dict[int, int], nodes: int) -> None:
        # In a list, so that Ray hands over the reference: it stays valid when the actor is started again.
        self._app = make(ray.get(shared[0]))
        self._contexts = {
            node: Context(
                1, node, UserConfig({"partition-id": i, "num-partitions": nodes}), RecordDict(), UserConfig()
            )
            for node, i in partitions.items()
        }

    def ready(self) -> None:
        """Return once the process is up and its app is built."""

    def handle(self, message: Message) -> Message:
        """Run the app on one message."""
        return self._app(message, self._contexts[message.metadata.dst_node_id])

    def call(self, function: Callable[[], None]) -> None:
        """Run a function in this process."""
        function()


class RayGrid(Grid):
    """Nodes dealt to ``workers`` actors, the heaviest first to the least loaded.

    ``make(shared)`` builds the app in each actor; ``shared`` is stored once per machine in Ray's object
    store. ``loads``: how much work each node is. An actor that dies is started again and its message is
    tried once more; what it held in memory is lost.
    """

    def __init__(
        self, make: MakeApp, shared: Any, loads: Sequence[float], *, workers: int, cpus: float, gpus: float
    ) -> None:
        self._run = become_server()
        remote = ray.remote(Resident).options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=1
        )
        self._shared = ray.put(shared)  # held as long as actors may be started again
        parts = [part for part in balanced(loads, workers) if part]
        self._actors: list[Any] = [
            remote.remote(make, [self._shared], {FIRST_NODE + i: i for i in part}, len(loads))
            for part in parts
        ]
        self._home = {
            FIRST_NODE + i: actor for part, actor in zip(parts, self._actors, strict=True) for i in part
        }
        self._waiting: dict[Any, Message] = {}
        ray.get([actor.ready.remote() for actor in self._actors])

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return sorted(self._home)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages to the actors of their nodes."""
        numbered = number(messages)
        for message in numbered:
            reference = self._home[message.metadata.dst_node_id].handle.remote(message)
            self._waiting[reference] = message
        return [message.metadata.message_id for message in numbered]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there; wait a moment for the first."""
        wanted = set(message_ids)
        open_: list[Any] = [
            r for r, message in self._waiting.items() if message.metadata.message_id in wanted
        ]
        if not open_:
            return []
        ready, _ = ray.wait(open_, num_returns=1, timeout=WAIT_S)
        if ready:
            ready, _ = ray.wait(open_, num_returns=len(open_), timeout=0)
        return number(self._reply(reference) for reference in ready)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for all replies."""
        ids = list(self.push_messages(messages))
        wanted: list[Any] = [
            r for r, message in self._waiting.items() if message.metadata.message_id in set(ids)
        ]
        ray.wait(wanted, num_returns=len(wanted), timeout=timeout)
        return list(self.pull_messages(ids))

    def everywhere(self, function: Callable[[], None]) -> None:
        """Run a function in every actor, and wait for it."""
        ray.get([actor.call.remote(function) for actor in self._actors])

    def _reply(self, reference: Any) -> Message:
        message = self._waiting.pop(reference)
        try:
            reply: Message = ray.get(reference)
            return reply
        except ray.exceptions.RayError as error:
            first = str(error).strip().partition("\n")[0]
            return Message(Error(CLIENT_PROCESS_DIED, first), reply_to=message)


def balanced(loads: Sequence[float], parts: int) -> list[list[int]]:
    """Deal items to parts, the heaviest first, each to the part with the least load so far."""
    heap = [(0.0, part) for part in range(parts)]
    dealt: list[list[int]] = [[] for _ in range(parts)]
    for item in sorted(range(len(loads)), key=lambda i: (-loads[i], i)):
        load, part = heapq.heappop(heap)
        dealt[part].append(item)
        heapq.heappush(heap, (load + loads[item], part))
    return dealt


def worker_count(engine: Engine) -> int:
    """Return how many actors ``workers: auto`` means: one per processor, or as many as share the GPUs."""
    if engine.workers != "auto":
        return engine.workers
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    by_cpu = int(resources.get("CPU", 1) / engine.cpus)
    by_gpu = int(resources.get("GPU", 0) / engine.gpus) if engine.gpus else by_cpu
    return max(1, min(by_cpu, by_gpu))


@contextmanager
def ray_session(engine: Engine) -> Iterator[None]:
    """Start Ray, or join the cluster at ``engine.address``; leave it as it was found."""
    if ray.is_initialized():
        yield
        return
    import logging

    paths = [*sys.path, os.environ.get("PYTHONPATH", "")]
    options: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        # Workers import the user's modules (package.module:name) from where this process does.
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}},
    }
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if engine.address is not None:
        options["address"] = engine.address
        os.environ.setdefault("RAY_gcs_rpc_server_connect_timeout_s", "5")
    else:
        options |= resources_for(engine)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at engine.address {engine.address}; start one with 'ray start --head', "
            "or leave engine.address out."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def resources_for(engine: Engine) -> dict[str, int]:
    """Return the processors and GPUs to give a Ray of one's own, where the number of workers is set."""
    if engine.workers == "auto":
        return {"num_cpus": max(1, os.cpu_count() or 1)}
    return {
        "num_cpus": max(1, round(engine.workers * engine.cpus)),
        "num_gpus": max(0, round(engine.workers * engine.gpus)),
    }
