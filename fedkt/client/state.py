"""Where a client's model, optimiser and teacher live between messages.

A state is saved under a *version*: ``2 * round`` after training, ``2 * round + 1`` after evaluation.
To handle a message, a client loads its newest version *below* the message's own, so a message that is
repeated, or a round that is run again after a crash, starts from the same state and gives the same
bits; versions above are leftovers and are overwritten. That is the whole resume protocol.
"""

import json
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fedkt.client.placing import fetched, leaving
from fedkt.files import Aside, read_tensors, sync_all, write_atomic, write_json, write_tensors

OBSERVED = "observed.json"
"""What a client measured of itself in a private mode: beside its states, not in any message."""

CONFUSION = "confusion.json"
"""Which classes a client's model takes for which after the last round: there too, and in no message."""

DOMAINS = "domains.json"
"""The leading figure of a client's model on the test rows of each domain after the last round: likewise."""


@dataclass
class ClientState:
    """Tensors by name and a JSON note; see :mod:`fedkt.engine.clients.party` for what is in them."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    note: dict[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of one part, such as ``model``, by their names in it.

        >>> state = ClientState({"model/head.bias": Tensor([0.0]), "teacher/values": Tensor([1.0])})
        >>> list(state.part("model"))
        ['head.bias']
        """
        begin = f"{name}/"
        return {key.removeprefix(begin): t for key, t in self.tensors.items() if key.startswith(begin)}


class StateStore(ABC):
    """Client states, keyed by client and version."""

    @abstractmethod
    def load(self, client: str, below: int) -> ClientState | None:
        """Return the newest state with a version below ``below``, None if there is none."""

    @abstractmethod
    def later(self, client: str, version: int) -> ClientState | None:
        """Return the newest state with that version or a later one, None if there is none."""

    @abstractmethod
    def save(
        self, client: str, version: int, state: ClientState, kept: int, *, durable: bool = False
    ) -> None:
        """Keep a state; what only rounds up to ``kept`` need may go, since a resume starts there or later.

        ``durable``: it is on disk when this returns.
        """

    @abstractmethod
    def folder_of(self, client: str) -> Path:
        """Return the client's own folder on disk: nothing in it leaves."""

    def observe(self, client: str, round_: int, metrics: Mapping[str, float]) -> None:
        """Keep what a client measured of itself in a round but does not send, beside what it did before."""
        both = {**self.observed(client, round_), **metrics}
        write_json(self.folder_of(client) / OBSERVED, {"round": round_, "metrics": both})

    def observed(self, client: str, round_: int) -> dict[str, float]:
        """Return what a client measured in this round and did not send; empty where that is not known."""
        path = self.folder_of(client) / OBSERVED
        found = json.loads(path.read_text()) if path.is_file() else {}
        return dict(found["metrics"]) if found.get("round") == round_ else {}

    @abstractmethod
    def flush(self, kept: int) -> None:
        """Begin to bring every state that was saved to disk. Raises what went wrong with the last flush."""

    @abstractmethod
    def written(self) -> None:
        """Wait until what the last flush began is on disk. Raises OSError where it cannot be written."""

    @abstractmethod
    def note_failure(self, client: str, text: str) -> None:
        """Keep the traceback of a client's newest failure where only the client's side sees it."""

    @abstractmethod
    def clients(self) -> Iterable[str]:
        """Return the clients that have a state."""


class DiskStore(StateStore):
    """One safetensors file per client and version: ``<folder>/<client>/<version>.safetensors``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, client: str, below: int) -> ClientState | None:
        """Read the newest file with a version below ``below``."""
        file = self.newest(client, below)
        return None if file is None else ClientState(*read_tensors(file))

    def later(self, client: str, version: int) -> ClientState | None:
        """Read the newest file with that version or a later one."""
        there = max(self._versions(client), default=-1)
        return None if there < version else ClientState(*read_tensors(self._path(client, there)))

    def newest(self, client: str, below: int) -> Path | None:
        """Return the file with the newest version below ``below``, None if there is none."""
        older = [version for version in self._versions(client) if version < below]
        return self._path(client, max(older)) if older else None

    def folder_of(self, client: str) -> Path:
        """Return ``<folder>/<client>``."""
        return self.folder / client

    def save(
        self, client: str, version: int, state: ClientState, kept: int, *, durable: bool = False
    ) -> None:
        """Write the file, then delete those that no resume can need."""
        self.write(client, version, state, kept, sync=True)

    def write(self, client: str, version: int, state: ClientState, kept: int, *, sync: bool) -> None:
        """Do as :meth:`save`; without ``sync`` the file may still be in the system's cache afterwards."""
        write_tensors(self._path(client, version), fetched([state.tensors])[0], state.note, sync=sync)
        needed = [v for v in self._versions(client) if v < 2 * kept + 2]
        for old in sorted(needed)[:-1]:
            self._path(client, old).unlink(missing_ok=True)

    def flush(self, kept: int) -> None:
        """Nothing to do: every save is on disk."""

    def written(self) -> None:
        """Nothing to wait for."""

    def copy(self, client: str, below: int, to: "DiskStore") -> None:
        """Copy the newest file with a version below ``below`` to another store."""
        file = self.newest(client, below)
        if file is not None:
            (to.folder / client).mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, to.folder / client / file.name)

    def note_failure(self, client: str, text: str) -> None:
        """Write the text as ``failure.txt`` into the client's folder."""
        write_atomic(self.folder / client / "failure.txt", text.encode())

    def clients(self) -> Iterable[str]:
        """Return the clients that have a folder."""
        return [p.name for p in self.folder.iterdir()] if self.folder.is_dir() else []

    def _path(self, client: str, version: int) -> Path:
        return self.folder / client / f"{version:08d}.safetensors"

    def _versions(self, client: str) -> list[int]:
        folder = self.folder / client
        names = os.listdir(folder) if folder.is_dir() else []
        return [int(name.partition(".")[0]) for name in names if name[0].isdecimal()]


class Held(NamedTuple):
    """A client's newest state as one process hands it to another, and whether it is on disk too."""

    version: int
    state: ClientState
    saved: bool


class MemoryStore(StateStore):
    """Newest state of each client in memory; a thread writes the changed ones to a :class:`DiskStore`.

    The states are those at the time of ``flush``, whatever is saved meanwhile: no tensor is changed in place.
    Past ``limit`` bytes (None: no limit) the states that were used longest ago go to disk and out of memory.
    """

    def __init__(self, disk: DiskStore, limit: float | None = None) -> None:
        self._disk = disk
        self._limit = math.inf if limit is None else limit
        self._newest: OrderedDict[str, tuple[int, ClientState]] = OrderedDict()
        """The one that was used longest ago comes first."""
        self._unsaved: set[str] = set()
        self._aside = Aside()
        self._leaving: Mapping[str, tuple[int, ClientState]] = {}
        """What the last flush began to write."""
        self._loose = False
        """Whether files were written that may not be on disk yet."""
        self._kept = 0
        """Oldest round from which a resume may start, as was said last."""
        self.held = 0
        """Bytes of the tensors in memory."""

    def load(self, client: str, below: int) -> ClientState | None:
        """Return the state in memory if it is old enough, else the one on disk."""
        held = self._newest.get(client)
        if held is not None and held[0] < below:
            self._newest.move_to_end(client)
            return held[1]
        return self._disk.load(client, below)

    def later(self, client: str, version: int) -> ClientState | None:
        """Return the state in memory if it is late enough, else one on disk."""
        held = self._newest.get(client)
        return held[1] if held is not None and held[0] >= version else self._disk.later(client, version)

    def folder_of(self, client: str) -> Path:
        """Return the folder on disk."""
        return self._disk.folder_of(client)

    def save(
        self, client: str, version: int, state: ClientState, kept: int, *, durable: bool = False
    ) -> None:
        """Keep the state in memory, and with ``durable`` on disk as well."""
        if durable:
            self._disk.save(client, version, state, kept)
        self._kept = kept
        self.take(client, Held(version, state, durable))

    def give(self, client: str) -> Held | None:
        """Hand over a client's newest state, None where there is none in memory."""
        # What is still on its way to disk is written once more where it goes to.
        saved = client not in self._unsaved and not (self._aside.busy and client in self._leaving)
        held = self._forget(client)
        if held is None:
            return None
        version, state = held
        return Held(version, ClientState(fetched([state.tensors])[0], state.note), saved)

    def take(self, client: str, held: Held) -> None:
        """Keep a state in memory as the client's newest; others make room where there is a limit."""
        self._forget(client)
        self._newest[client] = (held.version, held.state)
        if not held.saved:
            self._unsaved.add(client)
        self.held += held.state.nbytes
        while self.held > self._limit:
            oldest, (version, state) = next(iter(self._newest.items()))
            if oldest in self._unsaved:
                self._disk.write(oldest, version, state, self._kept, sync=False)
                self._loose = True
            elif oldest in self._leaving:
                self.written()  # else the disk would be asked for it too early
            self._forget(oldest)

    def _forget(self, client: str) -> tuple[int, ClientState] | None:
        held = self._newest.pop(client, None)
        self._unsaved.discard(client)
        if held is not None:
            self.held -= held[1].nbytes
        return held

    def flush(self, kept: int) -> None:
        """Begin to write the states that changed since the last flush.

        A file that is lost before they are there is of a version that no resume reads: its round is not
        complete.
        """
        self.written()
        self._leaving = {client: self._newest[client] for client in sorted(self._unsaved)}
        here = leaving([state.tensors for _, state in self._leaving.values()])
        if self._loose or self._unsaved:
            self._aside.begin(partial(self._write, self._leaving, here, kept))
        self._unsaved.clear()
        self._loose = False

    def _write(
        self,
        states: Mapping[str, tuple[int, ClientState]],
        here: Callable[[], list[dict[str, Tensor]]],
        kept: int,
    ) -> None:
        """Write states, whose tensors ``here`` waits for, and wait once until all of them are on disk."""
        for (client, (version, state)), tensors in zip(states.items(), here(), strict=True):
            self._disk.write(client, version, ClientState(tensors, state.note), kept, sync=False)
        sync_all(self._disk.folder)

    def written(self) -> None:
        """Wait for the thread."""
        self._aside.wait()

    def note_failure(self, client: str, text: str) -> None:
        """Write the text to disk."""
        self._disk.note_failure(client, text)

    def clients(self) -> Iterable[str]:
        """Return the clients with a state in memory or on disk."""
        return {*self._newest, *self._disk.clients()}


_OPTIMIZER = "optimizer:"
ALONE = "alone"
"""The part that is a copy of the model which trains alone, where teachers are judged by folds."""


def packed(
    parts: Mapping[str, Mapping[str, Tensor]], optimizers: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the tensors of a state under one name each: those of its parts (the model, the newest teacher),
    and by phase those of its optimiser."""
    held = {**parts, **{f"{_OPTIMIZER}{phase}": slots for phase, slots in optimizers.items()}}
    return {f"{part}/{name}": tensor for part, tensors in held.items() for name, tensor in tensors.items()}


def unpacked(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
    """Return the parts and the optimisers of :func:`packed`; a part without tensors is not there."""
    held: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        held.setdefault(part, {})[name] = tensor
    optimizers = {p.removeprefix(_OPTIMIZER): held.pop(p) for p in [*held] if p.startswith(_OPTIMIZER)}
    return held, optimizers
