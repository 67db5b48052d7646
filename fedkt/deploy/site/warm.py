"""A process that has imported everything and forks a guard for each message: a client starts in milliseconds.

Flower starts a fresh ``flwr-clientapp`` for each message, and importing torch is most of what it then does.
``fedkt site run`` keeps this process beside the SuperNode; the ``flwr-clientapp`` that Flower finds hands its
arguments over (:data:`STUB`), or becomes a guard itself where this process is gone. Each message still has a
process of its own, which ends with it.
"""

import importlib
import json
import os
import select
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

MAX_ARGUMENTS = 1 << 16

_NEEDED = (
    "flwr.supernode.cli.flwr_clientapp",
    "flwr.supernode.runtime.run_clientapp",
    "fedkt.deploy.site.site_app",
    "fedkt.deploy.site.client_process",
    "fedkt.deploy.wire.pack",
    "fedkt.engine.clients.app",
    "fedkt.engine.checks.checked",
    "sklearn.metrics",
)

STUB = """\
import json, os, socket, sys
try:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect({socket!r})
        line.sendall(json.dumps(sys.argv[1:]).encode())
        line.shutdown(socket.SHUT_WR)
        if line.recv(2) == b"ok":
            sys.exit(0)
except OSError:
    pass
os.execv({python!r}, [{python!r}, "-m", "fedkt.deploy.site.client_process", *sys.argv[1:]])
"""


def write_stub(folder: Path, at: str) -> None:
    """Write the ``flwr-clientapp`` that hands over to the process that listens at this socket."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "hand_over.py"
    script.write_text(STUB.format(socket=at, python=sys.executable))
    command = folder / "flwr-clientapp"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS {shlex.quote(str(script))} "$@"\n')
    command.chmod(0o755)


def serve(at: str, *more: str) -> None:
    """Import what clients need, then fork a guard for each message until the parent process is gone.

    ``more``: names of further modules to import.
    """
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(at)
        os.chmod(at, 0o600)
        _import(more)  # before listen: until then Flower's clients start by themselves
        door.listen(16)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the system
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        while os.getppid() == parent:
            if not select.select([door], [], [], 1.0)[0]:
                continue
            line, _ = door.accept()
            with line:
                line.settimeout(5)
                try:
                    arguments = _read(line)
                except (OSError, ValueError):
                    continue
                if os.fork() == 0:
                    door.close()
                    line.sendall(b"ok")
                    line.close()
                    _become(arguments)


def _import(more: Sequence[str]) -> None:
    for module in (*_NEEDED, *more):
        importlib.import_module(module)
    from fedkt.client.training import one_thread, warm_up

    with one_thread():  # no thread may run when this process forks
        warm_up()


def _read(line: socket.socket) -> list[str]:
    data = b""
    while piece := line.recv(1 << 12):
        data += piece
        if len(data) > MAX_ARGUMENTS:
            raise ValueError("too long")
    return [str(argument) for argument in json.loads(data)]


def _become(arguments: list[str]) -> None:
    from fedkt.deploy.site import client_process as guard
    from fedkt.deploy.site import site_app as client

    for sign in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(sign, signal.SIG_DFL)
    sys.argv = ["flwr-clientapp", *arguments]
    client.begin()
    status = 1
    try:
        guard.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(*sys.argv[1:])
