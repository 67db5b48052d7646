"""Processes that Ray starts: actors, reached by Ray's calls or, where all are on one machine, by sockets."""

import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

import ray

from fedkt.engine.runtimes.resident import Resident
from fedkt.engine.runtimes.wires import Dead, Hosts, Line, MakeApp, SocketLine, serve
from fedkt.scenario import Engine

ASIDE = "aside"
"""The group of an actor's calls that run beside its others."""
LONGEST_PATH = 80
"""Characters of a folder in which a socket may be: the system allows some 100 for its whole path."""
KNOCKS_S = 0.5
"""How often it is looked whether a process died that has not called yet."""

T = TypeVar("T")


class Actor(Resident):
    """A process of clients that Ray starts."""

    def where(self) -> str:
        """Return the machine's id."""
        machine: str = ray.get_runtime_context().get_node_id()
        return machine

    def serve(self, path: str) -> None:
        """Answer what comes over a socket, until nobody is at its other end."""
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(path)
        serve(self, Connection(caller.detach()))


def host(engine: Engine, prepare: Callable[[], None] | None = None) -> Any:
    """Start an actor, which prepares itself before anybody lives there."""
    actor: Any = ray.remote(concurrency_groups={ASIDE: 1})(Actor)  # type: ignore[call-overload]
    return actor.options(num_cpus=engine.cpus, num_gpus=engine.gpus).remote(prepare)


class RayHosts(Hosts):
    """Ray's actors. ``shared`` is stored once per machine in Ray's object store; ``start`` makes an actor;
    ``there``: those that were made before."""

    def __init__(self, shared: Any, start: Callable[[], Any], there: Sequence[Any] = ()) -> None:
        self._shared: Any = ray.put(shared)
        self._start, self._there = start, list(there)
        self._machines: list[str] = []
        """Of the first actors."""
        self._sockets: tempfile.TemporaryDirectory[str] | None = None

    def start(self, make: MakeApp, nodes: int, count: int) -> list[Line]:
        actors = [self._there.pop() if self._there else self._start() for _ in range(count)]
        for actor in actors:
            actor.settle.remote(make, nodes, self._shared)
        if not self._machines:
            self._machines = ray.get([actor.where.remote() for actor in actors])
            self._sockets = sockets_for(self._machines)
        lines = [self._line_to(actor) for actor in actors]
        for line, machine in zip(lines, self._machines, strict=False):
            line.machine = machine
        return lines

    def ready(self, streams: Sequence[tuple[Any, Any]], timeout: float) -> list[int]:
        if self._sockets is not None:
            return super().ready(streams, timeout)
        held = {stream: i for i, (_, stream) in enumerate(streams)}
        found, _ = ray.wait([*held], num_returns=len(held), timeout=0)
        if not found and timeout > 0:
            found, _ = ray.wait([*held], num_returns=1, timeout=timeout)
        return [held[stream] for stream in found]

    def close(self) -> None:
        """Let go of all that is Ray's: dropped while another thread ends Ray, it would end this process."""
        self._there.clear()
        self._shared = None
        if self._sockets is not None:
            self._sockets.cleanup()

    def _line_to(self, actor: Any) -> Line:
        return RayLine(actor) if self._sockets is None else DoorLine(actor, Path(self._sockets.name))


class RayLine(Line):
    """A line of Ray's own, which reaches other machines."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

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

    def aside(self, function: Callable[[Any], T]) -> T:
        return aside(self.actor, function)

    def move(self, nodes: Sequence[int], target: Line) -> None:
        target.finish(target.begin("take", self.begin("give", nodes)))

    def close(self) -> None:
        self.actor = None


class DoorLine(SocketLine):
    """A socket at whose door an actor of Ray's on this machine knocks once it is there."""

    def __init__(self, actor: Any, folder: Path) -> None:
        super().__init__(None)
        self.actor = actor
        self._path = Path(tempfile.mktemp(dir=folder))
        self._door: socket.socket | None = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self._path))
        self._door.listen(1)
        self._serving = actor.serve.remote(str(self._path))

    def aside(self, function: Callable[[Any], T]) -> T:
        return aside(self.actor, function)

    def close(self) -> None:
        super().close()
        if self._door is not None:
            self._door.close()
        self._path.unlink(missing_ok=True)
        with suppress(Exception):
            ray.get(self._serving, timeout=0)  # else Ray tells of an error that nobody asked for
        self._door = self._serving = self.actor = None

    @property
    def source(self) -> Any:
        return self._door if self._line is None else self._line

    def begins(self) -> bool:
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


def aside(actor: Any, function: Callable[[Any], T]) -> T:
    """Run a function of an actor's app beside its calls. Raises what that raised, and Dead."""
    if actor is None:
        raise Dead("the line was closed")
    try:
        found: T = ray.get(actor.call.options(concurrency_group=ASIDE).remote(function))
    except ray.exceptions.RayActorError as error:
        raise Dead(str(error)) from error
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    return found


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
