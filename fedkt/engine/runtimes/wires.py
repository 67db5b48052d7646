"""How a grid reaches the processes of its clients, and how these answer: over sockets on one machine.

A call of Ray's costs its processes several milliseconds of work, most of it in threads of Ray's own; one over
a socket a tenth of that. Calls of one line are answered in their order.
"""

import os
import pickle
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")
MakeApp = Callable[[Any], Any]
"""Makes the ``ClientApp`` of a process from what all of them share."""

PART, END, RAISED = b"+", b".", b"!"
"""What a frame begins with that brings a part of an answer, its end, or what was raised instead."""


class Dead(Exception):
    """The process at the other end is no more."""


@dataclass(eq=False)
class Answer:
    """What has come of a call: parts that nobody took yet, and once it is ``over`` its result."""

    parts: deque[bytes] = field(default_factory=deque)
    over: bool = False
    result: Any = None
    error: Exception | None = None


class Line(ABC):
    """The line to one process of clients, a :class:`~fedkt.engine.runtimes.resident.Resident` there."""

    machine = ""
    """Where it is: nodes move only between processes of one machine, whose disk they share."""

    @abstractmethod
    def begin(self, method: str, *args: Any) -> Any:
        """Call a method by its name; return what :meth:`finish` is told."""

    @abstractmethod
    def finish(self, begun: Any) -> Any:
        """Wait for a call; return its result. Raises what it raised, and Dead."""

    @abstractmethod
    def stream(self, method: str, *args: Any) -> Any:
        """Call a method that yields bytes; return what :meth:`more` is told."""

    @abstractmethod
    def more(self, stream: Any) -> bytes | None:
        """Return what a stream has yielded next, None at its end; empty where it has nothing yet.

        Raises what it raised, and Dead.
        """

    @abstractmethod
    def aside(self, function: Callable[[Any], T]) -> T:
        """Run a function of the app beside the calls, from any thread. Raises what it raised, and Dead."""

    @abstractmethod
    def move(self, nodes: Sequence[int], target: "Line") -> None:
        """Let the other end give nodes to that of a line of the same kind. Raises Dead where either is."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the other end."""


class Hosts(ABC):
    """Where the processes come from in which clients live."""

    @abstractmethod
    def start(self, make: MakeApp, nodes: int, count: int) -> list[Line]:
        """Start so many processes, each with an app for some of so many nodes."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all that was needed to start them."""

    def ready(self, streams: Sequence[tuple[Any, Any]], timeout: float) -> list[int]:
        """Return the streams (line, what it returned), by their place, that have something to say.

        Waits for the first at most ``timeout`` seconds.
        """
        return ready(streams, timeout)


class Session(ABC):
    """What a run's processes need for as long as it takes."""

    @abstractmethod
    def begin(self, world: Any) -> None:
        """Begin to prepare, once the run is known to be right; nothing that it writes is open yet."""

    @abstractmethod
    def workers(self) -> int:
        """Return how many processes the run has."""

    @abstractmethod
    def hosts(self, world: Any) -> Hosts:
        """Wait until processes can be started, and return what starts them."""

    @abstractmethod
    def end(self) -> None:
        """Begin to end all that was started; a second time is nothing."""


class Wire:
    """Calls over a socket to a process on this machine, one thread of which listens to it.

    ``line``: None until the process has called (:meth:`_welcome`).
    """

    def __init__(self, line: Connection | None) -> None:
        self._line = line
        self._unsent: list[bytes] = []
        self._calls: deque[Answer] = deque()

    def begin(self, method: str, *args: Any) -> Answer:
        """Call a method by its name; return what :meth:`finish` is told."""
        self._calls.append(answer := Answer())
        call = pickled((method, args))
        if self._line is None:
            self._unsent.append(call)
        else:
            self._send(call)
        return answer

    stream = begin

    def finish(self, begun: Answer) -> Any:
        """Wait for a call; return its result. Raises what it raised, and Dead."""
        while not begun.over:
            self.listen()
        if begun.error is not None:
            raise begun.error
        return begun.result

    def more(self, stream: Answer) -> bytes | None:
        """Return what a stream has yielded next, None at its end; empty where it has nothing yet."""
        if not stream.parts and not stream.over:
            self.listen()
        if stream.parts:
            part: bytes = stream.parts.popleft()
            return part
        if not stream.over:
            return b""
        self.finish(stream)
        return None

    def close(self) -> None:
        """Let go of the socket; who waits at it meanwhile hears that the other end is dead."""
        if self._line is not None:
            with suppress(OSError), socket.socket(fileno=os.dup(self._line.fileno())) as both:
                both.shutdown(socket.SHUT_RDWR)
            self._line.close()
        self._line = None

    @property
    def source(self) -> Any:
        """What becomes readable when something comes."""
        return self._line

    def listen(self) -> None:
        """Take in the next thing that comes. Raises Dead."""
        if self._line is None:
            self._welcome()
            return
        try:
            frame = self._line.recv_bytes()
        except (EOFError, OSError) as error:
            raise Dead("the process of some clients ended") from error
        kind, content = frame[:1], frame[1:]
        if kind == PART:
            self._calls[0].parts.append(content)
            return
        answer = self._calls.popleft()
        answer.over, found = True, pickle.loads(content)
        answer.result, answer.error = (found, None) if kind == END else (None, found)

    def begins(self) -> bool:
        """Whether the process has not called yet. Raises Dead where it never will."""
        return False

    def _welcome(self) -> None:
        """Wait until the process calls, and send it what waits."""
        raise Dead("the line is closed")

    def _send(self, call: bytes) -> None:
        try:
            assert self._line is not None
            self._line.send_bytes(call)
        except OSError:
            return  # it is dead, which is noticed where its answer is waited for


class SocketLine(Wire, Line):
    """A line that is a socket."""

    def move(self, nodes: Sequence[int], target: Line) -> None:
        target.finish(target.begin("take", self.finish(self.begin("give", nodes))))


def ready(streams: Sequence[tuple[Any, Any]], timeout: float) -> list[int]:
    """Do as :meth:`Hosts.ready` where all lines are wires."""
    said = [i for i, (_, stream) in enumerate(streams) if stream.parts or stream.over]
    if said:
        return said
    by_source = {line.source: i for i, (line, _) in enumerate(streams)}
    heard = [by_source[source] for source in wait([*by_source], timeout)]
    quiet = [i for i, (line, _) in enumerate(streams) if i not in heard and _never(line)]
    return [*heard, *quiet]


def _never(line: "Wire") -> bool:
    try:
        line.begins()
    except Dead:
        return True
    return False


def serve(owner: Any, line: Connection) -> None:
    """Answer the calls that come over a socket, by methods of an object, until nobody is there any more."""
    with line:
        while True:
            try:
                call = line.recv_bytes()
            except (EOFError, OSError):
                return
            try:
                method, args = pickle.loads(call)
                found = getattr(owner, method)(*args)
                if hasattr(found, "__next__"):
                    for part in found:
                        line.send_bytes(PART + part)
                    found = None
                frame = END + pickled(found)
            except Exception as error:
                frame = RAISED + _readable(error)
            line.send_bytes(frame)


def pickled(value: Any) -> bytes:
    """Pickle a value; by Ray's pickler, which is slower, where it holds what cannot be imported."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):
        from ray import cloudpickle

        found: bytes = cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
        return found


def _readable(error: Exception) -> bytes:
    """Pickle an exception, or one of the same words where it cannot be read again."""
    try:
        found = pickled(error)
        pickle.loads(found)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return found
