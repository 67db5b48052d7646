"""Sites without processes: the two Flower apps over a grid in this process, policy, files, packing."""

import io
import itertools
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict, UserConfig
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, pull_objects
from flwr.superlink.grid import http_grid

import fedkt
from fedkt import scenario as scenarios
from fedkt.deploy import desk
from fedkt.deploy.certificates import make_certificates
from fedkt.deploy.check import check_site
from fedkt.deploy.client import client_app
from fedkt.deploy.events import MARK, listen
from fedkt.deploy.flower import bound_replies, packed, unpacked
from fedkt.deploy.hello import Facts, heard, here_i_am, not_me
from fedkt.deploy.init import init_from_scenario, init_site, supernode_command
from fedkt.deploy.invitation import Invitation
from fedkt.deploy.node import health
from fedkt.deploy.pack import INVITATION, PACKAGE, invitation_in, pack
from fedkt.deploy.policy import objections
from fedkt.deploy.reception import fitting
from fedkt.deploy.refusal import Refused
from fedkt.deploy.server import coordinate
from fedkt.deploy.site import Policy, Site
from fedkt.deploy.warm import _read as warm_read
from fedkt.deploy.warm import write_stub
from fedkt.engine.flwr_runtime import FIRST_NODE, LocalGrid, number
from fedkt.errors import InputError, RunError

SMALL = {
    "name": "small",
    "data": {
        "partition": {"kind": "dirichlet", "alpha": 5, "clients": 3, "samples_per_client": 40},
        "transfer": {"from": "train", "size": 50},
        "validation": 0.1,
    },
    "clients": {"models": [{"name": "mlp", "width": 16}], "local": {"epochs": 1}, "distill": {"epochs": 1}},
    "strategy": {"name": "knfu"},
    "rounds": 2,
    "participation": {"quorum": 2},
    "engine": {"kind": "inline"},
}
ADDRESS = "127.0.0.1:1"


class SitesGrid(LocalGrid):
    """Sites in this process: node k runs the client app with the file of the k-th site.

    ``away``: nodes that are not there; ``silent``: that take messages and never answer.
    """

    def __init__(self, invitation: Invitation, sites: Iterable[Path]) -> None:
        super().__init__()
        self.app = client_app(invitation.text())
        self.nodes = {FIRST_NODE + k: path for k, path in enumerate(sites)}
        self.away: set[int] = set()
        self.silent: set[int] = set()
        self.waiting: dict[str, Message] = {}
        self.seen: list[Message] = []

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in self.nodes if node not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        numbered = number(messages)
        self.seen += numbered
        self.waiting |= {message.metadata.message_id: message for message in numbered}
        return [message.metadata.message_id for message in numbered]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found = []
        for key in list(message_ids):
            message = self.waiting.get(key)
            if message is not None and message.metadata.dst_node_id not in self.silent:
                found.append(self.visit(self.waiting.pop(key)))
        return number(found)

    def visit(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        config = UserConfig({"site": str(self.nodes[node] / "site.yaml")})
        return self.app(message, Context(1, node, config, RecordDict(), UserConfig()))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(list(self.push_messages(messages)))


def invite(settings: dict[str, Any] = SMALL, **more: Any) -> Invitation:
    wanted: dict[str, Any] = {"sites": 3, "wait_s": 1.0, "transfer": None}
    return Invitation.to(scenarios.from_dict(settings), **wanted | more)


def sites_of(out: Path, settings: dict[str, Any] = SMALL) -> list[Path]:
    made = init_from_scenario(scenarios.from_dict(settings), out, None, ADDRESS, None)
    return [site.folder for site in made]


def edit(site: Path, **changes: Any) -> None:
    """Change top-level settings of a site's file; a mapping is merged."""
    plain = Site.load(site).file.model_dump()
    for key, value in changes.items():
        plain[key] = plain[key] | value if isinstance(value, dict) else value
    (site / "site.yaml").write_text(json.dumps(plain))


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [event for event in listen([capsys.readouterr().out]) if isinstance(event, dict)]


def test_sites_get_the_numbers_of_the_simulation(tmp_path, capsys):
    simulated = fedkt.simulate(SMALL, out=tmp_path / "simulated")
    invitation = invite()
    coordinate(SitesGrid(invitation, sites_of(tmp_path / "sites")), invitation, tmp_path / "home")
    told = events(capsys)
    assert [e["event"] for e in told if e["event"] not in ("asked", "replied")] == [
        "waiting",
        "started",
        "round",
        "round",
        "finished",
    ]
    (summary,) = [e["summary"] for e in told if e["event"] == "finished"]
    assert summary["engine"] == "sites"
    for key in ("accuracy", "bytes", "replies", "rounds", "clients"):
        assert summary[key] == simulated.summary[key], key
    mine = [c for e in told if e["event"] == "round" for c in e["clients"]]
    theirs = [
        json.loads(line) for line in (tmp_path / "simulated" / "clients.jsonl").read_text().splitlines()
    ]
    assert mine == theirs
    rounds = tmp_path / "home" / invitation.run / "rounds.jsonl"
    assert [json.loads(line)["round"] for line in rounds.read_text().splitlines()] == [1, 2]


def test_a_coordinator_goes_on_with_the_same_invitation(tmp_path, capsys):
    whole = invite()
    sites = sites_of(tmp_path / "whole")
    coordinate(SitesGrid(whole, sites), whole, tmp_path / "home")
    (expected,) = [e["summary"]["accuracy"] for e in events(capsys) if e["event"] == "finished"]

    sites = sites_of(tmp_path / "cut")
    invitation = invite(nonce="ab" * 16)
    grid = SitesGrid(invitation, sites)
    pull, left = grid.pull_messages, [9]  # 3 hellos, 3 trained, 3 evaluated, then the coordinator dies

    def dying(ids: Iterable[str]) -> Iterable[Message]:
        replies = list(pull(ids))
        left[0] -= len(replies)
        if left[0] < 0:
            raise ConnectionError
        return replies

    grid.pull_messages = dying  # type: ignore[assignment,method-assign]
    with pytest.raises(ConnectionError):
        coordinate(grid, invitation, tmp_path / "home")
    again = SitesGrid(invite(nonce="ab" * 16), sites)
    coordinate(again, invitation, tmp_path / "home")
    told = events(capsys)
    assert [e["info"]["round"] for e in told if e["event"] == "started"] == [0, 1]
    assert [e["summary"]["accuracy"] for e in told if e["event"] == "finished"] == [expected]
    # Round 2 had been trained when the coordinator died: the sites repeat that answer.
    trained = [e for site in sites for e in desk.log_lines(site / "state") if e["stage"] == "train"]
    assert [e["round"] for e in trained] == ["1", "2", "2"] * 3
    changed = invite(SMALL | {"seed": 1}, nonce="ab" * 16)
    assert changed.run != invitation.run


def test_a_site_that_was_away_is_counted_and_catches_up(tmp_path, capsys):
    settings = SMALL | {"rounds": 3, "strategy": {"name": "fedproto"}}
    settings |= {"participation": {"quorum": 2, "deadline_s": 3}}
    invitation, sites = invite(settings), sites_of(tmp_path / "sites", settings)
    grid = SitesGrid(invitation, sites)
    push = grid.push_messages

    def absent_in_round_two(messages: Iterable[Message]) -> Iterable[str]:
        sent = list(push(messages))
        newest = grid.seen[-1].metadata
        grid.away = {FIRST_NODE + 2} if (newest.group_id, newest.message_type) == ("1", "evaluate") else set()
        grid.silent = {FIRST_NODE + 1} if newest.group_id == "3" else set()
        return sent

    grid.push_messages = absent_in_round_two  # type: ignore[method-assign]
    coordinate(grid, invitation, tmp_path / "home")
    rows = [e for e in events(capsys) if e["event"] == "round"]
    assert [row["row"]["replies"] for row in rows] == [
        {"accepted": 3, "rejected": 0, "late": 0, "declined": 0, "failed": 0},
        {"accepted": 2, "rejected": 0, "late": 1, "declined": 0, "failed": 0},
        {"accepted": 2, "rejected": 0, "late": 1, "declined": 0, "failed": 0},
    ]
    assert [row["row"]["status"] for row in rows] == ["fused"] * 3
    assert [[c["status"] for c in row["clients"]] for row in rows] == [
        ["accepted"] * 3,
        ["accepted", "accepted", "late"],
        ["accepted", "late", "accepted"],
    ]
    # Back in round 3, the third site is brought the teacher of round 2 that it missed.
    (asked,) = [
        m
        for m in grid.seen
        if (m.metadata.dst_node_id, m.metadata.group_id, m.metadata.message_type)
        == (FIRST_NODE + 2, "3", "train")
    ]
    envelope = asked.content["fedkt"]
    assert isinstance(envelope, ConfigRecord)
    assert (envelope["teacher"], envelope["teacher_round"]) == (True, 2)


def test_a_wrong_transfer_set_costs_one_site_only(tmp_path, capsys):
    sites = sites_of(tmp_path / "sites")
    with np.load(sites[1] / "transfer.npz") as held:
        rows = {name: held[name] for name in held.files}
    with open(sites[1] / "transfer.npz", "wb") as file:
        np.savez(file, **rows | {"x_train": rows["x_train"][::-1]})
    invitation = invite()
    coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "home")
    told = events(capsys)
    (refused,) = [e for e in told if e["event"] == "refused"]
    assert (refused["who"], refused["reason"]) == ("1", "transfer")
    (summary,) = [e["summary"] for e in told if e["event"] == "finished"]
    assert (summary["clients"], summary["replies"]["accepted"]) == (2, 4)

    # Where the coordinator says which it is, the site itself declines.
    named = invite(transfer=Site.load(sites[0]).federation(scenarios.from_dict(SMALL)).transfer_hash)
    coordinate(SitesGrid(named, sites), named, tmp_path / "home")
    (refused,) = [e for e in events(capsys) if e["event"] == "refused"]
    assert refused["detail"].startswith("1: the site holds transfer set ")


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"policy": {"kinds": ["prototypes"]}}, "kind", "exchanges logits"),
        ({"policy": {"strategies": ["fedproto"]}}, "strategy", "'knfu' is not among"),
        ({"policy": {"privacy": ["dpsgd"]}}, "privacy", "'none' is not among"),
        ({"policy": {"max_epsilon": 3.0}}, "budget", "nothing bounds epsilon"),
        ({"policy": {"min_participants": 3}}, "participants", "of 2 already"),
        ({"policy": {"transfer_sets": ["0" * 64]}}, "transfer", "not in its policy"),
        ({"policy": {"max_reply_bytes": 100}}, "size", "allows 100"),
        ({"model": "cnn8"}, "model", "cnn8"),
        ({"model": {"name": "tabular"}}, "model", "tabular"),
        ({"data": {"rows": "npz:gone.npz"}}, "site", "failure.txt"),
        ({"data": {"transfer": None}}, "transfer", "the site has none"),
    ],
)
def test_a_site_declines_what_it_does_not_agree_to(tmp_path, capsys, changes, reason, words):
    sites = sites_of(tmp_path / "sites")
    edit(sites[0], **changes)
    invitation = invite(sites=2)
    grid = SitesGrid(invitation, sites)
    coordinate(grid, invitation, tmp_path / "home")
    told = events(capsys)
    (refused,) = [e for e in told if e["event"] == "refused"]
    assert refused["reason"] == reason
    assert words in refused["detail"]
    assert str(tmp_path) not in refused["detail"]
    assert [e["summary"]["clients"] for e in told if e["event"] == "finished"] == [2]
    (line,) = desk.log_lines(sites[0] / "state")
    assert (line["stage"], line["status"], line["reason"]) == ("hello", "declined", reason)


def test_rounds_per_day_and_the_end_of_a_run_that_nobody_goes_on_with(tmp_path, capsys):
    sites = sites_of(tmp_path / "sites")
    for site in sites:
        edit(site, policy={"rounds_per_day": 1})
    invitation = invite()
    with pytest.raises(RunError, match=r"no site goes on .*0: rounds: this site trains 1 rounds a day"):
        coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "home")
    rows = [e["row"] for e in events(capsys) if e["event"] == "round"]
    assert [row["replies"]["declined"] for row in rows] == [0, 3]
    for site in sites:
        edit(site, policy={"rounds_per_day": None})
    longer = invitation
    coordinate(SitesGrid(longer, sites), longer, tmp_path / "home")
    assert [e["info"]["round"] for e in events(capsys) if e["event"] == "started"] == [2]


def test_a_message_that_is_repeated_is_answered_with_the_same_bytes_and_an_old_one_is_not(tmp_path):
    settings = SMALL | {"rounds": 4}
    invitation, sites = invite(settings), sites_of(tmp_path / "sites", settings)
    grid = SitesGrid(invitation, sites)
    coordinate(grid, invitation, tmp_path / "home")
    first = [
        m for m in grid.seen if m.metadata.dst_node_id == FIRST_NODE and m.metadata.message_type == "train"
    ]
    newest = grid.visit(first[-1])
    assert packed(newest.content) == packed(grid.visit(first[-1]).content)
    assert newest.content["fedkt"]["status"] == "accepted"
    old = grid.visit(first[0]).content
    assert set(old) == {"fedkt"}
    assert (old["fedkt"]["status"], old["fedkt"]["reason"]) == ("declined", "replayed")
    # A message of another run, with an invitation that does not belong to it.
    grid.app = client_app(invite(settings, nonce="cd" * 16).text())
    other = grid.visit(first[-1]).content
    assert (other["fedkt"]["status"], other["fedkt"]["reason"]) == ("declined", "run")


def test_a_key_of_a_newer_version_is_told_at_once(tmp_path, capsys):
    sites = sites_of(tmp_path / "sites")
    invitation = invite()
    newer = json.loads(invitation.text())
    newer["scenario"]["quantum"] = {"mode": "entangled"}
    grid = SitesGrid(invitation, sites)
    grid.app = client_app(json.dumps(newer))
    with pytest.raises(RunError, match=r"0 sites came within 1 s \(none\); the scenario's quorum is 2"):
        coordinate(grid, invitation, tmp_path / "home")
    refused = [e for e in events(capsys) if e["event"] == "refused"]
    assert [e["reason"] for e in refused] == ["scenario"] * 3
    assert "unknown key 'quantum'" in refused[0]["detail"]


def test_an_app_holds_the_invitation_and_nothing_else_gets_through(tmp_path):
    invitation = invite()
    bundle, digest = pack(invitation)
    assert pack(invitation) == (bundle, digest)
    assert invitation_in(bundle) == invitation.text()
    assert Invitation.read(invitation_in(bundle)) == invitation

    def rewritten(**changed: str | None) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(bundle)) as old, zipfile.ZipFile(buffer, "w") as new:
            for name in old.namelist():
                text = changed.get(name, old.read(name).decode())
                if text is not None:
                    new.writestr(name, text)
            for name in set(changed) - set(old.namelist()):
                new.writestr(name, changed[name] or "")
        return buffer.getvalue()

    assert invitation_in(rewritten()) == invitation.text()
    for bad, words in [
        (rewritten(**{f"{PACKAGE}/extra.py": "import os"}), "other files"),
        (rewritten(**{INVITATION: None}), "other files"),
        (rewritten(**{f"{PACKAGE}/client.py": "import os"}), "client.py is not fedkt's"),
        (rewritten(**{INVITATION: " " * (1 << 20) + " "}), "longer than any scenario"),
        (b"PK", "cannot be read"),
    ]:
        with pytest.raises(Refused, match=words):
            invitation_in(bad)
    for bad_text in ("", "[]", "{}", '{"format": 2}', invitation.text().replace('"nonce": "', '"nonce": "x')):
        with pytest.raises(Refused):
            Invitation.read(bad_text)


def test_sites_that_do_not_agree():
    def facts(**changes: Any) -> Facts:
        usual = {"fedkt": "1", "transfer": "a" * 64, "rows": 5, "classes": 2, "width": 8, "parameters": {}}
        shape = {"kind": "tabular", "shape": [13], "vocabulary": 0}
        return Facts.model_validate(usual | {"input": shape} | changes)

    told: list[tuple[str, str]] = []
    usual, other, wide = facts(), facts(transfer="b" * 64), facts(classes=3)
    kept = fitting(
        {"c": usual, "a": usual, "b": other, "d": wide}, lambda who, why: told.append((who, why.reason))
    )
    assert sorted(kept) == ["a", "c"]
    assert told == [("b", "transfer"), ("d", "model")]
    with pytest.raises(
        Refused, match=r"do not agree: a \(transfer set aaaaaaaaaaaa .* and b \(transfer set bbbb"
    ):
        fitting({"a": usual, "b": other}, lambda who, why: None)
    assert heard(here_i_am("a", usual)) == ("a", usual)
    with pytest.raises(Refused, match="a: no") as no:
        heard(not_me("a", Refused("privacy", "no")))
    assert no.value.reason == "privacy"
    lies = [
        RecordDict(),
        RecordDict({"fedkt": ArrayRecord()}),
        RecordDict({"fedkt": ConfigRecord({"client": "a", "facts": "{}"})}),
        RecordDict({"fedkt": ConfigRecord({"client": "a", "facts": "x" * (1 << 21)})}),
        RecordDict(
            {"fedkt": ConfigRecord({"client": 3, "facts": usual.model_dump_json().replace("2", "1")})}
        ),
    ]
    for lie in lies:
        with pytest.raises(Refused):
            heard(lie)


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


def test_lines_of_output_are_heard_however_they_are_cut():
    text = f'noise\n{MARK}{{"event": "a"}}\n2026 INFO {MARK}{{"event": "b", "row": 1}}\n{MARK}{{broken\n'
    whole = list(listen([text]))
    assert whole == ["noise", {"event": "a"}, {"event": "b", "row": 1}, f"{MARK}{{broken"]
    assert list(listen(list(text))) == whole


def test_digest_and_bytes_of_a_message():
    content = RecordDict({"fedkt": ConfigRecord({"b": 1, "a": "x"}), "k": ArrayRecord([np.arange(3.0)])})
    turned = RecordDict({"k": ArrayRecord([np.arange(3.0)]), "fedkt": ConfigRecord({"a": "x", "b": 1})})
    other = RecordDict({"k": ArrayRecord([np.arange(3.0)]), "fedkt": ConfigRecord({"a": "x", "b": True})})
    assert desk.digest(content) == desk.digest(turned) != desk.digest(other)
    assert desk.digest(unpacked(packed(content))) == desk.digest(content)


def test_a_sites_ledger_is_its_own_and_its_budget_ends_what_it_gives(tmp_path, capsys):
    private = {"mode": "dpsgd", "noise_multiplier": 1.0, "delta": 1e-3, "max_epsilon": 50.0}
    settings = SMALL | {"privacy": private, "rounds": 3}
    invitation, sites = invite(settings), sites_of(tmp_path / "sites", settings)
    coordinate(SitesGrid(invitation, sites), invitation, tmp_path / "home")
    rows = [e for e in events(capsys) if e["event"] == "round"]
    spent = [{c["client"]: c["epsilon"] for c in row["clients"]} for row in rows]
    assert [sorted(row) for row in spent] == [[0, 1, 2]] * 3
    assert all(a[c] < b[c] for a, b in itertools.pairwise(spent) for c in a)
    for site in sites:
        assert len((site / "state" / "ledger" / site.name / "ledger.jsonl").read_text().splitlines()) >= 3

    # The ledger counts all runs: in a second one nothing is left of one site's own, lower budget.
    edit(sites[0], policy={"max_epsilon": spent[-1][0] * 1.01})
    again = invite(settings)
    coordinate(SitesGrid(again, sites), again, tmp_path / "home")
    rows = [e for e in events(capsys) if e["event"] == "round"]
    first = [row["clients"][0] for row in rows]
    assert [c["status"] for c in first] == ["declined"] * 3
    assert {c["reason"] for c in first} == {"budget"}
    assert [row["row"]["replies"]["accepted"] for row in rows] == [2] * 3


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
        f"36 training rows, 10 classes, model mlp, transfer set {transfer_of(sites[1])}",
    ]


def transfer_of(site: Path) -> str:
    held = Site.load(site).federation(scenarios.from_dict(SMALL)).transfer_hash
    assert held is not None
    return held


def test_a_reply_of_too_many_pieces_is_not_fetched(monkeypatch):
    monkeypatch.setattr(http_grid, "pull_objects", pull_objects)
    bound_replies(3, seconds=1.0)
    pull = vars(http_grid)["pull_objects"]
    asked: list[str] = []

    def fetch(name: str) -> bytes:
        asked.append(name)
        return b"x"

    assert pull(["a", "b", "c"], fetch) == {"a": b"x", "b": b"x", "c": b"x"}
    with pytest.raises(ObjectPullError, match=r"too-large.*215 objects; 3 are allowed"):
        pull([str(n) for n in range(215)], fetch)  # 1 GiB in objects of 5 MB
    assert sorted(asked) == ["a", "b", "c"]


def test_health_says_numbers_and_words(tmp_path):
    site = init_site(tmp_path / "site", "a", ADDRESS, None, {"health_port": 0})
    for status, more in [("accepted", {}), ("declined", {"reason": "rounds"}), ("accepted", {})]:
        desk.log(site.state, {"stage": "train", "status": status, **more})
    found = health(site, running=True, begun=time.time() - 5)
    assert (found["site"], found["healthy"], found["up_s"]) == ("a", True, 5)
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


@pytest.mark.data
@pytest.mark.skipif("FEDKT_DATA" not in os.environ, reason="FEDKT_DATA is not set")
def test_four_hospitals_as_sites_give_the_numbers_of_the_simulation(tmp_path, capsys):
    scenario = scenarios.load("heart-disease", ["rounds=3"])
    fedkt.simulate(scenario, out=tmp_path / "simulated")
    made = init_from_scenario(scenario, tmp_path / "sites", None, ADDRESS, None)
    assert [site.file.name for site in made] == ["cleveland", "hungarian", "switzerland", "va"]
    with np.load(made[0].folder / "rows.npz") as rows:
        assert set(rows["y_train"].tolist()) == {0, 1}
        assert np.isnan(rows["x_train"]).any()  # filled at the site, by the scenario's rule
    invitation = Invitation.to(scenario, sites=4, wait_s=60, transfer=None)
    coordinate(SitesGrid(invitation, [site.folder for site in made]), invitation, tmp_path / "home")
    mine = [c for e in events(capsys) if e["event"] == "round" for c in e["clients"]]
    theirs = [
        json.loads(line) for line in (tmp_path / "simulated" / "clients.jsonl").read_text().splitlines()
    ]
    assert [c["client"] for c in mine[:4]] == ["cleveland", "hungarian", "switzerland", "va"]
    for name in ("round", "client", "status", "personal", "personal_balanced", "personal_auc", "bytes"):
        assert [c.get(name) for c in mine] == [c.get(name) for c in theirs], name
    assert {c["global"] for c in mine} == {None}  # no common test set at real sites
