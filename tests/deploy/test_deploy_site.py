"""A site's file, policy, key, check, health page and warm process."""

import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedkt import scenario as scenarios
from fedkt.deploy.certificates import make_certificates
from fedkt.deploy.coordinator.server_app import coordinate
from fedkt.deploy.site import desk
from fedkt.deploy.site.inspection import check_site
from fedkt.deploy.site.node import health
from fedkt.deploy.site.policy import objections
from fedkt.deploy.site.setup import init_site, supernode_command
from fedkt.deploy.site.site_file import Policy, Site
from fedkt.deploy.site.warm import _read as warm_read
from fedkt.deploy.site.warm import write_stub
from fedkt.deploy.wire.flwr_control import Control, packed
from fedkt.engine.runtimes.flwr_internals import FIRST_NODE
from fedkt.errors import InputError, RunError
from tests.deploy.sites import ADDRESS, SMALL, SitesGrid, edit, invite, sites_of


def test_a_sites_file_tells_all_its_problems(tmp_path):
    (tmp_path / "site.yaml").write_text(
        "name: Clinic/1\nsuperlink: {address: nowhere, key: node.key}\ndata: {transfer: npz:t.npz}\n"
        "policy: {kind: [logits], rounds_per_day: 0}\n"
    )
    with pytest.raises(InputError) as error:
        Site.load(tmp_path)
    told = [problem.removeprefix(f"{tmp_path / 'site.yaml'}:") for problem in error.value.problems]
    assert told[0].startswith("1: name is 'Clinic/1'; it must be ")
    assert told[1].startswith("2: superlink.address is 'nowhere'; it must be ")
    assert told[2:] == [
        "3: data.rows is missing; it must be given, such as 'rows: npz:rows.npz'.",
        "4: policy.rounds_per_day is 0; it must be at least 1.",
        "4: unknown key 'policy.kind'; did you mean 'kinds'?",
    ]
    with pytest.raises(InputError, match="'fedkt site init' writes"):
        Site.load(tmp_path / "nowhere")


def test_init_writes_a_key_and_the_exact_command(tmp_path):
    ca = tmp_path / "ca.pem"
    site = init_site(tmp_path / "site", "cleveland", "fedkt.example.org:443", ca, {})
    assert (site.folder / "node.key").stat().st_mode & 0o777 == 0o600
    assert (site.folder / "node.pub").read_text().startswith("ecdsa-sha2-nistp384 ")
    assert supernode_command(site, 9100) == [
        "flower-supernode",
        "--superlink",
        "fedkt.example.org:443",
        "--root-certificates",
        str(ca),
        "--auth-supernode-private-key",
        str(site.folder / "node.key"),
        "--node-config",
        f'site="{site.folder}/site.yaml"',
        "--port",
        "9100",
    ]
    with pytest.raises(InputError, match="exists already"):
        init_site(tmp_path / "site", "cleveland", "fedkt.example.org:443", ca, {})


def test_what_a_policy_says_of_strategies_that_share_more():
    def reasons(**changes: Any) -> list[str]:
        scenario = scenarios.from_dict(SMALL | {"participation": {"quorum": 2}} | changes)
        return [refusal.reason for refusal in objections(Policy(), scenario)]

    assert reasons() == []
    assert reasons(strategy={"name": "fedavg"}, allow=["weights"]) == ["kind"]
    assert reasons(strategy={"name": "central"}) == ["kind"]
    assert reasons(strategy={"name": "local"}, participation={"quorum": 1}) == []
    assert reasons(participation={"quorum": 1}) == ["participants"]
    assert reasons(strategy={"name": "no-such"}) == ["strategy"]


def test_what_a_site_never_learns_is_left_out_and_kept_from_it(tmp_path: Path):
    y = np.arange(60) % 3
    np.savez(
        tmp_path / "rows.npz",
        x_train=np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32),
        y_train=y,
    )
    (tmp_path / "site.yaml").write_text(
        "name: basel\nsuperlink: {address: 'fedkt.example.org:443'}\ndata: {rows: 'npz:rows.npz'}\n"
        "policy: {never_learn: [2]}\n"
    )
    site = Site.load(tmp_path)
    scenario = scenarios.from_dict(SMALL | {"clients": {"models": ["mlp"]}, "strategy": {"name": "fedproto"}})
    assert site.adapted(scenario).participation.blocked == {"basel": (2,)}
    assert site.federation(scenario).counts()[0, 2] == 0
    weights = scenarios.from_dict(SMALL | {"strategy": {"name": "fedavg"}, "allow": ["weights"]})
    policy = Policy(kinds=["weights"], never_learn=[2], min_participants=1)
    assert [refusal.reason for refusal in objections(policy, weights)] == ["classes"]


class Speaker(BaseHTTPRequestHandler):
    """A coordinator of a test: answers with a clock of its own."""

    ahead = 0.0

    def do_GET(self) -> None:
        self.send_response_only(404)
        self.send_header("Date", formatdate(time.time() + self.ahead, usegmt=True))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def speaking(pki: Path | None, ahead: float = 0.0) -> Iterator[str]:
    """Serve on 127.0.0.1 with a certificate, or without TLS; yield the address."""
    server = HTTPServer(("127.0.0.1", 0), type("Speaker", (Speaker,), {"ahead": ahead}))
    if pki is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki / "server.pem", pki / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_check_says_of_the_connection(tmp_path):
    hosts, year_ago = ["127.0.0.1"], datetime.now(UTC) - timedelta(days=365)
    for name, days, starts, names in [
        ("good", 1, None, hosts),
        ("other", 1, None, hosts),
        ("expired", 30, year_ago, hosts),
        ("early", 30, datetime.now(UTC) + timedelta(days=2), hosts),
        ("elsewhere", 1, None, ["fedkt.example.org"]),
    ]:
        make_certificates(tmp_path / name, names, days, starts)

    def said(pki: str | None, ca: str, ahead: float = 0.0) -> str:
        with speaking(None if pki is None else tmp_path / pki, ahead) as address:
            out = tmp_path / f"{pki}-{ca}-{ahead}"
            site = init_site(out, "a", address, tmp_path / ca / "ca.pem", {})
            try:
                return check_site(site, None)[-1]
            except InputError as error:
                (problem,) = error.problems
                return problem.replace(address, "ADDRESS")

    assert "answers over TLS, clocks" in said("good", "good")
    where = "superlink.address: ADDRESS "
    assert said("good", "other") == (
        where + "shows a certificate that superlink.root_certificates did not sign; ask for the right CA."
    )
    assert said("expired", "expired") == (
        where + "shows an expired certificate; the coordinator has to renew it."
    )
    assert said("early", "early").startswith(where + "shows a certificate that is not valid yet")
    assert said("elsewhere", "elsewhere").startswith(where + "shows a certificate for another host")
    assert said(None, "good").startswith(where + "answers without TLS")
    assert "ahead of the coordinator's; signatures hold" in said("good", "good", ahead=-400.0)
    assert "behind the coordinator's; signatures hold from 305 s behind" in said("good", "good", ahead=900.0)


def test_check_tells_everything_at_once(tmp_path):
    sites = sites_of(tmp_path / "sites")
    edit(
        sites[0],
        policy={"kinds": ["votes"]},
        superlink={"address": "127.0.0.1:1"},
        data={"rows": "npz:no.npz"},
    )
    (sites[0] / "node.key").chmod(0o644)
    with pytest.raises(InputError) as error:
        check_site(Site.load(sites[0]), scenarios.from_dict(SMALL))
    told = error.value.problems
    assert [text.split(" ")[0] for text in told] == [
        "superlink.key:",
        "policy:",
        "data.rows:",
        "superlink.address:",
    ]
    assert "'chmod 600' keeps it secret" in told[0]
    fine = check_site(Site.load(sites[1]), scenarios.from_dict(SMALL), connect=False)
    assert fine[2:] == [
        "the policy agrees to small (knfu)",
        f"36 training rows, 10 classes, model mlp, transfer set {transfer_of(sites[1])}; "
        "data.transfer: left out: y_train (not read)",
    ]


def transfer_of(site: Path) -> str:
    held = Site.load(site).federation(scenarios.from_dict(SMALL)).transfer_hash
    assert held is not None
    return held


def test_health_says_numbers_and_words(tmp_path):
    site = init_site(tmp_path / "site", "a", ADDRESS, None, {"health_port": 0})
    for status, more in [("accepted", {}), ("declined", {"reason": "rounds"}), ("accepted", {})]:
        desk.log(site.state, {"stage": "train", "status": status, **more})
    found = health(site, running=True, begun=time.time() - 5, problem="")
    assert (found["site"], found["healthy"], found["connection"], found["up_s"]) == ("a", True, "fine", 5)
    assert found["statuses"] == {"accepted": 2, "rounds": 1}
    assert found["newest"]["status"] == "accepted"


def test_the_warm_process_hands_over_or_leaves_it(tmp_path):
    write_stub(tmp_path, str(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "s"))
        door.listen()
        stub = subprocess.Popen([str(tmp_path / "flwr-clientapp"), "--token", "t 1"])
        line, _ = door.accept()
        assert warm_read(line) == ["--token", "t 1"]
        line.sendall(b"ok")
        line.close()
        assert stub.wait(30) == 0
    (tmp_path / "s").unlink()
    alone = subprocess.run(
        [str(tmp_path / "flwr-clientapp"), "--help"], capture_output=True, text=True, timeout=120
    )
    assert "--runtime-api-address" in alone.stdout  # it became Flower's client process itself


COLD = """
import sys
from pathlib import Path

from fedkt.deploy.site.lean import without_supernode

without_supernode()
from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.supernode.cli import flwr_clientapp  # as the guard does
from fedkt.deploy.site.site_app import client_app
from fedkt.deploy.wire.flwr_control import Control, packed, unpacked
from fedkt.engine.runtimes.flwr_internals import become_server

site, invitation, question, answer = map(Path, sys.argv[1:])
become_server()
message = Message(unpacked(question.read_bytes()), 100, "train", group_id="1")
message.metadata.__dict__["_message_id"] = "m"
context = Context(1, 100, UserConfig({"site": str(site)}), RecordDict(), UserConfig())
answer.write_bytes(packed(client_app(invitation.read_text())(message, context).content))
print(*sorted(sys.modules))
"""
HEAVY = (
    *("torch._inductor", "torch._dynamo.utils", "sympy", "opacus", "scipy", "pandas", "sklearn", "ray"),
    *(
        "matplotlib",
        "plotly",
        "sqlalchemy",
        "alembic",
        "uvicorn",
        "flwr.simulation",
        "flwr.supernode.servicer",
    ),
)


def test_a_cold_process_imports_what_a_message_needs_and_gives_the_same_bytes(tmp_path):
    settings = SMALL | {"rounds": 1}
    invitation, sites = invite(settings), sites_of(tmp_path / "sites", settings)
    grid = SitesGrid(invitation, sites)
    coordinate(grid, invitation, tmp_path / "home")
    asked = next(
        m for m in grid.seen if (m.metadata.message_type, m.metadata.dst_node_id) == ("train", FIRST_NODE)
    )
    answered = (sites[0] / "state" / "runs" / invitation.run / "replies" / "000001-train").read_bytes()
    files = [tmp_path / name for name in ("invitation", "question", "answer")]
    files[0].write_text(invitation.text())
    files[1].write_bytes(packed(asked.content))
    (sites[0] / "state").rename(tmp_path / "old")
    command = [sys.executable, "-c", COLD, str(sites[0] / "site.yaml"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files[2].read_bytes() == answered.partition(b"\n")[2]
    assert set(done.stdout.split()) & set(HEAVY) == set()


def test_the_compiler_is_there_for_who_asks_for_it():
    code = (
        "import sys\nfrom fedkt.uncompiled import without_compiler\nwithout_compiler()\n"
        "import torch._dynamo\n"
        "assert 'sympy' not in sys.modules\n"
        "assert not hasattr(torch._dynamo, '__file__')  # as who looks all modules over asks\n"
        "from torch._dynamo import utils\n"
        "assert 'sympy' in sys.modules and sys.modules['torch._dynamo'].__file__"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_coordinators_command_says_why_the_superlink_is_not_reached(tmp_path, monkeypatch):
    pki = tmp_path / "pki"
    make_certificates(pki, ["127.0.0.1"], 30, datetime.now(UTC) - timedelta(days=365))
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    with speaking(pki) as address:
        (tmp_path / "config.toml").write_text(
            f'[superlink.here]\naddress = "{address}"\nroot-certificates = "{pki / "ca.pem"}"\n'
        )
        control = Control("here")
        with pytest.raises(RunError) as error:
            control.stop(1)
        control.close()
        words = f"SuperLink 'here': {address} shows an expired certificate; the coordinator has to renew it."
        assert str(error.value) == words
