"""The operator's guide and the README's walk-through: run as they stand, read by those whom they are for."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from fedkt.deploy.rehearsal import Rehearsal, free_port
from fedkt.deploy.site.site_file import Site
from fedkt.results.folder import read_rows
from tests.deploy.rehearsed import submitted, wait_for
from tests.deploy.sites import edit

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "deployment.md"
pytestmark = pytest.mark.skipif(not GUIDE.exists(), reason="docs/ is not beside the tests")


def blocks(language: str, page: Path = GUIDE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_example_of_a_sites_file_is_one(tmp_path: Path) -> None:
    (block,) = blocks("yaml")
    (tmp_path / "site.yaml").write_text(block)
    assert Site.load(tmp_path).file.policy.min_participants == 3


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    found = blocks("ini")
    assert len(found) == 2
    for block in found:
        name = re.search(r"([\w-]+\.service)", block)
        assert name is not None
        # It looks for the programs, which lie elsewhere here.
        (tmp_path / name[1]).write_text(block.replace("/opt/fedkt/bin", str(Path(sys.executable).parent)))
        command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / name[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        told = [line for line in done.stderr.splitlines() if name[1] in line]
        assert (done.returncode, told) == (0, []), done.stderr


@pytest.mark.deploy
@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_through_the_proxy_sites_take_part_and_nobody_controls(it: Rehearsal, tmp_path: Path) -> None:
    (block,) = blocks("nginx")
    port = free_port()
    for old, new in [
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("fedkt.example.org", "localhost"),
        ("/srv/coordinator/pki", str(it.pki)),
        ("127.0.0.1:8000", it.address),
    ]:
        assert old in block
        block = block.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
        f"http {{ access_log {tmp_path}/access.log; {folders}\n{block}}}\n"
    )
    it.start("proxy", ["nginx", "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")])
    outside = f"https://127.0.0.1:{port}"
    it.stop_one("2")
    file = it.sites["2"] / "site.yaml"
    before = file.read_text()
    edit(it.sites["2"], superlink={"address": f"127.0.0.1:{port}"})
    try:
        it.start_site("2")
        assert submitted(it, "runs/proxy", "--set", "rounds=2")["replies"]["accepted"] == 6
        log = (tmp_path / "access.log").read_text()
        assert "/v1/fleet/push-messages" in log
        for path in (
            "/v1/control/list-runs",
            "/v1/control/start-run",
            "/v1/runtime/pull-messages",
            "/docs",
            "/",
        ):
            inside = httpx.post(f"https://{it.address}{path}", verify=it.trust(), timeout=10).status_code
            assert httpx.post(outside + path, verify=it.trust(), timeout=10).status_code == 404, path
            assert inside != 404 or not path.startswith("/v1"), path  # it is there, behind the proxy
        for home in (Path(it.environment["FLWR_HOME"]), tmp_path / "home"):
            home.mkdir(exist_ok=True)
        config = (Path(it.environment["FLWR_HOME"]) / "config.toml").read_text()
        (tmp_path / "home" / "config.toml").write_text(config.replace(it.address, f"127.0.0.1:{port}"))
        usual, it.environment["FLWR_HOME"] = it.environment["FLWR_HOME"], str(tmp_path / "home")
        try:
            done = it.run(["flwr", "supernode", "list", "rehearsal"])
        finally:
            it.environment["FLWR_HOME"] = usual
        assert done.returncode != 0
    finally:
        it.stop_one("2")
        file.write_text(before)
        it.start_site("2")
        it.stop_one("proxy")


@pytest.mark.deploy
@pytest.mark.data
@pytest.mark.skipif("FEDKT_DATA" not in os.environ, reason="FEDKT_DATA is not set")
def test_the_walk_through_gives_four_hospitals_the_numbers_of_the_simulation(tmp_path: Path) -> None:
    (block,) = blocks("sh", ROOT / "README.md")
    block = block.replace("8000", str(free_port())).replace("9100", str(free_port()))
    here = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([here, os.environ["PATH"]])}
    environment["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "0.2"
    with open(tmp_path / "told", "wb") as told:
        shell = subprocess.Popen(
            ["bash", "-eu", "-c", block], cwd=tmp_path, env=environment, stdout=told, stderr=told,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = shell.wait(1500)
        finally:
            os.killpg(shell.pid, signal.SIGTERM)
    words = (tmp_path / "told").read_text()
    assert status == 0, words[-3000:]

    def of_the_sites(run: str) -> list[dict[str, object]]:
        """Return what both can know: a deployment has no common test set."""
        rows = read_rows(tmp_path / "runs" / run / "clients.jsonl")
        return [{k: v for k, v in row.items() if not k.startswith(("global", "before"))} for row in rows]

    deployed = of_the_sites("deployed")
    assert deployed == of_the_sites("simulated")
    assert [row["client"] for row in deployed[:4]] == ["cleveland", "hungarian", "switzerland", "va"]
    assert len(deployed) == 40
    wait_for(lambda: not Path(f"/proc/{shell.pid}").exists(), 60)
