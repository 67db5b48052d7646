"""A Flower grid over long-lived Ray actors that own their clients.

Each node belongs to one actor for the whole run, so models, optimisers and data stay where they are and
only messages move. Any Flower ``Strategy`` and ``ClientApp`` works over it; nothing in it knows fedkt's.
"""

import heapq
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from flwr.app import Error, Message
from flwr.clientapp import ClientApp

from fedkt.engine.flwr_runtime import FIRST_NODE, LocalGrid, node_context, number
from fedkt.errors import InputError
from fedkt.scenario import Engine

WAIT_S = 0.05
MOST_TRIES = 2
CLIENT_PROCESS_FAILED = 1001
"""Error code of a reply that could not be made: the actor died each time, or the app raised."""

MakeApp = Callable[[Any], ClientApp]


class Resident:
    """One process: its nodes' contexts stay here between messages."""

    def __init__(self, make: MakeApp, shared: Any, partitions: Sequence[int], nodes: int) -> None:
        self._app = make(shared)
        self._contexts = {FIRST_NODE + i: node_context(i, nodes) for i in partitions}

    def ready(self) -> None:
        """Return once the process is up and its app is built."""

    def handle(self, message: Message) -> Message:
        """Run the app on one message."""
        return self._app(message, self._contexts[message.metadata.dst_node_id])

    def call(self, function: Callable[[], None]) -> None:
        """Run a function in this process."""
        function()


class RayGrid(LocalGrid):
    """Nodes dealt to ``workers`` actors, the heaviest first to the least loaded.

    ``make(shared)`` builds the app in each actor; ``shared`` is stored once per machine in Ray's object
    store. ``loads``: how much work each node is. An actor that dies is started again and its messages are
    tried once more; what it held in memory is lost.
    """

    def __init__(
        self, make: MakeApp, shared: Any, loads: Sequence[float], *, workers: int, cpus: float, gpus: float
    ) -> None:
        super().__init__()
        self._remote = ray.remote(Resident).options(num_cpus=cpus, num_gpus=gpus)
        self._make, self._shared, self._nodes = make, ray.put(shared), len(loads)
        self._parts = [part for part in balanced(loads, workers) if part]
        self._part_of = {FIRST_NODE + i: k for k, part in enumerate(self._parts) for i in part}
        self._actors: list[Any] = [self._start(part) for part in self._parts]
        self._waiting: dict[Any, _Sent] = {}
        ray.get([actor.ready.remote() for actor in self._actors])

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return sorted(self._part_of)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages to the actors of their nodes."""
        numbered = number(messages)
        for message in numbered:
            self._send(message, tries=1)
        return [message.metadata.message_id for message in numbered]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there; wait a moment for the first."""
        wanted = set(message_ids)
        references = [r for r, sent in self._waiting.items() if sent.message.metadata.message_id in wanted]
        if not references:
            return []
        ready, _ = ray.wait(references, num_returns=1, timeout=WAIT_S)
        if ready:
            ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return number(reply for reply in map(self._reply, ready) if reply is not None)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and wait for all replies."""
        waiting = set(self.push_messages(messages))
        end = math.inf if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and time.monotonic() < end:
            replies += (pulled := list(self.pull_messages(waiting)))
            waiting -= {reply.metadata.reply_to_message_id for reply in pulled}
        return replies

    def everywhere(self, function: Callable[[], None]) -> None:
        """Run a function in every actor, and wait for it; one that died meanwhile is started again."""
        for part, reference in enumerate([actor.call.remote(function) for actor in self._actors]):
            try:
                ray.get(reference)
            except ray.exceptions.RayActorError:
                self._actors[part] = self._start(self._parts[part])

    def _start(self, part: Sequence[int]) -> Any:
        return self._remote.remote(self._make, self._shared, part, self._nodes)

    def _send(self, message: Message, tries: int) -> None:
        actor = self._actors[self._part_of[message.metadata.dst_node_id]]
        self._waiting[actor.handle.remote(message)] = _Sent(message, actor, tries)

    def _reply(self, reference: Any) -> Message | None:
        """Return the reply; None where the actor died and the message was sent again."""
        sent = self._waiting.pop(reference)
        try:
            reply: Message = ray.get(reference)
            return reply
        except ray.exceptions.RayActorError as error:
            part = self._part_of[sent.message.metadata.dst_node_id]
            if self._actors[part] is sent.actor:
                self._actors[part] = self._start(self._parts[part])
            if sent.tries < MOST_TRIES:
                self._send(sent.message, sent.tries + 1)
                return None
            return _error_reply(sent.message, error)
        except ray.exceptions.RayError as error:
            return _error_reply(sent.message, error)


@dataclass(frozen=True)
class _Sent:
    message: Message
    actor: Any
    tries: int


def _error_reply(message: Message, error: Exception) -> Message:
    first = str(error).strip().partition("\n")[0]
    return Message(Error(CLIENT_PROCESS_FAILED, first), reply_to=message)


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
