"""What a site keeps on its disk, so that a killed process, site or coordinator loses nothing.

``<state_dir>/runs/<run>/states``: the model and optimiser by version (:mod:`fedkt.client.state`);
``.../replies``: what was answered, so that a repeated request gets the same bytes without training, and
without spending anything, a second time; ``<state_dir>/days``: the rounds that were trained per day;
``log.jsonl``: what happened, in numbers and words of a fixed set, without data.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fedkt.client.state import DiskStore
from fedkt.data.identity import changed
from fedkt.deploy.wire.refusal import Refused
from fedkt.files import lock_file, write_atomic, write_json

LOG_BYTES = 8 << 20
"""The log is moved aside when it has grown to this."""


@contextmanager
def at_desk(state: Path) -> Iterator[None]:
    """Wait until no other process of the site works, then keep others out."""
    state.mkdir(parents=True, exist_ok=True)
    with open(state / ".lock", "w") as lock:
        lock_file(lock)
        yield


class Desk:
    """What a site keeps for one run."""

    def __init__(self, state: Path, run: str) -> None:
        self._state = state
        self._run = run
        self._folder = state / "runs" / run
        self.store = DiskStore(self._folder / "states")

    def open_round(self, round_: int, kept: int, limit: int | None) -> None:
        """Note that a round is trained. Raises Refused for one from before ``kept``, and beyond the limit.

        ``kept``: the oldest round from which the coordinator may resume; what is older was replaced by then,
        so such a request is a copy of an old one. It never falls.
        """
        path = self._folder / "kept.json"
        known = json.loads(path.read_text()) if path.is_file() else 0
        if round_ <= known:
            raise Refused(
                "replayed", f"round {round_} is over; the run cannot go back before round {known + 1}."
            )
        if kept > known:
            write_json(path, min(kept, round_ - 1))
        if limit is None:
            return
        today = self._state / "days" / f"{time.strftime('%Y-%m-%d', time.gmtime())}.json"
        done = json.loads(today.read_text()) if today.is_file() else []
        mine = f"{self._run}/{round_}"
        if mine in done:
            return
        if len(done) >= limit:
            raise Refused(
                "rounds", f"this site trains {limit} rounds a day, and has; it goes on after midnight UTC."
            )
        write_json(today, [*done, mine])

    def same_data(self, hashes: Mapping[str, str]) -> None:
        """Keep the hashes of the data that the run began with. Raises Refused where they are others now."""
        path = self._folder / "data.json"
        if not path.is_file():
            write_json(path, dict(hashes))
        elif others := changed(json.loads(path.read_text()), hashes):
            raise Refused(
                "data",
                f"{' and '.join(others)} at the site changed since this run began; the site must restore "
                "them, or take part in a new run.",
            )

    def answered(self, stage: str, round_: int, question: str) -> bytes | None:
        """Return what was answered to this question (its digest), None if it is new."""
        path = self._reply(stage, round_)
        if not path.is_file():
            return None
        asked, _, reply = path.read_bytes().partition(b"\n")
        return reply if asked.decode() == question else None

    def keep_answer(self, stage: str, round_: int, question: str, reply: bytes, kept: int) -> None:
        """Keep an answer until no coordinator can ask again."""
        write_atomic(self._reply(stage, round_), question.encode() + b"\n" + reply)
        for old in self._folder.glob("replies/*"):
            if int(old.name.split("-")[0]) <= kept:
                old.unlink()

    def _reply(self, stage: str, round_: int) -> Path:
        return self._folder / "replies" / f"{round_:06d}-{stage}"


def log(state: Path, entry: Mapping[str, Any]) -> None:
    """Append one line to the site's log: the time, then what is given (JSON values, never data)."""
    state.mkdir(parents=True, exist_ok=True)
    path = state / "log.jsonl"
    if path.is_file() and path.stat().st_size > LOG_BYTES:
        os.replace(path, state / "log.1.jsonl")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **entry}) + "\n")


def log_lines(state: Path, last: int = 100) -> list[dict[str, Any]]:
    """Return the newest lines of the site's log."""
    path = state / "log.jsonl"
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 512 * last))
        lines = file.read().decode("utf-8", "replace").splitlines(keepends=True)
    found = []
    for line in lines[-last:]:
        try:
            found.append(json.loads(line))
        except ValueError:  # cut off at the beginning, or by a crash
            continue
    return found


def digest(content: RecordDict) -> str:
    """Return the SHA-256 of a message's settings and arrays, whatever their order."""
    hashed = hashlib.sha256()
    for key in sorted(content):
        record = content[key]
        hashed.update(f"{key}\x1f{type(record).__name__}\x1e".encode())
        if isinstance(record, ArrayRecord):
            for name, array in sorted(record.items()):
                hashed.update(f"{name}\x1f{array.dtype}\x1f{array.shape}\x1f{len(array.data)}\x1e".encode())
                hashed.update(array.data)
        elif isinstance(record, ConfigRecord):
            for name, value in sorted(record.items()):
                hashed.update(f"{name}\x1f{value!r}\x1e".encode())
    return hashed.hexdigest()
