"""Runs that are made once and read after, and how their figures are written."""

import statistics
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


def spread(values: Sequence[float], decimals: int = 1, sign: str = "") -> str:
    """Return mean ± standard deviation over seeds.

    >>> spread([1.0, 2.0, 3.0])
    '2.0 ± 1.0'
    """
    mean = f"{statistics.fmean(values):{sign}.{decimals}f}"
    return f"{mean} ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else mean
