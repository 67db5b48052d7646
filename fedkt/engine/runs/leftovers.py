"""What may go from a folder of runs: the models of finished runs, and runs that hold nothing."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from fedkt.errors import InputError
from fedkt.files import check_platform, lock_file
from fedkt.privacy.ledger import FILE as LEDGER
from fedkt.results.folder import is_run, read_rows


@dataclass(frozen=True)
class Leftover:
    """A folder that may go: ``size`` in bytes, and ``why``."""

    path: Path
    size: int
    why: str


def leftovers(folder: Path) -> tuple[list[Leftover], list[str]]:
    """Return what may go from the runs below a folder, and a sentence about each run that is left alone.

    The checkpoint of a finished run may go: its figures and its report stay, its models and what continuing
    it needs do not. A run without a finished round may go whole. One that is at work, or that holds a
    privacy ledger (which says what data have paid), is left alone.

    Raises InputError where the folder holds no run.
    """
    check_platform()
    runs = sorted(path.parent for path in folder.rglob("environment.json") if is_run(path.parent))
    if not runs:
        raise InputError(f"{folder} holds no run; name the folder of a run, of a comparison, or of several.")
    found: list[Leftover] = []
    kept: list[str] = []
    for run in runs:
        checkpoint = run / "checkpoint"
        if not _idle(run):
            kept.append(f"{run} is at work.")
        elif any(run.rglob(LEDGER)):
            kept.append(f"{run} holds privacy ledgers.")
        elif (run / "summary.json").is_file():
            if checkpoint.is_dir():
                found.append(Leftover(checkpoint, _size(checkpoint), "models of a finished run"))
        elif not read_rows(run / "rounds.jsonl"):
            found.append(Leftover(run, _size(run), "no round was finished"))
        else:
            kept.append(f"{run} is not finished; --resume continues it.")
    return found, kept


def remove(found: list[Leftover]) -> None:
    """Remove them. Raises InputError for the first that the system does not let go."""
    for leftover in found:
        try:
            shutil.rmtree(leftover.path)
        except OSError as error:
            raise InputError(
                f"{leftover.path} cannot be removed ({error.strerror}); see who owns it."
            ) from error


def _idle(run: Path) -> bool:
    """Say whether no process is at work in a run's folder."""
    lock = run / ".lock"
    if not lock.is_file():
        return True
    try:
        with open(lock) as file:
            lock_file(file, wait=False)
    except BlockingIOError:
        return False
    return True


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
