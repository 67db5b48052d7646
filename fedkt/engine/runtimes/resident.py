"""A Flower grid over long-lived Ray actors that own their clients.

Each node belongs to one actor for the whole run, so models, optimisers and data stay where they are and
only messages move. Any Flower ``Strategy`` and ``ClientApp`` works over it; nothing in it knows fedkt's.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from flwr.app import Error, Message
from flwr.clientapp import ClientApp

from fedkt.engine.runtimes.flwr_internals import (
    FIRST_NODE,
    Contexts,
    HandsOver,
    LocalGrid,
    answer,
    number,
)
from fedkt.engine.world.placement import balanced, evened
from fedkt.scenario import Engine

WAIT_S = 0.05
MOMENT_S = 0.02
"""How long replies may wait for each other: each transfer costs about a millisecond."""
MOST_TRIES = 3
"""The last one is made for each message alone: if one of several kills the actor, only that one is lost."""
ASIDE = "aside"
"""The group of an actor's calls that run beside its others."""
CLIENT_PROCESS_FAILED = 1001
"""Error code of a reply that could not be made: the actor died each time, or the app raised."""

T = TypeVar("T")
MakeApp = Callable[[Any], ClientApp]


class Resident:
    """One process: its nodes' contexts stay here between messages. It begins with what ``prepare`` does."""

    def __init__(self, prepare: Callable[[], None] | None = None) -> None:
        if prepare is not None:
            prepare()

    def settle(self, make: MakeApp, shared: Any, nodes: int) -> str:
        """Build the app, for some of so many nodes; return the machine's id."""
        self._app = make(shared)
        self._contexts = Contexts(nodes)
        machine: str = ray.get_runtime_context().get_node_id()
        return machine

    def give(self, partitions: Sequence[int]) -> Any:
        """Let nodes go: return their contexts and what the app holds of them."""
        nodes = [FIRST_NODE + i for i in partitions]
        contexts = {node: self._contexts.pop(node) for node in nodes if node in self._contexts}
        return contexts, self._app.give(partitions) if isinstance(self._app, HandsOver) else None

    def take(self, given: Any) -> None:
        """Take in nodes that another process gave."""
        contexts, held = given
        self._contexts.update(contexts)
        if isinstance(self._app, HandsOver):
            self._app.take(held)

    def handle(self, messages: Sequence[Message]) -> Iterator[list[Message]]:
        """Run the app on messages, and yield the replies as they are ready, those of a moment together."""
        ready: list[Message] = []
        told = time.monotonic()
        for replies in answer(self._app, messages, self._contexts, _error_reply):
            ready += number(replies)
            if time.monotonic() - told >= MOMENT_S:
                yield ready
                ready, told = [], time.monotonic()
        if ready:
            yield ready

    def call(self, function: Callable[[Any], T]) -> T:
        """Run a function of the app in this process."""
        return function(self._app)

    @ray.method(concurrency_group=ASIDE)
    def aside(self, function: Callable[[Any], T]) -> T:
        """Do so in a thread of its own, beside the messages at work."""
        return function(self._app)


def host(engine: Engine, prepare: Callable[[], None] | None = None) -> Any:
    """Start a process for clients, which prepares itself before anybody lives there."""
    actor: Any = ray.remote(concurrency_groups={ASIDE: 1})(Resident)  # type: ignore[call-overload]
    return actor.options(num_cpus=engine.cpus, num_gpus=engine.gpus).remote(prepare)


class RayGrid(LocalGrid):
    """Nodes dealt to ``workers`` actors, the heaviest first to the least loaded.

    ``make(shared)`` builds the app in each actor; ``shared`` is stored once per machine in Ray's object
    store. ``start`` makes a host; ``hosts``: those that were made before. ``loads``: how much work each node
    is; ``units``: nodes, by their place in ``loads``, that have to
    be in one actor at first (default: none). An actor gets all its messages of one push in one call and
    streams the replies. Where the nodes that are asked are unevenly dealt, some move to another actor of the
    same machine, whose disk it shares, with all that is held of them. An actor that dies is started again and
    what it has not answered is tried again; what it held in memory is lost.
    """

    def __init__(
        self,
        make: MakeApp,
        shared: Any,
        loads: Sequence[float],
        *,
        workers: int,
        start: Callable[[], Any],
        hosts: Sequence[Any] = (),
        units: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self._start_host, free = start, list(hosts)
        self.make, self._nodes = make, len(loads)
        self._shared: Any = ray.put(shared)
        self._loads = loads
        self.bind(units or ())
        dealt = balanced([sum(loads[i] for i in unit) for unit in self._units], workers)
        homes = [(_Part(), [i for k in part for i in self._units[k]]) for part in dealt if part]
        self._parts = [part for part, _ in homes]
        self._part_of = {FIRST_NODE + i: part for part, nodes in homes for i in nodes}
        machines = []
        for part in self._parts:
            part.actor = free.pop() if free else start()
            machines.append(self._settle(part))
        self._replies: dict[str, Message] = {}
        self._until: dict[str, float] = {}
        """When a message's time is over, by a clock that nobody sets."""
        for part, machine in zip(self._parts, ray.get(machines), strict=True):
            part.machine = machine

    def bind(self, units: Sequence[Sequence[int]]) -> None:
        """Say which nodes, of one actor each time, stay together from now on; all others may move alone."""
        bound = {i for unit in units for i in unit}
        self._units = [*units, *([i] for i in range(self._nodes) if i not in bound)]
        self._unit_of = {i: k for k, unit in enumerate(self._units) for i in unit}

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return range(FIRST_NODE, FIRST_NODE + self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages to the actors of their nodes."""
        numbered = number(messages)
        self._collect(0.0)  # an actor's next call starts once the end of its last one was taken
        if not any(call.messages for part in self._parts for call in part.queue):
            self._even_out([message.metadata.dst_node_id - FIRST_NODE for message in numbered])
        now = time.monotonic()
        self._until |= {message.metadata.message_id: now + message.metadata.ttl for message in numbered}
        for part in self._parts:
            mine = [m for m in numbered if self._part_of[m.metadata.dst_node_id] is part]
            if mine:
                part.queue.append(_Call(mine))
                self._next(part)
        return [message.metadata.message_id for message in numbered]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there; wait a moment for the first."""
        wanted = list(message_ids)
        if not any(i in self._replies for i in wanted):
            self._collect(WAIT_S)
        return [self._replies.pop(i) for i in wanted if i in self._replies]

    def everywhere(self, function: Callable[[Any], T]) -> list[T]:
        """Run a function of the app in every actor that holds something, and return the results.

        An actor that died meanwhile is started again, and has none. One that has just been started again
        holds nothing yet, and nobody waits for it.
        """
        found: list[T] = []
        asked = [(part, part.actor.call.remote(function)) for part in self._parts if part.holds]
        for part, reference in asked:
            try:
                found.append(ray.get(reference))
            except ray.exceptions.RayActorError:
                self._restart(part)
        return found

    def aside(self, function: Callable[[Any], None]) -> None:
        """Run a function of the app in every actor beside its messages; wait until all are done.

        May be called from any thread. One of a dead actor is as lost as what that held. Raises what the
        function raised.
        """
        for reference in [part.actor.aside.remote(function) for part in self._parts]:
            try:
                ray.get(reference)
            except ray.exceptions.RayActorError:
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error

    def somewhere(self, function: Callable[[Any], T]) -> T:
        """Run a function of the app in one actor, and return its result."""
        result: T = ray.get(self._parts[0].actor.call.remote(function))
        return result

    def close(self) -> None:
        """Let go of all that is Ray's: dropped while another thread ends Ray, it would end this process."""
        self._parts.clear()
        self._part_of.clear()
        self._shared = None

    def _even_out(self, asked: Sequence[int]) -> None:
        """Move nodes between a machine's actors, which are idle, so that all have as much to do."""
        work: dict[_Part, dict[int, float]] = {part: {} for part in self._parts}
        for i in asked:
            held, unit = work[self._part_of[FIRST_NODE + i]], self._unit_of[i]
            held[unit] = held.get(unit, 0.0) + self._loads[i]
        for machine in {part.machine: None for part in self._parts}:
            parts = [part for part in self._parts if part.machine == machine]
            for unit, source, target in evened([work[part] for part in parts]):
                self._move(self._units[unit], parts[source], parts[target])

    def _move(self, nodes: Sequence[int], source: "_Part", target: "_Part") -> None:
        target.actor.take.remote(source.actor.give.remote(nodes))
        target.holds = True
        self._part_of |= {FIRST_NODE + i: target for i in nodes}

    def _restart(self, part: "_Part") -> None:
        part.actor, part.holds = self._start_host(), False
        self._settle(part)

    def _settle(self, part: "_Part") -> Any:
        return part.actor.settle.remote(self.make, self._shared, self._nodes)

    def _next(self, part: "_Part") -> None:
        """Give an idle actor its next call."""
        if part.queue and part.stream is None:
            call = part.queue[0]
            part.stream = part.actor.handle.options(num_returns="streaming").remote(
                list(call.messages.values())
            )

    def _collect(self, wait_s: float) -> None:
        """Take in what the actors have ready; wait for the first replies at most ``wait_s``."""
        end, before = time.monotonic() + wait_s, len(self._replies)
        while busy := {part.stream: part for part in self._parts if part.stream is not None}:
            ready, _ = ray.wait(list(busy), num_returns=len(busy), timeout=0)
            if not ready and len(self._replies) == before:
                ready, _ = ray.wait(list(busy), num_returns=1, timeout=max(0.0, end - time.monotonic()))
            if not ready:
                return
            for stream in ready:
                self._take(busy[stream])

    def _take(self, part: "_Part") -> None:
        """Take the next replies of an actor's stream, or its end."""
        call = part.queue[0]
        try:
            part.holds = True
            for reply in ray.get(next(part.stream)):
                self._keep(call.messages.pop(reply.metadata.reply_to_message_id), reply)
            return
        except StopIteration:
            part.queue.popleft()
        except ray.exceptions.RayActorError as error:
            self._restart(part)
            part.queue.popleft()
            self._again(part, call, error)
        except ray.exceptions.RayError as error:
            part.queue.popleft()
            self._refuse(call, error)
        part.stream = None
        self._next(part)

    def _again(self, part: "_Part", call: "_Call", error: Exception) -> None:
        """Try again what a dead actor has not answered; the last time each message alone."""
        if call.tries >= MOST_TRIES:
            self._refuse(call, error)
        elif call.tries == MOST_TRIES - 1:
            part.queue.extendleft(_Call([m], MOST_TRIES) for m in reversed(call.messages.values()))
        elif call.messages:
            part.queue.appendleft(_Call(call.messages.values(), call.tries + 1))

    def _refuse(self, call: "_Call", error: Exception) -> None:
        for message in call.messages.values():
            self._keep(message, *number([_error_reply(message, error)]))

    def _keep(self, message: Message, reply: Message) -> None:
        """Keep a reply until it is pulled; nobody waits for one that comes after its message's time."""
        if time.monotonic() < self._until.pop(message.metadata.message_id, 0.0):
            self._replies[message.metadata.message_id] = reply


class _Call:
    """Messages for one actor that are not answered yet, by their ids."""

    def __init__(self, messages: Iterable[Message], tries: int = 1) -> None:
        self.messages = {message.metadata.message_id: message for message in messages}
        self.tries = tries


@dataclass(eq=False)
class _Part:
    """One actor: its calls (the first is running), and the replies to that one."""

    actor: Any = None
    machine: str = ""
    holds: bool = True
    """Whether it may hold states: not between a new start and its first reply."""
    queue: deque[_Call] = field(default_factory=deque)
    stream: Any = None


def _error_reply(message: Message, error: Exception) -> Message:
    first = str(error).strip().partition("\n")[0]
    return Message(Error(CLIENT_PROCESS_FAILED, f"{type(error).__name__}: {first}"), reply_to=message)
