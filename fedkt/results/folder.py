"""A run's folder: a contract that other tools read. Lines are on disk before a round counts as done."""

import json
import math
import os
import platform
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Literal

from fedkt import scenario as scenarios
from fedkt.data.identity import changed
from fedkt.errors import InputError
from fedkt.files import check_platform, lock_file, write_atomic, write_json
from fedkt.scenario import Scenario

PACKAGES = ("fedkt", "flwr", "flwr-datasets", "torch", "ray", "opacus", "numpy", "pydantic")
MAY_CHANGE = ("engine",)
"""Parts of a scenario that a resumed run may change: every engine gives the same numbers."""
MAY_GROW = ("rounds",)
"""What it may have more of: it goes on as if it had been begun so."""
MAY_NOT = ("engine.cohort",)
"""What it may not change within these: cohorts decide about the last bits of every model."""
BOARD = "board"
"""The engine that a run keeps, or never has: there are no rounds on it."""
SHOWN_CHANGES = 3

EXAMPLES = "examples.json"
"""What language models write, each after the same words."""
LINES = ("rounds.jsonl", "clients.jsonl", "losses.jsonl")
"""The files of a run that have lines of each round."""
_BEFORE_A_RUN = {".lock", "environment.json"}
"""All that there is, beside temporary files, where a run was killed before its scenario was written."""

Row = Mapping[str, Any]


class RunFolder:
    """One run's folder, locked by this process until :meth:`close`.

    ``path``: the folder; ``run``: the run's id, 32 hexadecimal digits, which a resumed run keeps.
    """

    def __init__(self, path: Path, run: str, lock: IO[str]) -> None:
        self.path = path
        self.run = run
        self._lock = lock

    @classmethod
    def create(
        cls,
        path: Path | None,
        scenario: Scenario,
        resume: bool,
        *,
        run: str | None = None,
        data: Mapping[str, str] | None = None,
    ) -> "RunFolder":
        """Open a new folder (default: :func:`unused_path`), or with ``resume`` one of the same scenario.

        ``run``: the id of a new run (default: a random one); ``data``: hashes of what it uses
        (:func:`~fedkt.data.identity.data_hashes`), where they are known.

        Raises InputError where the folder exists and is not to be resumed, holds no run, belongs to another
        scenario or other data, is in use by another process, or cannot be written; nothing is changed then.
        """
        if resume and path is None:
            raise InputError("there is no folder to resume; name the run's folder with --out.")
        folder = path or unused_path(scenario.name)
        _check(folder, scenario, resume, data)
        lock = lock_folder(folder)
        try:
            _check(folder, scenario, resume, data)  # again: another process may just have finished with it
            for left in folder.rglob(".*.tmp"):
                left.unlink()  # of a process that was killed while it wrote
            before = _read_environment(folder) if is_run(folder) else {}
            now = environment(before.get("run") or run or uuid.uuid4().hex)
            now["data"] = dict(data or before.get("data") or {})
            if before:
                now |= {"started": before.get("started"), "resumed": now["started"]}
            write_json(folder / "environment.json", now)
            # Last, since its presence makes the folder a run's.
            write_atomic(folder / "scenario.yaml", scenarios.dump(scenario).encode())
        except BaseException as error:
            lock.close()
            if isinstance(error, OSError):
                raise InputError(_unwritable(folder, error)) from error
            raise
        return cls(folder, now["run"], lock)

    @property
    def checkpoint(self) -> Path:
        """Where checkpoints and client states lie."""
        return self.path / "checkpoint"

    def append(self, round_row: Row, client_rows: Sequence[Row], losses: Sequence[Row] = ()) -> None:
        """Add one round's lines; they are on disk when this returns. NaN and infinity become null."""
        if losses:
            _append(self.path / "losses.jsonl", losses)
        _append(self.path / "clients.jsonl", client_rows)
        _append(self.path / "rounds.jsonl", [round_row])

    def truncate(self, round_: int) -> None:
        """Drop the lines of rounds after ``round_``, and a last line that was cut off."""
        for path in (self.path / name for name in LINES):
            if path.exists():
                kept = [row for row in read_rows(path) if row["round"] <= round_]
                write_atomic(path, "".join(_line(row) for row in kept).encode())

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the lines so far of ``rounds.jsonl`` and of ``clients.jsonl``."""
        rounds, clients = (read_rows(self.path / name) for name in LINES[:2])
        return rounds, clients

    def finish(self, summary: Row) -> None:
        """Write the summary, then the picture of accuracy per round."""
        from fedkt.results.curve import draw_accuracy
        from fedkt.results.metrics import metric_of

        write_json(self.path / "summary.json", _plain(summary))
        title = f"{summary.get('scenario', '')} · {summary.get('strategy', '')}".strip(" ·")
        metric = metric_of(summary)
        draw_accuracy(self.rows()[0], self.path / f"{metric.part}.png", title, metric)

    def close(self) -> None:
        """Give the folder free for other processes."""
        self._lock.close()


def unused_path(name: str) -> Path:
    """Return ``runs/<name>-<time>``, numbered where that exists already."""
    stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = stem, 2
    while path.exists():
        path, number = Path(f"{stem}-{number}"), number + 1
    return path


def run_state(folder: Path, scenario: Scenario) -> Literal["absent", "unfinished", "finished"]:
    """Say how far this scenario's run in a folder is.

    Raises InputError where the folder holds something else, a damaged run, or another scenario's.
    """
    _check(folder, scenario, resume=not _is_unused(folder))
    if _is_unused(folder):
        return "absent"
    _read_environment(folder)
    summary = folder / "summary.json"
    if not summary.is_file():
        return "unfinished"
    try:
        found = dict(json.loads(summary.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"{summary} is damaged; move {folder} away to run it again.") from None
    shorter = (rounds_of(folder) or 0) < scenario.rounds and not found.get("stopped")
    return "unfinished" if shorter else "finished"


def rounds_of(folder: Path) -> int | None:
    """Return how many rounds the run in a folder was begun with, None where there is no run."""
    return scenarios.load(folder / "scenario.yaml").rounds if is_run(folder) else None


def is_run(folder: Path) -> bool:
    """Say whether a folder holds a run, finished or not."""
    return (folder / "scenario.yaml").is_file() and (folder / "environment.json").is_file()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; none of a missing file, and not a last line that a crash cut off."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def environment(run: str) -> dict[str, Any]:
    """Return what ``environment.json`` holds: the run's id, versions, machine, command, time."""
    return {
        "run": run,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": {name: package_version(name) for name in PACKAGES},
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def check_data(folder: Path, data: Mapping[str, str]) -> None:
    """Raise InputError where a run used other data than those with these hashes."""
    before = _read_environment(folder).get("data")
    if before and (others := changed(before, data)):
        raise InputError(
            f"{folder} was run on other data: {' and '.join(others)} changed since then; restore the data, "
            "or name another folder to begin anew."
        )


def _check(folder: Path, scenario: Scenario, resume: bool, data: Mapping[str, str] | None = None) -> None:
    """Raise InputError where the folder cannot take this run."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the run with --out.")
    if not resume:
        if not _is_unused(folder):
            more = (
                "continue its run with --resume or name another folder"
                if is_run(folder)
                else "name another folder"
            )
            raise InputError(f"{folder} exists already and is not empty; {more} with --out.")
    elif not folder.exists():
        raise InputError(
            f"{folder} does not exist, so it cannot be resumed; leave --resume out to start a run in it."
        )
    elif is_run(folder):
        _check_same(folder, scenario)
        if data is not None:
            check_data(folder, data)
    elif not (folder / ".lock").is_file() or not _is_unused(folder):
        raise InputError(f"{folder} holds no run that could be resumed; name the folder of one with --out.")


def _is_unused(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return all(name in _BEFORE_A_RUN or (name.startswith(".") and name.endswith(".tmp")) for name in names)


def lock_folder(folder: Path) -> IO[str]:
    """Create a folder where there is none, and keep other processes out of it until the file is closed.

    Raises InputError where one is at work in it, or it cannot be written.
    """
    check_platform()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115 (held until close)
    except OSError as error:
        raise InputError(_unwritable(folder, error)) from error
    try:
        lock_file(lock, wait=False)
    except BlockingIOError as error:
        lock.close()
        raise InputError(
            f"{folder} is in use by another process; wait until its run ends, or stop it."
        ) from error
    except OSError as error:
        lock.close()
        raise InputError(_unwritable(folder, error)) from error
    return lock


def _unwritable(folder: Path, error: OSError) -> str:
    return f"{folder} cannot be written ({error.strerror or error}); name another folder with --out."


def _read_environment(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "environment.json").read_text(encoding="utf-8"))
        uuid.UUID(hex=found["run"])
    except (ValueError, TypeError, KeyError, AttributeError):
        problem = f"{folder / 'environment.json'} holds no run's id (it is damaged); start a new run instead."
        raise InputError(problem) from None
    return dict(found)


def _check_same(folder: Path, scenario: Scenario) -> None:
    before, now = scenarios.to_dict(scenarios.load(folder / "scenario.yaml")), scenarios.to_dict(scenario)
    changes = [
        change
        for change in _differences(before, now)
        if (change[0].split(".")[0] not in MAY_CHANGE or change[0] in MAY_NOT or BOARD in change)
        and not (change[0] in MAY_GROW and change[2] > change[1])
    ]
    if not changes:
        return
    told = [f"{key} was {_short(old)} and is {_short(new)}" for key, old, new in changes[:SHOWN_CHANGES]]
    if len(changes) > SHOWN_CHANGES:
        told.append(f"{len(changes) - SHOWN_CHANGES} more changed")
    raise InputError(
        f"{folder} cannot be resumed with another scenario ({', '.join(told)}); "
        f"resume it with {folder / 'scenario.yaml'}, or name another folder."
    )


def _differences(before: Any, now: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old value, new value), in the order of the new scenario."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*now, *before)):
            yield from _differences(before.get(key), now.get(key), f"{at}.{key}" if at else key)
    elif before != now:
        yield at, before, now


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def _append(path: Path, rows: Iterable[Row]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.writelines([_line(row) for row in rows])
        file.flush()
        os.fsync(file.fileno())


def _line(row: Row) -> str:
    return json.dumps(_plain(row), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: NaN and infinity become null, NumPy's and torch's numbers Python's."""
    if isinstance(value, Mapping):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if not isinstance(value, bool | int | float | str | None) and hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def package_version(name: str) -> str | None:
    """Return the version of an installed distribution, None where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
