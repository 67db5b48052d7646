"""What the checks of roles by content add to loading: 1 000 000 rows of 30 float32, 10 clients.

    python -m benchmarks.roles

Test rows are 100 000 of the file's own, or a fifth that is held out; 1000 rows are the transfer set. Seconds
of processor time, medians and ranges of 5; the checks are timed within the call that builds the federation.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedkt import data
from fedkt.data.content import roles
from fedkt.scenario import Scenario

ROWS, COLUMNS, REPEATS = 1_000_000, 30, 5


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32), np.arange(ROWS) % 10
        own: dict[str, Any] = {
            "x_test": rng.normal(size=(ROWS // 10, COLUMNS)).astype(np.float32),
            "y_test": y[: ROWS // 10],
        }
        np.savez(folder / "held.npz", x_train=x, y_train=y)
        np.savez(folder / "own.npz", x_train=x, y_train=y, **own)
        for file in ("held", "own"):
            _measure(folder, file)


def _measure(folder: Path, file: str) -> None:
    spec = {"dataset": f"npz:{file}.npz", "partition": {"kind": "iid", "clients": 10}}
    scenario = Scenario.model_validate(
        {"name": "roles", "data": {**spec, "transfer": {"from": "train", "size": 1000}}}
    )
    reads, builds, checks = [], [], []
    for _ in range(REPEATS):
        reads.append(_seconds(lambda: data.load_dataset(spec["dataset"], folder))[0])
        spent: list[float] = []
        whole, _ = _seconds(partial(_build, scenario, folder, spent))
        builds.append(whole)
        checks.append(sum(spent))
    told = {"read": reads, "build": builds, "checks": checks}
    print(file, {k: f"{statistics.median(v):.3f} ({min(v):.3f} to {max(v):.3f})" for k, v in told.items()})
    shares = [c / statistics.median(v) for c, v in ((statistics.median(checks), w) for w in (reads, builds))]
    print(f"  checks are {shares[0]:.1%} of reading, {shares[1]:.2%} of building")


def _build(scenario: Scenario, folder: Path, spent: list[float]) -> Any:
    """Build the federation, with a clock around what compares rows."""
    real = {name: getattr(roles, name) for name in ("compare", "sources_of")}
    try:
        for name, function in real.items():
            setattr(roles, name, _timed(function, spent))
        return data.build(scenario, folder)
    finally:
        for name, function in real.items():
            setattr(roles, name, function)


def _timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def called(*args: Any, **more: Any) -> Any:
        seconds, found = _seconds(lambda: function(*args, **more))
        spent.append(seconds)
        return found

    return called


def _seconds(step: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    found = step()
    return time.process_time() - begun, found


if __name__ == "__main__":
    main()
