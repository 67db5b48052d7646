"""What a deployment sends and hears, piece by piece: the app, introductions, events, replies."""

import io
import runpy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, pull_objects
from flwr.superlink.grid import http_grid

from fedkt.deploy.coordinator.events import MARK, listen
from fedkt.deploy.coordinator.reception import fitting
from fedkt.deploy.site import desk
from fedkt.deploy.wire.flwr_control import bound_replies, packed, unpacked
from fedkt.deploy.wire.hello import Facts, heard, here_i_am, not_me
from fedkt.deploy.wire.invitation import Invitation
from fedkt.deploy.wire.pack import INVITATION, PACKAGE, invitation_in, pack
from fedkt.deploy.wire.refusal import Refused
from tests.deploy.sites import invite


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


def test_both_halves_of_an_app_are_found(tmp_path: Path) -> None:
    """Flower imports them by name at the other end, where a module that has moved would show too late."""
    with zipfile.ZipFile(io.BytesIO(pack(invite())[0])) as archive:
        archive.extractall(tmp_path)
    for half, kind in (("server", ServerApp), ("client", ClientApp)):
        assert isinstance(runpy.run_path(str(tmp_path / PACKAGE / f"{half}.py"))["app"], kind)


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
        RecordDict({"fedkt": ConfigRecord({"client": 3, "facts": usual.model_dump_json()})}),
        RecordDict(
            {"fedkt": ConfigRecord({"client": "a", "facts": usual.model_dump_json().replace("2", "0")})}
        ),
    ]
    for lie in lies:
        with pytest.raises(Refused):
            heard(lie)


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
