"""A port that is taken: the site says so and gives up, instead of starting its SuperNode again and again."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedkt.cli.commands import app
from fedkt.deploy.site import node
from fedkt.deploy.site.setup import init_site
from fedkt.errors import InputError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        yield door.getsockname()[1]


def test_the_command_ends_with_status_2_and_starts_nothing(
    taken: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_site(tmp_path / "site", "here", "127.0.0.1:1", None, {"health_port": 0})
    monkeypatch.setattr(node, "_start", lambda *_: pytest.fail("it has started something"))
    ended = CliRunner().invoke(app, ["site", "run", str(tmp_path / "site"), "--port", str(taken)])
    assert ended.exit_code == 2
    assert ended.output == (
        f"fedkt: port {taken} of 127.0.0.1, where Flower's own API is to listen, cannot be opened (Address "
        "already in use); give another with --port. Perhaps this site, or another one on this machine, runs "
        "already.\n"
    )


def test_the_default_port_is_looked_at_too(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "API_PORT", taken)
    with pytest.raises(InputError, match=f"port {taken} of 127.0.0.1"):
        node._refuse_taken(None)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        free = door.getsockname()[1]
    node._refuse_taken(free)


def test_a_port_that_is_taken_later_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SuperNode that ends twice while somebody else has its port is not started a third time."""
    site = init_site(tmp_path / "site", "here", "127.0.0.1:1", None, {"health_port": 0})
    started: list[list[str]] = []

    def start(_: Any, command: list[str]) -> "subprocess.Popen[bytes]":
        started.append(command)
        code = "import time; time.sleep(60)" if "fedkt.deploy.site.warm" in command else "raise SystemExit(1)"
        return subprocess.Popen([sys.executable, "-S", "-c", code])

    looks = iter([None, InputError("port 1 is taken.")])

    def refuse(_: Any) -> None:
        if (found := next(looks)) is not None:
            raise found

    monkeypatch.setattr(node, "_start", start)
    monkeypatch.setattr(node, "_refuse_taken", refuse)
    monkeypatch.setattr(node, "PAUSE_S", 0.0)
    monkeypatch.setattr(node, "_keep_looking", lambda *_: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(InputError, match="port 1 is taken"):
        node.run_site(site)
    assert sum("flower-supernode" in command for command in started) == 2


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_number_that_is_no_port(port: str, tmp_path: Path) -> None:
    init_site(tmp_path / "site", "here", "127.0.0.1:1", None, {"health_port": 0})
    ended = CliRunner().invoke(app, ["site", "run", str(tmp_path / "site"), "--port", port])
    assert ended.exit_code == 2 and "1<=x<=65535" in ended.output


@pytest.mark.deploy
def test_a_second_site_at_the_port_of_a_real_supernode_gives_up(tmp_path: Path) -> None:
    """The first keeps trying to reach a SuperLink that is not there; the second ends, with status 2."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    for name in ("first", "second"):
        init_site(tmp_path / name, name, "127.0.0.1:1", None, {"health_port": 0})

    def command(name: str) -> list[str]:
        start = "from fedkt.cli import main; main()"
        return [sys.executable, "-c", start, "site", "run", str(tmp_path / name), "--port", str(port)]

    first = subprocess.Popen(command("first"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not _listens(port):
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)
        ended = subprocess.run(command("second"), capture_output=True, text=True, timeout=120, check=False)
        assert ended.returncode == 2
        assert f"port {port} of 127.0.0.1" in ended.stderr and "Traceback" not in ended.stderr
        assert first.poll() is None
    finally:
        first.terminate()
        first.wait(60)


def _listens(port: int) -> bool:
    with socket.socket() as door:
        return door.connect_ex(("127.0.0.1", port)) == 0
