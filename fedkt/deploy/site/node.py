"""``fedkt site run``: the site's SuperNode with a guard and a health page around it."""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fedkt.deploy.site import desk
from fedkt.deploy.site.inspection import connection
from fedkt.deploy.site.setup import supernode_command
from fedkt.deploy.site.site_file import Site
from fedkt.deploy.site.warm import write_stub
from fedkt.deploy.wire.reach import Distrusted
from fedkt.errors import InputError, RunError

API_PORT = 9094
"""Where Flower's own API listens unless it is told otherwise."""

STEADY_S, PAUSE_S, ATTEMPTS = 60.0, 10.0, 12
"""A SuperNode that ends within so many seconds is started again after a pause, so many times."""

LOOK_S = 30.0
"""How often the connection is tried, so that the site's own log says why no messages come."""

_NUMBERS = re.compile(r"\d+")

GRACE_S = 15.0
"""How long the SuperNode may take to end when it is told to."""


def run_site(site: Site, port: int | None = None) -> None:
    """Run the site's SuperNode until it ends or this process is told to (SIGTERM, Ctrl-C).

    ``port``: of Flower's own API between the SuperNode and its client processes, on 127.0.0.1. Raises
    InputError where a port is taken, RunError where the SuperNode ends by itself.
    """
    _refuse_taken(port)
    stopping = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stopping.set())
    page = _open_page(site)
    with tempfile.TemporaryDirectory(prefix="fedkt-") as folder:  # a socket's path has to be short
        at = str(Path(folder) / "warm")
        write_stub(site.state / "bin", at)
        private = ["opacus"] if set(site.file.policy.privacy) - {"none"} else []
        warm = _start(site, [sys.executable, "-m", "fedkt.deploy.site.warm", at, *private])
        node = _start(site, supernode_command(site, port))
        page.node = node
        threading.Thread(target=page.serve_forever, daemon=True).start()
        threading.Thread(target=_keep_looking, args=(page, stopping), daemon=True).start()
        desk.log(site.state, {"event": "started", "pid": os.getpid(), "health": page.server_address[1]})
        print(f"site '{site.file.name}': http://127.0.0.1:{page.server_address[1]}/health", flush=True)
        begun, failures = time.monotonic(), 0
        try:
            while not stopping.wait(0.5):
                if page.renew.is_set():
                    page.renew.clear()
                    _end(node)
                if node.poll() is None:
                    continue
                # A coordinator turns a node away for up to a minute after it was killed: until its
                # heartbeats are missed, the old process counts as the one that is there.
                failures = failures + 1 if time.monotonic() - begun < STEADY_S else 1
                desk.log(site.state, {"event": "ended", "status": node.returncode, "failures": failures})
                if failures > ATTEMPTS or stopping.wait(PAUSE_S):
                    break
                if failures > 1:  # not what is left of one that was killed: that has had its time to end
                    _refuse_taken(port)
                node, begun = _start(site, supernode_command(site, port)), time.monotonic()
                page.node = node
        finally:
            status = _end(node)
            _end(warm)
            page.shutdown()
            page.server_close()
            desk.log(site.state, {"event": "stopped", "pid": os.getpid()})
    if not stopping.is_set():
        raise RunError(
            f"the SuperNode ended by itself (status {status}); its last lines above say why. "
            "'fedkt site check' tries the connection."
        )


def _keep_looking(page: "HealthPage", stopping: threading.Event) -> None:
    """Try the connection from time to time; tell what is wrong with it when that changes.

    A SuperNode that met a wrong certificate does not try again: it is started anew once that is over.
    """
    distrusted = False
    while True:
        try:
            fine, problem = connection(page.site), ""
            if distrusted:
                page.renew.set()
            distrusted = False
        except InputError as error:
            fine, problem = "", " ".join(error.problems)
            distrusted = distrusted or isinstance(error, Distrusted)
        known, page.problem = page.problem, problem
        if known is None or _NUMBERS.sub("", problem) != _NUMBERS.sub("", known):
            desk.log(page.site.state, {"event": "connection", "problem": problem})
            print(problem or fine, flush=True)
        if stopping.wait(LOOK_S):
            return


def _start(site: Site, command: list[str]) -> "subprocess.Popen[bytes]":
    """Start a process that is told to end when this one dies, however it dies (on Linux)."""

    def with_parent() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    return subprocess.Popen(
        command, env=node_environment(site), preexec_fn=with_parent, start_new_session=True
    )


def node_environment(site: Site) -> Mapping[str, str]:
    """Return the environment of the SuperNode: the guard in place of Flower's client process."""
    tools, here = site.state / "bin", str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(tools), here, os.environ.get("PATH", "")]),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": os.environ.get("FLWR_SUPEREXEC_TASK_POLL_INTERVAL", "0.2"),
    }


def health(site: Site, running: bool, begun: float, problem: str | None) -> dict[str, Any]:
    """Return what the health page says: what is wrong with the connection, numbers, fixed words; no data."""
    lines = [line for line in desk.log_lines(site.state) if "stage" in line]
    return {
        "site": site.file.name,
        "healthy": running,
        "connection": "not tried yet" if problem is None else problem or "fine",
        "up_s": round(time.time() - begun),
        "newest": lines[-1] if lines else None,
        "statuses": dict(Counter(line.get("reason", line["status"]) for line in lines)),
    }


class HealthPage(ThreadingHTTPServer):
    """``GET /health``: status 200 while the SuperNode runs, else 503, and :func:`health` as JSON."""

    node: "subprocess.Popen[bytes] | None" = None
    problem: str | None = None

    def __init__(self, site: Site) -> None:
        super().__init__(("127.0.0.1", site.file.health_port), _Answer)
        self.site = site
        self.begun = time.time()
        self.renew = threading.Event()


class _Answer(BaseHTTPRequestHandler):
    server: HealthPage

    def do_GET(self) -> None:
        if self.path != "/health":
            self.send_error(404)
            return
        page = self.server
        running = page.node is not None and page.node.poll() is None
        found = health(page.site, running, page.begun, page.problem)
        body = json.dumps(found).encode()
        self.send_response(200 if found["healthy"] else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: who asks is no event."""


def _refuse_taken(port: int | None) -> None:
    """Raise InputError where Flower's own API cannot listen at this port (None: Flower's default)."""
    at = API_PORT if port is None else port
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", at))
        except OSError as error:
            raise InputError(
                f"port {at} of 127.0.0.1, where Flower's own API is to listen, cannot be opened "
                f"({error.strerror}); give another with --port. Perhaps this site, or another one on this "
                "machine, runs already."
            ) from error


def _open_page(site: Site) -> HealthPage:
    try:
        return HealthPage(site)
    except OSError as error:
        raise InputError(
            f"health_port: {site.file.health_port} cannot be opened ({error.strerror}); write another, or "
            "0 for any free one. Perhaps this site runs already."
        ) from error


def _end(node: "subprocess.Popen[bytes]") -> int:
    """Let the SuperNode end, with a message that it is in the middle of, and its children with it."""
    if node.poll() is None:
        node.terminate()
    try:
        return node.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        node.kill()
        return node.wait()
