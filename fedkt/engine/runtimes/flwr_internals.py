"""The one place that touches Flower's internals (tested with flwr 1.41).

Outside Flower's runtime a ``Message`` takes its run and node from ``TaskIdentity``, and nobody gives it
the message id that replies refer to.
"""

import math
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable
from uuid import uuid4

# Flower reads this when it is imported.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

SERVER_NODE = 1
FIRST_NODE = 100


def become_server() -> Run:
    """Give this process an identity, so that it can make messages; return the run that it has."""
    TaskIdentity.run_id = 1
    TaskIdentity.task_id = 1
    TaskIdentity.node_id = SERVER_NODE
    return Run.create_empty(run_id=1)


def number(messages: Iterable[Message]) -> list[Message]:
    """Give each message the id that its reply will refer to."""
    numbered = list(messages)
    for message in numbered:
        fields: dict[str, Any] = message.metadata.__dict__
        fields["_message_id"] = uuid4().hex
    return numbered


def sealed(messages: Sequence[Message]) -> bytes:
    """Return messages as one envelope, in which what several of them hold in common is there once.

    They are of importable classes, for which Ray's own pickler takes three times as long as Python's.
    """
    return pickle.dumps(messages, pickle.HIGHEST_PROTOCOL)


def opened(envelope: bytes) -> list[Message]:
    """Return the messages of an envelope that was sealed by this run."""
    messages: list[Message] = pickle.loads(envelope)
    return messages


def seats(clients: Sequence[str]) -> dict[int, str]:
    """Return which client each node of a local grid plays."""
    return {FIRST_NODE + i: client for i, client in enumerate(clients)}


def node_context(partition: int, partitions: int) -> Context:
    """Return what the app of a simulated node gets beside its messages."""
    config = UserConfig({"partition-id": partition, "num-partitions": partitions})
    return Context(1, FIRST_NODE + partition, config, RecordDict(), UserConfig())


class Contexts(dict[int, Context]):
    """What the app of each simulated node gets beside its messages: made when it is first asked for."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self._nodes = nodes

    def __missing__(self, node: int) -> Context:
        self[node] = found = node_context(node - FIRST_NODE, self._nodes)
        return found


@runtime_checkable
class ManyAtOnce(Protocol):
    """A ``ClientApp`` that can answer several messages together."""

    def batches(
        self, messages: Sequence[Message], contexts: Mapping[int, Context]
    ) -> Iterator[list[Message]]:
        """Answer messages; yield the replies as they are ready, in any order."""
        ...


@runtime_checkable
class HandsOver(Protocol):
    """A ``ClientApp`` that holds something of its nodes and can hand it to the same app elsewhere."""

    def give(self, partitions: Sequence[int]) -> Any:
        """Let nodes go: return what is held of them."""
        ...

    def take(self, held: Any) -> None:
        """Hold what :meth:`give` returned elsewhere."""
        ...


def answer(
    app: ClientApp,
    messages: Sequence[Message],
    contexts: Mapping[int, Context],
    failed: Callable[[Message, Exception], Message] | None = None,
) -> Iterator[list[Message]]:
    """Run any app on messages; yield the replies as they are ready.

    ``failed`` makes the reply where a plain app raises; without it the exception is raised here.
    """
    if isinstance(app, ManyAtOnce):
        yield from app.batches(messages, contexts)
        return
    for message in messages:
        try:
            yield [app(message, contexts[message.metadata.dst_node_id])]
        except Exception as error:
            if failed is None:
                raise
            yield [failed(message, error)]


class PulledGrid(Grid):
    """What fedkt's own grids have in common: messages are pushed, and replies pulled until all came."""

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

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages; return the replies, all of them or those that came in time."""
        waiting = set(self.push_messages(messages))
        end = math.inf if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while waiting and time.monotonic() < end:
            replies += (pulled := list(self.pull_messages(waiting)))
            waiting -= {reply.metadata.reply_to_message_id for reply in pulled}
        return replies


class LocalGrid(PulledGrid):
    """A grid without Flower's runtime: this process is the server, and of one run only."""

    def __init__(self) -> None:
        self._run = become_server()

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run
