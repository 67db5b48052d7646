"""Trouble at a running federation of real processes: one party is wrong, old or hostile, the others go on."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedkt import scenario as scenarios
from fedkt.deploy.certificates import make_certificates
from fedkt.deploy.coordinator.events import listen
from fedkt.deploy.rehearsal import LINK, Rehearsal
from fedkt.deploy.site import desk
from fedkt.deploy.wire.flwr_control import Control
from fedkt.deploy.wire.invitation import Invitation
from fedkt.deploy.wire.pack import pack
from fedkt.results.folder import read_rows
from tests.deploy.rehearsed import SCENARIO, submitted, wait_for
from tests.deploy.sites import edit

pytestmark = pytest.mark.deploy

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
MIB = int(os.environ.get("FEDKT_TEST_MIB", "256"))
"""Size of the reply that is far too large; 1024 was tried by hand, see docs/deployment.md."""


@contextmanager
def spoilt(file: Path, content: bytes) -> Iterator[None]:
    """Let a file hold something else for the block."""
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def said(it: Rehearsal, site: str) -> str:
    """Return what a site said last of its connection, "" when it is fine."""
    lines = desk.log_lines(it.sites[site] / "state")
    return next((line["problem"] for line in reversed(lines) if line.get("event") == "connection"), "nothing")


def turned(file: Path, scratch: Path) -> bytes:
    """Return an npz file with its rows in the opposite order."""
    with np.load(file) as held:
        np.savez(scratch, **{name: held[name][::-1] for name in held.files})
    return scratch.read_bytes()


def test_a_wrong_transfer_set_and_a_model_that_does_not_fit_cost_one_site(
    it: Rehearsal, tmp_path: Path
) -> None:
    once = ("--set", "rounds=1")
    file = it.sites["2"] / "transfer.npz"
    with spoilt(file, turned(file, tmp_path / "turned.npz")):
        summary = submitted(it, "runs/transfer", *once)
    assert "refused: 2: transfer: 2 has transfer set " in summary["told"]
    assert (summary["clients"], summary["replies"]["accepted"]) == (2, 2)
    file = it.sites["2"] / "site.yaml"
    with spoilt(file, file.read_bytes()):
        edit(it.sites["2"], model="resnet99")
        summary = submitted(it, "runs/model", *once, wait=25)
    (refused,) = [line for line in summary["told"].splitlines() if line.startswith("refused: ")]
    assert ": model: 2: " in refused
    assert "resnet99" in refused
    assert (summary["clients"], summary["replies"]["accepted"]) == (2, 2)


@pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed")
def test_a_clock_that_is_wrong_is_named_at_the_site_and_the_others_go_on(it: Rehearsal) -> None:
    it.stop_one("2")
    begun = time.monotonic()
    it.start_site("2", LD_PRELOAD=str(FAKETIME), FAKETIME="+600", FAKETIME_DONT_FAKE_MONOTONIC="1")
    try:
        wait_for(lambda: "s ahead of the coordinator's" in said(it, "2"))
        assert time.monotonic() - begun < 60
        assert submitted(it, "runs/skew", "--set", "rounds=1", sites=2)["clients"] == 2
    finally:
        it.stop_one("2")
        it.start_site("2")
    wait_for(lambda: not said(it, "2"))


def test_an_expired_certificate_is_named_on_both_sides_and_a_new_one_is_enough(it: Rehearsal) -> None:
    hosts = ["localhost", "127.0.0.1"]
    it.kill(LINK)
    make_certificates(it.pki, hosts, 30, datetime.now(UTC) - timedelta(days=365))
    it.start(LINK, it.link_command())
    try:
        for site in it.sites:
            wait_for(lambda s=site: "shows an expired certificate" in said(it, s))  # type: ignore[misc]
        done = it.submit(SCENARIO, "--out", "runs/expired")
        assert done.returncode in (2, 3)
        assert "expired" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    finally:
        it.kill(LINK)
        make_certificates(it.pki, hosts)
        it.start_link()
    assert submitted(it, "runs/renewed", "--set", "rounds=1")["replies"]["accepted"] == 3


# What a Python process does beside its work, by the command that it was started with ------------------

HOSTILE_COORDINATOR = """
import os, sys
from dataclasses import replace
if any("flwr-serverapp" in word for word in sys.orig_argv):
    import fedkt.deploy.coordinator.server_app as server
    from fedkt.deploy.wire.flwr_control import packed
    from fedkt.deploy.wire.invitation import Invitation
    from flwr.app import Message

    # A newer fedkt, which knows a key more.
    checked = Invitation.checked

    def newer(self):
        return checked(replace(self, scenario={k: v for k, v in self.scenario.items() if k != "quantum"}))

    Invitation.checked = newer

    class Again(server.SiteGrid):
        first = None

        def again(self, asked):
            meta = asked.metadata
            copy = Message(asked.content, meta.dst_node_id, meta.message_type, group_id=meta.group_id)
            (reply,) = self._grid.send_and_receive([copy], timeout=100)
            return reply.content

        def pull_messages(self, ids):
            for reply in (replies := super().pull_messages(ids)):
                asked = self._sent[reply.metadata.reply_to_message_id]
                meta = asked.metadata
                if meta.message_type != "train" or self._reception.here[meta.dst_node_id] != "0":
                    continue
                self.first = self.first or asked
                same = packed(self.again(asked)) == packed(reply.content)
                old = "" if meta.group_id != "4" else self.again(self.first)["fedkt"]["reason"]
                with open(os.environ["FEDKT_TEST_TOLD"], "a") as file:
                    file.write(f"{meta.group_id} {same} {old}\\n")
            return replies

    if "FEDKT_TEST_TOLD" in os.environ:
        server.SiteGrid = Again
"""

HOSTILE_SITE = """
import os, sys
if "fedkt.deploy.site.warm" in sys.orig_argv:
    import numpy as np
    from flwr.app import ArrayRecord
    import fedkt.deploy.site.site_app as client

    answer = client._answer

    def huge(visit):
        content = answer(visit)
        if visit.stage == "train":
            noise = np.frombuffer(os.urandom(int(os.environ["FEDKT_TEST_MIB"]) << 20), np.uint8)
            content["knowledge"] = ArrayRecord([noise])
        return content

    client._answer = huge
"""


def beside(tmp_path: Path, code: str) -> str:
    """Return a folder that makes every Python process which has it on its path run the code first."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "sitecustomize.py").write_text(code)
    return str(tmp_path / "beside")


def test_a_coordinator_that_repeats_itself_gets_the_same_bytes_and_one_that_goes_back_gets_a_no(
    it: Rehearsal, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    it.kill(LINK)
    it.start_link(PYTHONPATH=beside(tmp_path, HOSTILE_COORDINATOR), FEDKT_TEST_TOLD=str(told))
    try:
        submitted(it, "runs/again", "--set", "rounds=4")
    finally:
        it.kill(LINK)
        it.start_link()
    assert told.read_text().splitlines() == ["1 True ", "2 True ", "3 True ", "4 True replayed"]


def test_sites_tell_a_newer_coordinator_which_key_they_do_not_know(
    it: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Invitation.to(scenarios.load(SCENARIO), sites=3, wait_s=30, transfer=None)
    newer = {**usual.scenario, "quantum": {"mode": "entangled"}}
    bundle, digest = pack(Invitation(newer, usual.nonce, 3, 30.0))
    monkeypatch.setenv("FLWR_HOME", it.environment["FLWR_HOME"])
    it.kill(LINK)
    it.start_link(PYTHONPATH=beside(tmp_path, HOSTILE_COORDINATOR))
    control = Control("rehearsal")
    try:
        wait_for(lambda: it.run(["flwr", "supernode", "list", "rehearsal"]).stdout.count("online") == 3)
        found = [e for e in listen(control.output(control.start(bundle, digest))) if isinstance(e, dict)]
    finally:
        control.close()
        it.kill(LINK)
        it.start_link()
    refused = [e for e in found if e["event"] == "refused"]
    assert [e["reason"] for e in refused] == ["scenario"] * 3
    assert {e["detail"][1:].split(";")[0] for e in refused} == {": unknown key 'quantum'"}
    assert found[-1]["problem"].startswith("0 sites came within 30 s (none)")


def peak(pids: list[int]) -> int:
    """Return the largest resident memory, in MiB, that one of these processes ever had."""
    most = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        most = max(most, *(int(line.split()[1]) >> 10 for line in text.splitlines() if "VmHWM" in line), 0)
    return most


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_reply_that_is_far_too_large_is_refused_and_the_others_go_on(it: Rehearsal, tmp_path: Path) -> None:
    it.stop_one("2")
    it.start_site("2", PYTHONPATH=beside(tmp_path, HOSTILE_SITE), FEDKT_TEST_MIB=str(MIB))
    before = peak(it.family(LINK))
    out = it.folder / "runs" / "huge"
    changes = ("rounds=2", "participation={quorum: 2, deadline_s: 240}")
    try:
        summary = submitted(it, str(out), *(part for change in changes for part in ("--set", change)))
        after = peak(it.family(LINK))
    finally:
        it.stop_one("2")
        it.kill(LINK)  # Flower's own server may not get over it, see docs/deployment.md
        it.start_link()
        it.start_site("2")
    rows = read_rows(out / "clients.jsonl")
    huge: list[dict[str, Any]] = [row for row in rows if row["client"] == 2]
    assert [(row["status"], row["reason"]) for row in huge] == [("failed", "too-large")] * 2
    assert (summary["rounds"], summary["replies"]["accepted"]) == (2, 4)
    seconds = [row["wall_s"] for row in read_rows(out / "rounds.jsonl")]
    print(f"{MIB} MiB a reply: the coordinator's peak {before} to {after} MiB, rounds of {seconds} s")
