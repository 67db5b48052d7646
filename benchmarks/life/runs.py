"""Runs that are made once and read after."""

from collections.abc import Sequence
from pathlib import Path

import fedkt
import fedkt.scenario
from fedkt.results.observer import Silent
from fedkt.results.result import Result


def made(scenario: str, overrides: Sequence[str], seed: int, out: Path) -> Result:
    """Return a run of a bundled scenario on engine inline; one that was broken off goes on."""
    if not (out / "summary.json").is_file():
        sets = ["engine.kind=inline", *overrides, f"seed={seed}"]
        described = fedkt.scenario.load(scenario, sets, several=True)
        again = (out / "environment.json").is_file()
        fedkt.simulate(described, out=out, resume=again, observer=Silent())
    return Result.read(out)
