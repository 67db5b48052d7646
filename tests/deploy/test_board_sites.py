"""A board at a coordinator: sites that come when they can, restarts, and what is refused."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.app import ConfigRecord, RecordDict

from fedkt import scenario as scenarios
from fedkt.deploy.coordinator.board_desk import BoardDesk
from fedkt.deploy.coordinator.board_run import address_of, open_board, run_board
from fedkt.deploy.coordinator.board_server import BoardServer
from fedkt.deploy.coordinator.submission import submit
from fedkt.deploy.site.setup import init_from_scenario, write_key
from fedkt.deploy.site.site_file import Site
from fedkt.deploy.site.visiting import Visitor, visit_board
from fedkt.deploy.wire.flwr_control import packed, unpacked
from fedkt.deploy.wire.refusal import Refused
from fedkt.deploy.wire.signing import SIGNATURE, TIME, VERSION, known_keys, own_key, signed, verified
from fedkt.errors import InputError, RunError
from fedkt.results.folder import read_rows
from tests.deploy.sites import SMALL

SCENARIO = scenarios.from_dict({**SMALL, "engine": {"kind": "board"}, "board": {"half_life_s": 60.0}})


class Town:
    """Three sites, and a board that can be closed and opened again at the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.sites: list[Site] = []
        self.open()
        self.sites = init_from_scenario(SCENARIO, folder / "sites", None, f"127.0.0.1:{self.port}", None)
        (folder / "keys").mkdir()
        for site in self.sites:
            shutil.copy(site.folder / "node.pub", folder / "keys" / f"{site.file.name}.pub")
        self.server.keys = known_keys(folder / "keys")

    def open(self) -> None:
        """Open the board anew, or go on with the one that lies there."""
        resume = (self.folder / "run").exists()
        self.desk, self._run = open_board(SCENARIO, self.folder / "run", sites=3, resume=resume)
        keys = known_keys(self.folder / "keys") if resume else {}
        self.server = BoardServer(("127.0.0.1", self.port), self.desk, keys)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Close it as a kill would: nothing is written."""
        self.server.shutdown()
        self.server.server_close()
        self._run.close()

    def visitor(self, number: int) -> Visitor:
        return Visitor(self.sites[number], again_s=0.02, say=lambda _: None)

    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder / "run" / "rounds.jsonl")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


class Lost(Exception):
    """Stands for a process that dies."""


def test_sites_come_when_they_can_and_restarts_are_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator dies before and after it took a deposit, the site in the middle of its visit."""
    assert town.visitor(0).visit()  # nobody else is there yet
    assert town.desk.visits == 1
    with monkeypatch.context() as patch:
        call = Visitor._call

        def deaf(self: Visitor, name: str, body: bytes = b"") -> bytes:
            heard = call(self, name, body)
            if name == "/deposit":
                raise Lost  # taken, and the answer never heard
            return heard

        patch.setattr(Visitor, "_call", deaf)
        with pytest.raises(Lost):
            town.visitor(1).visit()
    assert town.desk.visits == 2
    town.close()
    town.open()
    assert town.desk.visits == 2
    assert town.visitor(1).visit()  # goes on where it was: its deposit counts once
    assert town.desk.visits == 2
    with monkeypatch.context() as patch:
        patch.setattr(Visitor, "_answer", lambda *_: (_ for _ in ()).throw(Lost))
        with pytest.raises(Lost):
            town.visitor(2).visit()  # it was asked, and had not trained
    town.close()
    town.open()
    sites = [town.visitor(number) for number in (2, 0, 0)]
    assert [visitor.visit() for visitor in sites] == [True] * 3  # who is quick comes again
    late = town.desk.train("1")
    assert late is not None and town.visitor(0).visit() and town.desk.over
    town.visitor(1)._note("train", packed(late))
    assert not town.visitor(1).visit()  # it trained while the last visit was made
    assert not town.visitor(1).visit() and town.desk.visits == 6
    first, second = town.rows()
    assert first["replies"]["accepted"] == second["replies"]["accepted"] == 3
    assert first["report"]["ages_s"].keys() == {"0", "1", "2"}
    assert 0 < first["accuracy"]["global_mean"] < 1
    summary = json.loads((town.folder / "run" / "summary.json").read_text())
    assert (summary["engine"], summary["rounds"], summary["clients"]) == ("board", 2, 3)
    assert summary["bytes"] == {"up": 6 * (50 * 40 + 128), "down": 5 * (50 * 40 + 128)}


def changed(content: bytes, **entries: Any) -> RecordDict:
    """Return a message with other entries in its envelope."""
    read = unpacked(content)
    envelope: Any = read["fedkt"]
    read["fedkt"] = ConfigRecord({**dict(envelope.items()), **entries})
    return read


def test_what_a_board_does_not_take_changes_nothing(town: Town) -> None:
    visitor = town.visitor(0)
    name, desk = town.sites[0].file.name, town.desk
    reply = visitor._answer("train", packed(desk.train(name)))  # type: ignore[arg-type]
    for entries, reason, words in (
        ({"protocol": 0}, "protocol", "protocol: the message's protocol is 0; here it is 1"),
        ({"round": 7}, "message", "nobody was asked about visit 7"),
        ({"run": "0" * 32}, "message", "run: the message's run is"),
        ({"nonce": "0" * 32}, "message", "replay: the message's nonce"),
        ({"client": "2"}, "message", "client 0 answered as '2'"),
    ):
        with pytest.raises(Refused, match=words) as refused:
            desk.deposit(name, changed(reply, **entries))
        assert refused.value.reason == reason
    assert desk.visits == 0
    assert desk.deposit(name, unpacked(reply)) is not None
    assert desk.deposit(name, unpacked(reply)) is not None  # heard again, counts once
    assert desk.visits == 1
    with pytest.raises(Refused, match="replay"):
        desk.deposit(name, changed(reply, nonce="0" * 32))
    with pytest.raises(Refused, match="has no place"):
        desk.train("nobody")


def post(town: Town, call: str, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    reply = httpx.post(f"http://127.0.0.1:{town.port}{call}", content=body, headers=headers)
    return reply.status_code, reply.json()["reason"] if reply.content else ""


def test_who_calls_is_known_by_its_key_and_when_by_its_time(town: Town, tmp_path: Path) -> None:
    key = own_key(town.sites[0].folder / "node.key")
    good = signed(key, "0", "/train", b"")
    assert post(town, "/train", b"", good) == (409, "roster")  # it has not introduced itself
    assert post(town, "/train", b"x", good) == (409, "key")
    assert post(town, "/done", b"", good) == (409, "key")
    assert post(town, "/train", b"", signed(key, "1", "/train", b"")) == (409, "key")
    assert post(town, "/train", b"", {**good, SIGNATURE: "?"}) == (409, "key")
    assert post(town, "/train", b"", {**good, VERSION: "0"}) == (409, "protocol")
    assert post(town, "/train", b"", {}) == (409, "protocol")
    assert post(town, "/deposit", b"\xff", signed(key, "0", "/deposit", b"\xff")) == (409, "message")
    assert post(town, "/nowhere", b"", good)[0] == 404
    assert post(town, "/hello", bytes(town.desk.largest + 1), good)[0] == 413
    now = float(good[TIME])
    assert verified(town.server.keys, good, "/train", b"", now - 59) == "0"
    for clock, words in ((now - 61, "61 s in the future"), (now + 301, "301 s old")):
        with pytest.raises(Refused, match=words) as refused:
            verified(town.server.keys, good, "/train", b"", clock)
        assert refused.value.reason == "time"


def test_places_go_to_those_that_come_first_and_fit(town: Town) -> None:
    from fedkt.deploy.wire.hello import heard

    facts = heard(town.visitor(0)._asked("query", RecordDict()))[1]
    for other, words in (
        (facts.model_copy(update={"transfer": "a" * 64}), "7 has transfer set aaaaaaaaaaaa"),
        (facts.model_copy(update={"classes": 3}), "7 has transfer set .* 3 classes"),
    ):
        with pytest.raises(Refused, match=words):
            town.desk.hello("7", other)
    town.desk.hello("1", facts)
    town.desk.hello("2", facts)
    with pytest.raises(Refused, match="all 3 places of this board are taken"):
        town.desk.hello("3", facts)
    with pytest.raises(Refused, match="0 came with another model"):
        town.desk.hello("0", facts.model_copy(update={"rows": 7}))


def test_bad_input_is_told_before_anything_is_served(tmp_path: Path) -> None:
    keys, out = tmp_path / "keys", tmp_path / "out"
    keys.mkdir()

    def told(
        settings: dict[str, Any] | None = None, listen: str = "127.0.0.1:0", sites: int = 3
    ) -> list[str]:
        scenario = SCENARIO if settings is None else scenarios.from_dict({**SMALL, **settings})
        with pytest.raises(InputError) as wrong:
            run_board(scenario, out, listen, keys=keys, sites=sites)
        return list(wrong.value.problems)

    assert told(listen="nowhere") == ["--listen is 'nowhere'; it must be HOST:PORT, such as 127.0.0.1:8443."]
    assert told() == [f"{keys} holds no keys; put each site's node.pub there as SITE.pub."]
    (keys / "a.pub").write_text("ssh-rsa nothing")
    assert told() == [f"{keys / 'a.pub'} holds no ECDSA key in OpenSSH form; put a site's node.pub there."]
    write_key(tmp_path)
    shutil.copy(tmp_path / "node.pub", keys / "a.pub")
    found = told({"engine": {"kind": "inline"}}, sites=1)
    assert found[0].startswith("engine.kind is 'inline', which has rounds; fedkt submit runs it")
    assert found[1].startswith("--sites is 1, but participation.quorum is 2")
    assert told(listen="0.0.0.0:0")[0].startswith(
        "--listen is 0.0.0.0, which others can reach, so it needs TLS"
    )
    assert address_of("[::1]:80") == ("[::1]", 80)
    with pytest.raises(RunError, match="the board refuses: key"):
        pass_by(tmp_path)


def pass_by(folder: Path) -> None:
    """Visit a board that does not know the site."""
    town = Town(folder / "town")
    try:
        town.server.keys = {}
        town.visitor(0)
    finally:
        town.close()


def test_over_tls_with_certificates_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedkt.deploy.certificates import make_certificates
    from fedkt.deploy.coordinator import board_run
    from fedkt.deploy.rehearsal import free_port

    monkeypatch.setattr(board_run, "LAST_S", 0.5)
    make_certificates(tmp_path / "pki", ["localhost", "127.0.0.1"])
    address = f"127.0.0.1:{free_port()}"
    one = scenarios.from_dict({**scenarios.to_dict(SCENARIO), "rounds": 1, "participation": {"quorum": 1}})
    ca = tmp_path / "pki" / "ca.pem"
    (site, *_) = init_from_scenario(SCENARIO, tmp_path / "sites", None, address, ca)
    (site.folder / "site.yaml").write_text(
        (site.folder / "site.yaml").read_text().replace("min_participants: 2", "min_participants: 1")
    )
    (tmp_path / "keys").mkdir()
    shutil.copy(site.folder / "node.pub", tmp_path / "keys" / "0.pub")
    said: list[str] = []
    how: dict[str, Any] = {"times": None, "pause_s": 0.0, "say": said.append, "again_s": 0.05}
    visiting = threading.Thread(target=visit_board, args=(Site.load(site.folder),), kwargs=how)
    visiting.start()  # before there is a board: it calls until there is one
    tls = (tmp_path / "pki" / "server.pem", tmp_path / "pki" / "server.key")
    result = run_board(one, tmp_path / "run", address, keys=tmp_path / "keys", sites=1, tls=tls)
    visiting.join()
    assert result.summary["replies"]["accepted"] == 1
    assert said[-2:] == ["visit 1: deposited, collected and digested", "the board is over"]
    with pytest.raises(InputError, match="fedkt board' runs it"):
        submit(SCENARIO, "anywhere", out=tmp_path / "submitted")


def test_a_board_that_cannot_answer_ends_and_goes_on(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedkt.engine.loop import checkpoint

    full = OSError(28, "No space left on device")
    visitor = town.visitor(0)

    def write(*_: Any) -> None:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", write)
        patch.setattr("time.sleep", lambda _: (_ for _ in ()).throw(Lost))
        with pytest.raises(Lost):
            visitor.visit()  # heard nothing, and would call again
        assert town.server.failed is full
    town.close()
    town.open()
    assert town.desk.visits == 0 and visitor.visit() and town.desk.visits == 1


@pytest.mark.deploy
def test_a_coordinator_is_killed_and_nothing_is_lost() -> None:
    """As many as fit in a minute; ``python -m benchmarks.board_kills`` kills 100 times."""
    from benchmarks.board_kills import kills

    assert kills(3, seed=1)


def test_a_desk_is_one_file_away_from_another(town: Town) -> None:
    """What a second process would read after each call is what the first one knows."""
    town.visitor(0).visit()
    town.close()
    town.open()
    desk: BoardDesk = town.desk
    assert desk._loop is not None
    assert list(desk._loop.board.held) == ["0"] and desk._loop.totals.metrics.keys() == {"0"}
