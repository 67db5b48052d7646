"""The privacy ledger: what a party's data has paid, on the party's disk, for ever.

One folder per client dataset (and one at the server for modes that hide whole clients). ``ledger.jsonl`` has
one entry per line, each with the SHA-256 of the line before it; ``sent/`` keeps what was released, so that a
repeated request gets the same bytes and costs nothing.

The order is what makes it true, whenever the process dies: *reserve* (the entry is on the disk), then touch
data, then write what will be released and its hash, then send. There are no refunds: an attempt that died
between reserving and releasing stays paid, and the next attempt pays again, since the data are touched again.
A ledger outlives rounds, runs and restarts.

The chain shows edits and lines taken out; an *anchor* (number of entries, newest hash), kept elsewhere by who
uses the ledger, shows a file that was cut short or deleted. Neither stops a party from lying to itself.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from fedkt.files import lock_file, read_tensors, sync_folder, write_tensors
from fedkt.privacy.accounting import CHANGES, Change, Event, Spent, Unit, spent, would_exceed

FILE = "ledger.jsonl"
FORMAT = 1
_START = "0" * 64


class Declined(Exception):
    """The ledger says no; nothing was touched. ``reason``: one word; ``detail``: a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Purpose:
    """What an access is for: at most one release each."""

    run: str
    round: int
    stage: str


@dataclass(frozen=True)
class Anchor:
    """How far a ledger had come: its number of entries and the hash of the newest."""

    entries: int
    newest: str


class Ledger:
    """One dataset's ledger; every method reads the file anew, so processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE

    # Reading ----------------------------------------------------------------------------------------

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries, checked. Raises Declined (``ledger``) where the file was tampered with.

        A last line without its end is what a crash left of an entry that had not been made yet.
        """
        if not self.path.exists():
            return []
        found: list[dict[str, Any]] = []
        newest = _START
        for number, line in enumerate(_whole_lines(self.path.read_bytes()), start=1):
            entry = _parse(line)
            if entry is None or entry.get("previous") != newest or entry.get("entry") != number:
                raise Declined(
                    "ledger",
                    f"the privacy ledger {self.path} was changed at line {number}; restore it from a backup, "
                    "for what was paid cannot be known without it.",
                )
            newest = _hash(line)
            found.append(entry)
        return found

    def anchor(self) -> Anchor:
        """Return how far the ledger has come."""
        lines = _whole_lines(self.path.read_bytes()) if self.path.exists() else []
        return Anchor(len(lines), _hash(lines[-1]) if lines else _START)

    def check(self, anchor: Anchor) -> None:
        """Raise Declined (``ledger``) unless the ledger holds what it held at the anchor."""
        if not anchor.entries:
            return
        lines = _whole_lines(self.path.read_bytes()) if self.path.exists() else []
        if len(lines) < anchor.entries or _hash(lines[anchor.entries - 1]) != anchor.newest:
            what = "is missing" if not lines else "was cut short or replaced"
            raise Declined(
                "ledger",
                f"the privacy ledger {self.path} {what}: it had {anchor.entries} entries; restore it from a "
                "backup, for what was paid cannot be known without it.",
            )

    def check_rows(self, data: str | None) -> None:
        """Raise Declined (``data``) where what this ledger counts was paid by other rows than these."""
        self._check_rows(self.entries(), data)

    def events(self) -> list[Event]:
        """Return everything that was ever reserved."""
        return _events(self.entries())

    def spent(self, delta: float, unit: Unit) -> Spent:
        """Return the epsilon of everything that was ever reserved."""
        return spent(self.events(), delta, unit)

    # Writing ----------------------------------------------------------------------------------------

    def reserve(
        self,
        purpose: Purpose,
        events: Sequence[Event],
        *,
        delta: float,
        unit: Unit,
        change: Change,
        most: float,
        data: str | None = None,
    ) -> None:
        """Put the events into the ledger, on the disk, before data are touched.

        ``data``: the hash of the rows that pay (:func:`~fedkt.data.identity.party_hash`).

        Raises Declined: ``budget`` where epsilon would exceed ``most``, ``data`` where other rows paid
        before, ``ledger`` where the file cannot be trusted or written, or holds what was paid under a weaker
        claim than that of ``unit`` and ``change``. An empty list of events reserves nothing.
        """
        if not events:
            return
        with self._locked():
            entries = self.entries()
            self._check_rows(entries, data)
            self.refuse_weaker(entries, unit, change)
            exceeding = would_exceed([*_events(entries), *events], delta, unit, most)
            if exceeding is not None:
                raise Declined(
                    "budget",
                    f"epsilon would be {exceeding.epsilon:.4g} after this round; the budget is {most:g} "
                    f"at delta {delta:g}.",
                )
            self._append(
                entries,
                {
                    "state": "reserved",
                    **_purpose(purpose),
                    "unit": unit,
                    "change": change,
                    "delta": delta,
                    **({} if data is None else {"data": data}),
                    "most": most if math.isfinite(most) else None,
                    "events": [event.to_json() for event in events],
                },
            )

    def refuse_weaker(self, entries: Sequence[Mapping[str, Any]], unit: Unit, change: Change) -> None:
        """Raise Declined (``ledger``) where what was paid is proven for a weaker claim than this one."""
        weakest = weakest_change(entries)
        if CHANGES.index(weakest) < CHANGES.index(change):
            raise Declined(
                "ledger",
                f"the privacy ledger {self.path} holds what was paid for a {unit} {weakest}, which does not "
                f"bound what a {unit} {change} costs; claim the former, or begin a ledger for other data.",
            )

    def release(self, purpose: Purpose, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep what is about to be sent, with its hash; raises Declined unless it was reserved."""
        with self._locked():
            entries = self.entries()
            mine = [entry for entry in entries if _is(entry, purpose)]
            if not any(entry["state"] == "reserved" for entry in mine):
                raise Declined("ledger", f"nothing was reserved for {purpose}; it may not be released.")
            if any(entry["state"] == "released" for entry in mine):
                raise Declined("ledger", f"{purpose} was released already; a second answer is not paid for.")
            path = self._sent(purpose)
            write_tensors(path, {n: torch.from_numpy(a.copy()) for n, a in arrays.items()}, None)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            self._append(entries, {"state": "released", **_purpose(purpose), "sha256": digest})

    def released(self, purpose: Purpose) -> dict[str, NDArray[Any]] | None:
        """Return what was released for this purpose, the same bytes again; None where nothing was."""
        for entry in self.entries():
            if _is(entry, purpose) and entry["state"] == "released":
                path = self._sent(purpose)
                if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
                    raise Declined("ledger", f"what was sent for {purpose} is missing or changed at {path}.")
                return {name: tensor.numpy() for name, tensor in read_tensors(path)[0].items()}
        return None

    def note(self, text: str) -> None:
        """Add a remark, such as why a ledger was begun anew."""
        with self._locked():
            self._append(self.entries(), {"state": "note", "text": text})

    def adopt(self) -> None:
        """Let the ledger count for other rows than before, too: those that pay next."""
        with self._locked():
            text = "from here on this ledger counts for the rows that pay next, too"
            self._append(self.entries(), {"state": "note", "text": text, "data": None})

    def forget_sent(self, run: str, before: int) -> None:
        """Delete what was sent in rounds of this run before ``before``: nobody can ask for it again.

        What is sent in every round belongs to round 0 and stays.
        """
        for path in (self.folder / "sent").glob(f"{_safe(run)}-*.safetensors"):
            if 0 < int(path.stem.rsplit("-", 2)[1]) < before:
                path.unlink(missing_ok=True)

    # Inside -----------------------------------------------------------------------------------------

    def _check_rows(self, entries: Sequence[Mapping[str, Any]], data: str | None) -> None:
        paid = next((entry["data"] for entry in reversed(entries) if "data" in entry), None)
        if data is not None and paid is not None and data != paid:
            raise Declined(
                "data",
                f"the privacy ledger {self.path} counts what other rows paid; restore those, keep another "
                "ledger for other people's rows, or run 'fedkt privacy adopt' on its folder where rows of "
                "the same people have changed.",
            )

    def _append(self, entries: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> None:
        newest = self.anchor().newest
        entry = {"entry": len(entries) + 1, "time": round(time.time(), 3), **content, "previous": newest}
        if not entries:
            entry["format"] = FORMAT
        line = json.dumps(entry, allow_nan=False, sort_keys=True).encode() + b"\n"
        with open(self.path, "r+b" if self.path.exists() else "x+b") as file:
            # Over the rest of an entry that a crash cut off.
            file.seek(sum(len(whole) for whole in _whole_lines(file.read())))
            file.truncate()
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if not entries:
            sync_folder(self.folder)

    def _sent(self, purpose: Purpose) -> Path:
        name = f"{_safe(purpose.run)}-{purpose.round:06d}-{_safe(purpose.stage)}.safetensors"
        return self.folder / "sent" / name

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / ".lock", "w") as lock:
                lock_file(lock)
                yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Declined(
                "ledger", f"the privacy ledger {self.path} cannot be written ({reason})."
            ) from error


def weakest_change(entries: Sequence[Mapping[str, Any]]) -> Change:
    """Return the claim that all reserved entries together allow; one that names none allows the weakest."""
    said = [entry.get("change", CHANGES[0]) for entry in entries if entry["state"] == "reserved"]
    return min(said, key=CHANGES.index, default=CHANGES[-1])


def _whole_lines(data: bytes) -> list[bytes]:
    return [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _events(entries: Sequence[Mapping[str, Any]]) -> list[Event]:
    return [Event(**event) for entry in entries if entry["state"] == "reserved" for event in entry["events"]]


def _purpose(purpose: Purpose) -> dict[str, Any]:
    return {"run": purpose.run, "round": purpose.round, "stage": purpose.stage}


def _is(entry: Mapping[str, Any], purpose: Purpose) -> bool:
    return all(entry.get(key) == value for key, value in _purpose(purpose).items())


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text)
