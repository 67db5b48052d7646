"""A Flower grid over long-lived processes that own their clients.

Each node belongs to one process for the whole run, so models, optimisers and data stay where they are and
only messages move. Any Flower ``Strategy`` and ``ClientApp`` works over it; nothing in it knows fedkt's.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flwr.app import Error, Message
from flwr.clientapp import ClientApp

from fedkt.engine.runtimes.flwr_internals import (
    FIRST_NODE,
    Contexts,
    HandsOver,
    LocalGrid,
    answer,
    number,
    opened,
    sealed,
)
from fedkt.engine.runtimes.journal import Journal
from fedkt.engine.runtimes.wires import Dead, Hosts, Line, MakeApp
from fedkt.engine.world.placement import balanced, evened

WAIT_S = 0.05
MOMENT_S = 0.02
"""How long replies may wait for each other: each transfer costs about a millisecond."""
MOST_TRIES = 3
"""The last one is made for each message alone: if one of several kills the process, only that one is lost."""
CLIENT_PROCESS_FAILED = 1001
"""Error code of a reply that could not be made: the process died each time, or the app raised."""

T = TypeVar("T")


class Resident:
    """One process: its nodes' contexts stay here between messages.

    It begins with what ``prepare`` does; ``shared``: what it has of that which all processes share.
    """

    def __init__(self, prepare: Callable[[], None] | None = None, shared: Any = None) -> None:
        self._shared = shared
        if prepare is not None:
            prepare()

    def settle(self, make: MakeApp, nodes: int, shared: Any = None) -> None:
        """Build the app, for some of so many nodes, of what is ``shared`` or already here."""
        self._app: ClientApp = make(self._shared if shared is None else shared)
        self._contexts = Contexts(nodes)

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

    def handle(self, envelope: bytes) -> Iterator[bytes]:
        """Run the app on messages, and yield the replies as they are ready, those of a moment together."""
        done: list[Message] = []
        told = time.monotonic()
        for replies in answer(self._app, opened(envelope), self._contexts, _error_reply):
            done += number(replies)
            if time.monotonic() - told >= MOMENT_S:
                yield sealed(done)
                done, told = [], time.monotonic()
        if done:
            yield sealed(done)

    def again(self, envelope: bytes) -> None:
        """Run the app on messages that a process answered which is no more, for what it then holds."""
        for _ in self.handle(envelope):
            pass

    def call(self, function: Callable[[Any], T]) -> T:
        """Run a function of the app in this process."""
        return function(self._app)


class ResidentGrid(LocalGrid):
    """Nodes dealt to ``workers`` processes, the heaviest first to the least loaded.

    ``make(shared)`` builds the app in each process, which ``hosts`` start. ``loads``: how much work each node
    is; ``units``: nodes, by their place in ``loads``, that have to be in one process at first (default:
    none). A process gets all its messages of one push in one call and streams the replies. Where the nodes
    that are asked are unevenly dealt, some move to another process of the same machine, whose disk it shares,
    with all that is held of them. One that dies is started again and what it has not answered is tried again.
    What it held in memory is lost, unless ``remember``: then it is also asked again what it answered since
    its states were :meth:`saved`, so that it holds the same states.
    """

    def __init__(
        self,
        make: MakeApp,
        loads: Sequence[float],
        hosts: Hosts,
        *,
        workers: int,
        units: Sequence[Sequence[int]] | None = None,
        remember: bool = False,
    ) -> None:
        super().__init__()
        self.make, self._hosts, self._nodes = make, hosts, len(loads)
        self._loads = loads
        self.bind(units or ())
        self._journal = Journal(remember)
        dealt = balanced([sum(loads[i] for i in unit) for unit in self._units], workers)
        homes = [[i for k in part for i in self._units[k]] for part in dealt if part]
        self._parts = [_Part(line, line.machine) for line in hosts.start(make, self._nodes, len(homes))]
        self._part_of = {
            FIRST_NODE + i: part for part, nodes in zip(self._parts, homes, strict=True) for i in nodes
        }
        self._replies: dict[str, Message] = {}
        self._until: dict[str, float] = {}
        """When a message's time is over, by a clock that nobody sets."""

    def bind(self, units: Sequence[Sequence[int]]) -> None:
        """Say which nodes, of one process each time, stay together from now on; all others may move alone."""
        bound = {i for unit in units for i in unit}
        self._units = [*units, *([i] for i in range(self._nodes) if i not in bound)]
        self._unit_of = {i: k for k, unit in enumerate(self._units) for i in unit}

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes."""
        return range(FIRST_NODE, FIRST_NODE + self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages to the processes of their nodes."""
        numbered = number(messages)
        self._collect(0.0)  # a process's next call starts once the end of its last one was taken
        if not any(call.messages for part in self._parts for call in part.queue):
            self._even_out([message.metadata.dst_node_id - FIRST_NODE for message in numbered])
        now = time.monotonic()
        self._until |= {message.metadata.message_id: now + message.metadata.ttl for message in numbered}
        self._journal.turn()
        for part in self._parts:
            mine = [m for m in numbered if self._part_of[m.metadata.dst_node_id] is part]
            if mine:
                part.queue.append(_Call(mine, self._journal.now))
                self._next(part)
        return [message.metadata.message_id for message in numbered]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there; wait a moment for the first."""
        wanted = list(message_ids)
        if not any(i in self._replies for i in wanted):
            self._collect(WAIT_S)
        return [self._replies.pop(i) for i in wanted if i in self._replies]

    def everywhere(self, function: Callable[[Any], T]) -> list[T]:
        """Run a function of the app in every process that holds something, and return the results.

        One that died meanwhile is started again. One that has just been started again and has nothing
        to be asked again holds nothing, and nobody waits for it.
        """
        found: list[T] = []
        asked = [(part, part.line.begin("call", function)) for part in self._parts if part.holds]
        for part, begun in asked:
            for _ in range(MOST_TRIES):
                try:
                    found.append(part.line.finish(begun))
                    break
                except Dead:
                    self._restart(part)
                    begun = part.line.begin("call", function) if part.holds else None
                    self._next(part)
                    if begun is None:
                        break
        return found

    def saved(
        self, begin: Callable[[Any], T], wait: Callable[[Any], None]
    ) -> tuple[list[T], Callable[[], bool]]:
        """Let every process ``begin`` to save its states; return the results, and what waits until all have.

        That runs ``wait`` in the processes beside their messages, may be called from any thread, and returns
        whether all that was held is saved: not where a process died, which holds it again by then. Raises
        what ``wait`` raised.
        """
        found, point = self.everywhere(begin), self._journal.now
        lines = [part.line for part in self._parts if part.holds]

        def all_saved() -> bool:
            try:
                for line in lines:
                    line.aside(wait)
            except Dead:
                return False
            self._journal.forget(point)
            return True

        return found, all_saved

    def somewhere(self, function: Callable[[Any], T]) -> T:
        """Run a function of the app in one process, and return its result."""
        line = self._parts[0].line
        result: T = line.finish(line.begin("call", function))
        return result

    def close(self) -> None:
        """Let go of all processes."""
        for part in self._parts:
            part.line.close()
        self._parts.clear()
        self._part_of.clear()
        self._hosts.close()

    def _even_out(self, asked: Sequence[int]) -> None:
        """Move nodes between a machine's processes, which are idle, so that all have as much to do."""
        work: dict[_Part, dict[int, float]] = {part: {} for part in self._parts}
        for i in asked:
            held, unit = work[self._part_of[FIRST_NODE + i]], self._unit_of[i]
            held[unit] = held.get(unit, 0.0) + self._loads[i]
        for machine in {part.machine: None for part in self._parts}:
            parts = [part for part in self._parts if part.machine == machine]
            for unit, source, target in evened([work[part] for part in parts]):
                self._move(self._units[unit], parts[source], parts[target])

    def _move(self, nodes: Sequence[int], source: "_Part", target: "_Part") -> None:
        """Move nodes; where a process is found dead they stay, and both are as if they had never been asked.

        Which of the two it was is not known, and what was on its way is lost.
        """
        try:
            source.line.move(nodes, target.line)
        except Dead:
            self._restart(source)
            self._restart(target)
            return
        target.holds = True
        self._part_of |= {FIRST_NODE + i: target for i in nodes}

    def _restart(self, part: "_Part") -> None:
        """Start a process anew; ask it again what it answered since its states were saved."""
        part.line.close()
        [part.line] = self._hosts.start(self.make, self._nodes, 1)
        part.stream = None
        again = self._journal.of(lambda node: self._part_of[node] is part)
        for messages in again:
            part.line.begin("again", sealed(messages))
        part.holds = bool(again)

    def _next(self, part: "_Part") -> None:
        """Give an idle process its next call."""
        if part.queue and part.stream is None:
            part.stream = part.line.stream("handle", sealed([*part.queue[0].messages.values()]))

    def _collect(self, wait_s: float) -> None:
        """Take in what the processes have ready; wait for the first replies at most ``wait_s``."""
        end, before = time.monotonic() + wait_s, len(self._replies)
        while busy := [part for part in self._parts if part.stream is not None]:
            waits = 0.0 if len(self._replies) > before else max(0.0, end - time.monotonic())
            heard = self._hosts.ready([(part.line, part.stream) for part in busy], waits)
            if not heard:
                return
            for i in heard:
                self._take(busy[i])

    def _take(self, part: "_Part") -> None:
        """Take the next replies of a process's stream, or its end."""
        call = part.queue[0]
        try:
            if (envelope := part.line.more(part.stream)) is not None:
                for reply in opened(envelope) if envelope else ():
                    part.holds = True
                    asked = call.messages.pop(reply.metadata.reply_to_message_id)
                    self._journal.note(asked, call.exchange)
                    self._keep(asked, reply)
                return
            part.queue.popleft()
        except Dead as error:
            part.queue.popleft()
            self._restart(part)
            self._again(part, call, error)
        except Exception as error:
            part.queue.popleft()
            self._refuse(call, error)
        part.stream = None
        self._next(part)

    def _again(self, part: "_Part", call: "_Call", error: Exception) -> None:
        """Try again what a dead process has not answered; the last time each message alone."""
        if call.tries >= MOST_TRIES:
            self._refuse(call, error)
        elif call.tries == MOST_TRIES - 1:
            part.queue.extendleft(
                _Call([m], call.exchange, MOST_TRIES) for m in reversed(call.messages.values())
            )
        elif call.messages:
            part.queue.appendleft(_Call(call.messages.values(), call.exchange, call.tries + 1))

    def _refuse(self, call: "_Call", error: Exception) -> None:
        for message in call.messages.values():
            self._keep(message, *number([_error_reply(message, error)]))

    def _keep(self, message: Message, reply: Message) -> None:
        """Keep a reply until it is pulled; nobody waits for one that comes after its message's time."""
        if time.monotonic() < self._until.pop(message.metadata.message_id, 0.0):
            self._replies[message.metadata.message_id] = reply


class _Call:
    """Messages for one process that are not answered yet, by their ids."""

    def __init__(self, messages: Iterable[Message], exchange: int, tries: int = 1) -> None:
        self.messages = {message.metadata.message_id: message for message in messages}
        self.exchange, self.tries = exchange, tries


@dataclass(eq=False)
class _Part:
    """One process: its calls (the first is running), and the stream of replies to that one."""

    line: Line
    machine: str
    holds: bool = True
    """Whether it may hold states: not between a new start and its first reply."""
    queue: deque[_Call] = field(default_factory=deque)
    stream: Any = None


def _error_reply(message: Message, error: Exception) -> Message:
    first = str(error).strip().partition("\n")[0]
    return Message(Error(CLIENT_PROCESS_FAILED, f"{type(error).__name__}: {first}"), reply_to=message)
