"""How a grid reaches the processes of its clients: by Ray's calls, or on one machine by sockets.

A call of Ray's costs its processes several milliseconds of work, most of it in threads of Ray's own; one over
a socket a tenth of that. Calls of one line are answered in their order.
"""

import pickle
import socket
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

PART, END, RAISED = b"+", b".", b"!"
"""What a frame begins with that brings a part of an answer, its end, or what was raised instead."""
LONGEST_PATH = 80
"""Characters of a folder in which a socket may be: the system allows some 100 for its whole path."""
KNOCKS_S = 0.5
"""How often it is looked whether a process died that has not called yet."""


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
    """The line to one actor of Ray's, whose methods are called by name."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    @abstractmethod
    def begin(self, method: str, *args: Any) -> Any:
        """Call a method; return what :meth:`finish` is told."""

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
    def move(self, nodes: Sequence[int], target: "Line") -> None:
        """Let the other end give nodes to that of a line of the same kind. Raises Dead where either is."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all that is Ray's."""


class RayLine(Line):
    """A line of Ray's own, which reaches other machines."""

    def begin(self, method: str, *args: Any) -> Any:
        return getattr(self.actor, method).remote(*args)

    def finish(self, begun: Any) -> Any:
        try:
            return ray.get(begun)
        except ray.exceptions.RayActorError as error:
            raise Dead(str(error)) from error
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def stream(self, method: str, *args: Any) -> Any:
        return getattr(self.actor, method).options(num_returns="streaming").remote(*args)

    def more(self, stream: Any) -> bytes | None:
        try:
            return bytes(ray.get(next(stream)))
        except StopIteration:
            return None
        except ray.exceptions.RayActorError as error:
            raise Dead(str(error)) from error

    def move(self, nodes: Sequence[int], target: Line) -> None:
        target.finish(target.begin("take", self.begin("give", nodes)))

    def close(self) -> None:
        self.actor = None


class SocketLine(Line):
    """A socket to a process on this machine, which listens to it in its main thread."""

    def __init__(self, actor: Any, folder: Path) -> None:
        super().__init__(actor)
        self._path = Path(tempfile.mktemp(dir=folder))
        self._door: socket.socket | None = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._path))
        self._door.listen(1)
        self._serving = actor.serve.remote(str(self._path))
        self._line: Connection | None = None
        self._unsent: list[bytes] = []
        self._calls: deque[Answer] = deque()

    def begin(self, method: str, *args: Any) -> Answer:
        self._calls.append(answer := Answer())
        call = cloudpickle.dumps((method, args), pickle.HIGHEST_PROTOCOL)  # type: ignore[no-untyped-call]
        if self._line is None:
            self._unsent.append(call)
        else:
            self._send(call)
        return answer

    stream = begin

    def finish(self, begun: Answer) -> Any:
        while not begun.over:
            self.listen()
        if begun.error is not None:
            raise begun.error
        return begun.result

    def more(self, stream: Answer) -> bytes | None:
        if not stream.parts and not stream.over:
            self.listen()
        if stream.parts:
            part: bytes = stream.parts.popleft()
            return part
        if not stream.over:
            return b""
        self.finish(stream)
        return None

    def move(self, nodes: Sequence[int], target: Line) -> None:
        target.finish(target.begin("take", self.finish(self.begin("give", nodes))))

    def close(self) -> None:
        for end in (self._line, self._door):
            if end is not None:
                end.close()
        self._path.unlink(missing_ok=True)
        with suppress(Exception):
            ray.get(self._serving, timeout=0)  # else Ray tells of an error that nobody asked for
        self._line = self._door = self._serving = self.actor = None

    @property
    def source(self) -> Any:
        """What becomes readable when something comes."""
        return self._door if self._line is None else self._line

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
        if self._line is None and ray.wait([self._serving], timeout=0)[0]:
            raise Dead("the process of some clients ended before it began")
        return self._line is None

    def _welcome(self) -> None:
        assert self._door is not None
        while not wait([self._door], KNOCKS_S):
            self.begins()
        caller, _ = self._door.accept()
        self._line = Connection(caller.detach())
        self._door.close()
        unsent, self._unsent = self._unsent, []
        for call in unsent:
            self._send(call)

    def _send(self, call: bytes) -> None:
        assert self._line is not None
        try:
            self._line.send_bytes(call)
        except OSError:
            return  # it is dead, which is noticed where its answer is waited for


def sockets_for(machines: Sequence[str]) -> "tempfile.TemporaryDirectory[str] | None":
    """Return where the sockets of these machines' processes are; None where they are not all of this one.

    Only this user may enter.
    """
    here: str = ray.get_runtime_context().get_node_id()
    if set(machines) != {here}:
        return None
    folder = tempfile.TemporaryDirectory(prefix="fedkt-", ignore_cleanup_errors=True)
    if len(folder.name) > LONGEST_PATH:
        folder.cleanup()
        return None
    return folder


def ready(streams: Sequence[tuple[Line, Any]], timeout: float) -> list[int]:
    """Return the streams, by their place, that have something to say; wait for the first at most so long."""
    if all(isinstance(line, RayLine) for line, _ in streams):
        held = {stream: i for i, (_, stream) in enumerate(streams)}
        found, _ = ray.wait([*held], num_returns=len(held), timeout=0)
        if not found and timeout > 0:
            found, _ = ray.wait([*held], num_returns=1, timeout=timeout)
        return [held[stream] for stream in found]
    said = [i for i, (_, stream) in enumerate(streams) if stream.parts or stream.over]
    if said:
        return said
    by_source = {line.source: i for i, (line, _) in enumerate(streams) if isinstance(line, SocketLine)}
    heard = [by_source[source] for source in wait([*by_source], timeout)]
    quiet = [i for i, (line, _) in enumerate(streams) if i not in heard and _never(line)]
    return [*heard, *quiet]


def _never(line: Line) -> bool:
    try:
        assert isinstance(line, SocketLine)
        line.begins()
    except Dead:
        return True
    return False


def serve(owner: Any, path: str) -> None:
    """Answer the calls that come over a socket, by methods of an object, until nobody is there any more."""
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(path)
    with Connection(caller.detach()) as line:
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
                frame = END + cloudpickle.dumps(found)  # type: ignore[no-untyped-call]
            except Exception as error:
                frame = RAISED + _pickled(error)
            line.send_bytes(frame)


def _pickled(error: Exception) -> bytes:
    """Pickle an exception, or one of the same words where it cannot be read again."""
    try:
        found: bytes = cloudpickle.dumps(error)  # type: ignore[no-untyped-call]
        pickle.loads(found)
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return found
