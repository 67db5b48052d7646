"""A whole federation on this machine, of real processes with TLS and node authentication, for trying out.

    with Rehearsal(scenario, Path("rehearsal")) as it:
        it.submit("knfu.yaml", "--out", "runs/knfu")

Everything lies in one folder: the CA, Flower's home, the coordinator's runs, one site per client. All
processes listen on 127.0.0.1 only and end with the block.
"""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import httpx

from fedkt.deploy.certificates import make_certificates
from fedkt.deploy.site.setup import PUBLIC_KEY, init_from_scenario
from fedkt.deploy.wire.reach import trusting
from fedkt.errors import RunError
from fedkt.scenario import Scenario

LINK = "superlink"
START_S = 180.0


class Rehearsal:
    """``scenario``: whose clients become the sites; ``folder``: a new one."""

    def __init__(self, scenario: Scenario, folder: Path, data_dir: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.pki = self.folder / "pki"
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        make_certificates(self.pki, ["localhost", "127.0.0.1"])
        made = init_from_scenario(
            scenario, self.folder / "sites", data_dir, self.address, self.pki / "ca.pem"
        )
        self.sites = {site.file.name: site.folder for site in made}
        home = self.folder / "flower"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink.rehearsal]\naddress = "{self.address}"\n'
            f'root-certificates = "{self.pki / "ca.pem"}"\n'
        )
        here = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([here, os.environ.get("PATH", "")]),
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
            "FEDKT_COORDINATOR": str(self.folder / "coordinator"),
        }

    def __enter__(self) -> "Rehearsal":
        try:
            self.start_link()
            for name in self.sites:
                self.register(self.sites[name] / PUBLIC_KEY)
                self.start_site(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start_link(self, **environment: str) -> None:
        """Start the SuperLink and wait until it answers; ``environment``: beside the federation's."""
        self.start(LINK, self.link_command(), environment)
        end = time.monotonic() + START_S
        while True:
            try:
                httpx.get(f"https://{self.address}/health", verify=self.trust(), timeout=5)
                return
            except httpx.HTTPError:
                if time.monotonic() > end or self.processes[LINK].poll() is not None:
                    raise RunError(f"the SuperLink did not start: {self.log(LINK)[-500:]}") from None
                time.sleep(0.5)

    def link_command(self) -> list[str]:
        """Return the command that starts the SuperLink."""
        return (
            f"flower-superlink --ssl-ca-certfile {self.pki}/ca.pem --ssl-certfile {self.pki}/server.pem "
            f"--ssl-keyfile {self.pki}/server.key --enable-supernode-auth --port {self.port} "
            f"--disable-runtime-dependency-installation --database {self.folder}/superlink.db".split()
        )

    def trust(self) -> ssl.SSLContext:
        """Return what trusts this federation's CA."""
        return trusting(self.pki / "ca.pem")

    def register(self, key: Path) -> None:
        """Let the node with this public key in."""
        self.run(["flwr", "supernode", "register", str(key), "rehearsal"], check=True)

    def start_site(self, name: str, **environment: str) -> None:
        """Run a site as its operator does; ``environment``: beside the federation's."""
        command = ["fedkt", "site", "run", str(self.sites[name]), "--port", str(free_port())]
        self.start(name, command, environment)

    def submit(
        self, scenario: str | Path, *more: str, timeout: float = 600
    ) -> "subprocess.CompletedProcess[str]":
        """Run ``fedkt submit`` to its end."""
        return self.run(self.submit_command(scenario, *more), timeout=timeout)

    def submit_command(self, scenario: str | Path, *more: str) -> list[str]:
        """Return the command that submits a scenario here."""
        return ["fedkt", "submit", str(scenario), "--superlink", "rehearsal", *more]

    def run(
        self, command: Sequence[str], *, check: bool = False, timeout: float = 300
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the federation's environment; raises RunError with ``check`` if it fails."""
        done = subprocess.run(
            list(command),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.folder,
        )
        if check and done.returncode:
            raise RunError(f"{' '.join(command)} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done

    def log(self, name: str) -> str:
        """Return what a process has written so far."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def kill(self, name: str) -> None:
        """End a process and all that it started with ``kill -9``, as when the machine loses power."""
        family = self.family(name)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.processes.pop(name).wait()
        _see_off(family)

    def stop_one(self, name: str) -> int:
        """Tell a process to end, wait, and return its status."""
        process = self.processes.pop(name)
        family = descendants(process.pid)
        process.terminate()
        try:
            status = process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        _see_off(family)
        return status

    def stop(self) -> None:
        """End everything, sites first."""
        for name in [name for name in self.processes if name != LINK] + [LINK]:
            if name in self.processes:
                self.stop_one(name)

    def family(self, name: str) -> list[int]:
        """Return the ids of a process and of all that it started."""
        return [self.processes[name].pid, *descendants(self.processes[name].pid)]

    def start(self, name: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a process under a name; what it writes is :meth:`log`."""
        program = shutil.which(command[0], path=self.environment["PATH"]) or command[0]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [program, *command[1:]],
                env={**self.environment, **(environment or {})},
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # what signals a group, signals this one's alone
            )


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below this one (Linux)."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, left = [], [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def _see_off(family: Sequence[int], seconds: float = 20.0) -> None:
    """Wait for processes that end after their parent; kill what is left."""
    end = time.monotonic() + seconds
    while any(_alive(pid) for pid in family):
        if time.monotonic() > end:
            for pid in family:
                if _alive(pid):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
