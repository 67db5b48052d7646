"""A run's folder: a contract that other tools read. Lines are on disk before a round counts as done."""

import fcntl
import json
import math
import os
import platform
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from fedkt import scenario as scenarios
from fedkt.errors import InputError
from fedkt.files import write_atomic, write_json
from fedkt.scenario import Scenario

PACKAGES = ("fedkt", "flwr", "flwr-datasets", "torch", "ray", "opacus", "numpy", "pydantic")
MAY_CHANGE = ("engine",)
"""Parts of a scenario that a resumed run may change: every engine gives the same numbers."""

Row = Mapping[str, Any]


class RunFolder:
    """One run's folder, locked by this process until :meth:`close`."""

    def __init__(self, path: Path, run: str, lock: IO[str]) -> None:
        self.path = path
        self.run = run
        self._lock = lock

    @classmethod
    def create(cls, path: Path | None, scenario: Scenario, resume: bool) -> "RunFolder":
        """Open a new folder, or with ``resume`` an existing one of the same scenario.

        Raises InputError where the folder exists and is not to be resumed, is no run, belongs to another
        scenario, is in use by another process, or cannot be written.
        """
        folder = path or Path("runs") / f"{scenario.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        if resume:
            _check_same(folder, scenario)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} exists already; continue it with --resume or name another folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = open(folder / ".lock", "w")  # noqa: SIM115 (held until close)
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror}); name another with --out.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise InputError(f"{folder} is in use by another fedkt process; wait for it or stop it.") from error
        run = json.loads((folder / "environment.json").read_text())["run"] if resume else uuid.uuid4().hex
        write_json(folder / "environment.json", environment(run))
        write_atomic(folder / "scenario.yaml", scenarios.dump(scenario).encode())
        return cls(folder, run, lock)

    @property
    def checkpoint(self) -> Path:
        """Where checkpoints and client states lie."""
        return self.path / "checkpoint"

    def append(self, round_row: Row, client_rows: Sequence[Row]) -> None:
        """Add one round's lines; they are on disk when this returns."""
        _append(self.path / "clients.jsonl", client_rows)
        _append(self.path / "rounds.jsonl", [round_row])

    def truncate(self, round_: int) -> None:
        """Drop the lines of later rounds, and a last line that was cut off."""
        for name in ("rounds.jsonl", "clients.jsonl"):
            path = self.path / name
            if path.exists():
                kept = [row for row in read_rows(path) if row["round"] <= round_]
                write_atomic(path, "".join(_line(row) for row in kept).encode())

    def finish(self, summary: Row) -> None:
        """Write the summary and the picture of accuracy per round."""
        from fedkt.results.picture import draw_accuracy

        write_json(self.path / "summary.json", _plain(summary))
        draw_accuracy(read_rows(self.path / "rounds.jsonl"), self.path / "accuracy.png")

    def close(self) -> None:
        """Give the folder free."""
        self._lock.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a torn last line, as a crash leaves it, is left out."""
    rows = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows


def environment(run: str) -> dict[str, Any]:
    """Return what ``environment.json`` holds: the run's id, versions, machine, command, time."""
    return {
        "run": run,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": {name: _version(name) for name in PACKAGES},
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _check_same(folder: Path, scenario: Scenario) -> None:
    if not (folder / "scenario.yaml").is_file() or not (folder / "environment.json").is_file():
        raise InputError(f"{folder} is no run's folder, so it cannot be resumed; leave --resume out to start one.")
    before, now = scenarios.to_dict(scenarios.load(folder / "scenario.yaml")), scenarios.to_dict(scenario)
    changed = [key for key in _differences(before, now) if key.split(".")[0] not in MAY_CHANGE]
    if changed:
        raise InputError(
            f"{folder} was made with another scenario ({', '.join(changed[:5])} changed); "
            "resume it with the one in its scenario.yaml."
        )


def _differences(before: Any, now: Any, at: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted({*before, *now})
        return [d for k in keys for d in _differences(before.get(k), now.get(k), f"{at}.{k}" if at else k)]
    return [] if before == now else [at]


def _append(path: Path, rows: Sequence[Row]) -> None:
    with open(path, "a") as file:
        file.writelines(_line(row) for row in rows)
        file.flush()
        os.fsync(file.fileno())


def _line(row: Row) -> str:
    return json.dumps(_plain(row), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return the value as JSON knows it: NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
