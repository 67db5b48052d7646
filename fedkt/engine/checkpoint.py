"""The server's side of a resume: one file per round, written whole or not at all; the last two are kept.

The clients' side is the versions of :mod:`fedkt.state`: a checkpoint of round r plus every client's newest
version below ``2 * r + 2`` is the whole run at the end of round r.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fedkt.errors import InputError
from fedkt.files import read_tensors, write_tensors

FORMAT = 1
KEPT = 2

log = logging.getLogger("fedkt")


@dataclass
class Checkpoint:
    """A run after ``round`` complete rounds: the strategy's state, the loop's running totals, and what the
    engine decided (:class:`fedkt.engine.cohorts.Plan`)."""

    round: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    strategy: Mapping[str, Any] = field(default_factory=dict)
    loop: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)


def write(folder: Path, checkpoint: Checkpoint) -> int:
    """Write a checkpoint and drop the oldest; return the oldest round that is still there."""
    note = {
        "format": FORMAT,
        "round": checkpoint.round,
        "strategy": dict(checkpoint.strategy),
        "loop": dict(checkpoint.loop),
        "engine": dict(checkpoint.engine),
    }
    write_tensors(_path(folder, checkpoint.round), checkpoint.tensors, note)
    rounds = _rounds(folder)
    for old in rounds[:-KEPT]:
        _path(folder, old).unlink(missing_ok=True)
    return rounds[-KEPT:][0]


def read(folder: Path) -> Checkpoint:
    """Return the newest readable checkpoint, an empty one if there is none.

    A damaged file is skipped with a warning. Raises InputError for a format that is newer than this fedkt's.
    """
    for round_ in reversed(_rounds(folder)):
        path = _path(folder, round_)
        try:
            tensors, note = read_tensors(path)
            if note["format"] > FORMAT:
                raise InputError(
                    f"{path} has checkpoint format {note['format']}; this fedkt reads up to {FORMAT}, so "
                    "upgrade it."
                )
            return Checkpoint(note["round"], tensors, note["strategy"], note["loop"], note["engine"])
        except InputError:
            raise
        except Exception as error:
            log.warning("%s is damaged (%s); the checkpoint before it is used.", path, error)
    return Checkpoint()


def oldest(folder: Path) -> int:
    """Return the oldest round from which a resume may start; 0 where there is no checkpoint."""
    return (_rounds(folder) or [0])[0] if len(_rounds(folder)) >= KEPT else 0


def _path(folder: Path, round_: int) -> Path:
    return folder / f"round-{round_:06d}.safetensors"


def _rounds(folder: Path) -> list[int]:
    return sorted(int(p.stem.removeprefix("round-")) for p in folder.glob("round-[0-9]*.safetensors"))
