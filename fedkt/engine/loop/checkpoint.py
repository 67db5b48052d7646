"""The server's side of a resume: one file per round, written whole or not at all; the last two are kept.

The clients' side is the versions of :mod:`fedkt.client.state`: a checkpoint of round r plus every client's
newest version below ``2 * r + 2`` is the whole run at the end of round r.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fedkt.client.state import DiskStore
from fedkt.errors import InputError
from fedkt.files import read_tensors, tensors_as_bytes, write_atomic

FORMAT = 1
KEPT = 2

log = logging.getLogger("fedkt")

Flush = Callable[[int], tuple[Mapping[str, Any], Callable[[], bool]]]
"""Begins to bring the clients' states to disk. Told the oldest round from which a resume may start, before
each checkpoint; returns what that is to keep for the engine, and what waits until they are there and says
whether all are: not where a process died, whose states the next flush brings."""


def on_disk_already(kept: int) -> tuple[Mapping[str, Any], Callable[[], bool]]:
    """Flush nothing: the engine's clients save to disk themselves."""
    return {}, lambda: True


@dataclass
class Checkpoint:
    """A run after ``round`` complete rounds: the strategy's state, the loop's running totals, and what the
    engine decided (:class:`fedkt.engine.clients.cohorts.Plan`)."""

    round: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    strategy: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    last: bool = False
    """Whether the run was to end with this round, in which things may be done that no other round has."""


def as_bytes(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint's file, which does not change when the run goes on."""
    note = {
        "format": FORMAT,
        "round": checkpoint.round,
        "strategy": dict(checkpoint.strategy),
        "loop": dict(checkpoint.loop),
        "engine": dict(checkpoint.engine),
        "last": checkpoint.last,
    }
    return tensors_as_bytes(checkpoint.tensors, note)


def write(folder: Path, round_: int, content: bytes) -> None:
    """Write a round's checkpoint and drop the oldest."""
    write_atomic(path(folder, round_), content)
    there = rounds(folder)
    for old in there[:-KEPT]:
        path(folder, old).unlink(missing_ok=True)


def read(folder: Path, rounds_: int | None = None) -> Checkpoint:
    """Return the newest readable checkpoint, an empty one if there is none.

    ``rounds_``: of the run; a last round that is not to be the last any more is run again, as it would have
    been in a longer run, from the checkpoint before it. One that is damaged, or that needs a client's state
    which is, is skipped with a warning. Raises InputError for a format that is newer than this fedkt's, and
    where all are damaged although clients are past the beginning.
    """
    there = rounds(folder)
    for round_ in reversed(there):
        file = path(folder, round_)
        try:
            tensors, note = read_tensors(file)
            if note["format"] > FORMAT:
                raise InputError(
                    f"{file} has checkpoint format {note['format']}; this fedkt reads up to {FORMAT}, so "
                    "upgrade it."
                )
            if note.get("last") and rounds_ is not None and round_ < rounds_:
                continue
            _check_states(folder / "clients", round_)
            return Checkpoint(
                note["round"],
                tensors,
                note["strategy"],
                note["loop"],
                note.get("engine", {}),
                note.get("last", False),
            )
        except InputError:
            raise
        except Exception as error:
            log.warning("%s cannot be used (%s); the checkpoint before it is.", file, error)
    if len(there) >= KEPT:
        raise InputError(f"all checkpoints in {folder} are damaged; start a new run in another folder.")
    return Checkpoint()


def oldest(folder: Path) -> int:
    """Return the oldest round from which a resume may start; 0 where there is no checkpoint."""
    there = rounds(folder)
    return there[0] if len(there) >= KEPT else 0


def path(folder: Path, round_: int) -> Path:
    """Return the file of a round's checkpoint."""
    return folder / f"round-{round_:06d}.safetensors"


def rounds(folder: Path) -> list[int]:
    """Return the rounds that have a checkpoint, in order."""
    return sorted(int(p.stem.removeprefix("round-")) for p in folder.glob("round-[0-9]*.safetensors"))


def _check_states(folder: Path, round_: int) -> None:
    """Raise ValueError where a client's state that goes with a round's checkpoint cannot be read."""
    states = DiskStore(folder)
    for client in states.clients():
        try:
            states.load(client, below=2 * round_ + 2)
        except Exception as error:
            raise ValueError(f"the state of client {client} is damaged: {error}") from error
