"""Processes of this machine that begin with all that clients need: they are forked from one that has it.

A nursery is forked from this process once a run's world is there, or where that cannot be (another thread is
at work here, an accelerator, an estimator whose threads would be missed) begun anew with a copy of the world.
It does nothing but fork a process of clients when told to, so these import nothing, wait for nothing, and
share the pages of data and packages. It ends when this process does, however that ends, and they with it.
"""

import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from fedkt.engine.runtimes.resident import Resident
from fedkt.engine.runtimes.wires import Hosts, Line, MakeApp, Session, SocketLine, Wire, pickled, serve
from fedkt.engine.world.world import World
from fedkt.errors import RunError
from fedkt.files import ASIDE, processors
from fedkt.scenario import Engine

T = TypeVar("T")
BEGIN = "from fedkt.engine.runtimes.forked import begun_anew; begun_anew({})"


class ForkedHosts(Hosts):
    """Processes that are forked from a nursery, which is there from the beginning.

    ``shared``: what their apps are made of; ``prepare``: what is done before, once; ``fork``: whether this
    process is known to be one that can be forked.
    """

    def __init__(self, shared: Any, prepare: Callable[[], None], *, fork: bool) -> None:
        self._control, theirs = socket.socketpair()
        self._ended: Callable[[], Any]
        if fork:
            sys.stdout.flush()
            sys.stderr.flush()
            if not (child := os.fork()):
                try:
                    self._control.close()
                    prepare()
                    _nurse(theirs, shared)
                finally:
                    os._exit(0)
            self._ended = lambda: os.waitpid(child, 0)
        else:
            command = [sys.executable, "-c", BEGIN.format(theirs.fileno())]
            env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            self._ended = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env).wait
            Connection(os.dup(self._control.fileno())).send_bytes(pickled((shared, prepare)))
        theirs.close()

    def start(self, make: MakeApp, nodes: int, count: int) -> list[Line]:
        lines = [self._forked() for _ in range(count)]
        settled = [(line, line.begin("settle", make, nodes)) for line in lines]
        for line, begun in settled:
            line.finish(begun)
        return [*lines]

    def close(self) -> None:
        """End the nursery, and with it all processes that are left."""
        if self._control.fileno() >= 0:
            self._control.close()
            self._ended()

    def _forked(self) -> "ForkedLine":
        ours, theirs = zip(*(socket.socketpair() for _ in range(2)), strict=True)
        try:
            socket.send_fds(self._control, [b"+"], [end.fileno() for end in theirs])
        except OSError as error:
            raise RunError("no process for clients can be started, since the one to fork ended.") from error
        finally:
            for end in theirs:
                end.close()
        return ForkedLine(*(Connection(end.detach()) for end in ours))


class ForkedSession(Session):
    """Forked processes for one run."""

    def __init__(self, engine: Engine, prepare: Callable[[], None]) -> None:
        self._engine, self._prepare = engine, prepare
        self._hosts: ForkedHosts | None = None

    def begin(self, world: World) -> None:
        if self._hosts is None:
            estimators = any(map(world.refits, world.one_of_each()))
            self._hosts = ForkedHosts(world, self._prepare, fork=can_fork() and not estimators)

    def workers(self) -> int:
        engine = self._engine
        return max(1, int(processors() / engine.cpus)) if engine.workers == "auto" else engine.workers

    def hosts(self, world: World) -> "ForkedHosts":
        self.begin(world)
        assert self._hosts is not None
        return self._hosts

    def end(self) -> None:
        if self._hosts is not None:
            self._hosts.close()

    close = end


class ForkedLine(SocketLine):
    """The line to a process that was forked; ``beside`` is another one, to a thread of its."""

    def __init__(self, line: Connection, beside: Connection) -> None:
        super().__init__(line)
        self._beside = Wire(beside)

    def aside(self, function: Callable[[Any], T]) -> T:
        found: T = self._beside.finish(self._beside.begin("call", function))
        return found

    def close(self) -> None:
        self._beside.close()
        super().close()


def can_fork() -> bool:
    """Say whether this process can be forked: only where no other thread may hold what would be missed.

    Threads that stand aside have nothing to do before a run.
    """
    others = [thread for thread in threading.enumerate() if not thread.name.startswith(ASIDE)]
    there = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    accelerators = torch.accelerator.is_available()
    return sys.platform == "linux" and others == [threading.main_thread()] and not (there or accelerators)


def begun_anew(control: int) -> None:
    """Be a nursery in a new process, which is told of its world over a socket, by number."""
    end = socket.socket(fileno=control)
    shared, prepare = pickle.loads(Connection(os.dup(control)).recv_bytes())
    prepare()
    _nurse(end, shared)


def _nurse(control: socket.socket, shared: Any) -> None:
    """Fork a process whenever two sockets come; at the end of the line end them all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which reaches all; who asked for us decides
    gc.freeze()  # so that no collection touches, and thereby copies, what is shared
    children: set[int] = set()
    while True:
        try:
            _, ends, _, _ = socket.recv_fds(control, 1, 2)
        except OSError:
            ends = []
        children -= {child for child in children if os.waitpid(child, os.WNOHANG)[0]}
        if not ends:
            break
        with suppress(OSError):  # too many processes: its ends close, which is noticed
            if not (child := os.fork()):
                try:
                    control.close()
                    _live(Resident(shared=shared), *map(Connection, ends))
                finally:
                    os._exit(0)
            children.add(child)
        for end in ends:
            os.close(end)
    for child in children:
        os.kill(child, signal.SIGKILL)


def _live(resident: Resident, line: Connection, beside: Connection) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=serve, args=(resident, beside), daemon=True).start()
    serve(resident, line)
