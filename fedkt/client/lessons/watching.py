"""Drift: whether what a client makes of its own rows has fallen, seen from labelled rows that it sets
aside.

**The rule.** A round is *low* where accuracy on the rows set aside is below the mean m of the ``window``
measured rounds before by more than ``least`` and by more than ``deviations`` times the larger of two
deviations: that of those rounds, and that of the share of m in n rows, sqrt(m (1 - m) / n), since after a
shift other rows are counted. Low rounds are not counted among those before. The alarm is given in the
``lasting``-th low round in a row, and looking begins anew there. A threshold of k deviations around a
running mean is Shewhart's chart (1931, "Economic Control of Quality of Manufactured Product"); that several
in a row are asked for is one of the run rules of Western Electric (1956). How often it is wrong was
measured: docs/results/drift.md.

The classes that fell are told apart from the alarm, which counts all rows: of one class there are few.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkt.files import write_atomic
from fedkt.scenario import Drift

FILE = "drift.json"
"""A client's history: beside its states, and in no message."""


def alarms(accuracy: Sequence[float], rows: Sequence[int], rule: Drift) -> list[bool]:
    """Return in which measured rounds the alarm is given; ``rows``: how many each accuracy is of.

    >>> rule = Drift(window=3, least=0.1, deviations=3.0, lasting=2)
    >>> alarms([0.8, 0.8, 0.8, 0.5, 0.5, 0.8], [100] * 6, rule)  # low: below 0.8 - 3 * 0.04
    [False, False, False, False, True, False]
    """
    found: list[bool] = []
    begin = low = 0
    for at, (value, count) in enumerate(zip(accuracy, rows, strict=True)):
        before = accuracy[begin : at - low][-rule.window :]
        low = low + 1 if len(before) == rule.window and value < least_of(before, count, rule) else 0
        found.append(low == rule.lasting)
        if found[-1]:
            begin, low = at + 1 - low, 0
    return found


def least_of(before: Sequence[float], rows: int, rule: Drift) -> float:
    """Return the accuracy of ``rows`` rows below which a round is low, after rounds with these accuracies.

    >>> round(least_of([0.8, 0.8], 64, Drift(deviations=2.5)), 6)  # 0.8 - 2.5 * sqrt(0.8 * 0.2 / 64)
    0.675
    """
    mean = statistics.fmean(before)
    deviation = max(statistics.pstdev(before), math.sqrt(mean * (1 - mean) / rows))
    return mean - max(rule.least, rule.deviations * deviation)


def noted(folder: Path, round_: int, right: Sequence[int], rows: Sequence[int], rule: Drift) -> bool:
    """Add a round's counts by class to the history in a client's folder; say whether it gives the alarm.

    Rounds that are done again take the place of what was noted of them.
    """
    history = [seen for seen in read(folder) if seen["round"] < round_]
    history.append({"round": round_, "right": list(right), "rows": list(rows)})
    write_atomic(folder / FILE, json.dumps(history).encode(), sync=False)
    return alarms(*totals(history), rule)[-1]


def read(folder: Path) -> list[dict[str, Any]]:
    """Return a client's history, by round what was right and how many rows there were of each class."""
    file = folder / FILE
    return list(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else []


def totals(history: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[int]]:
    """Return the accuracy on all rows and their number, by measured round."""
    rows = [sum(seen["rows"]) for seen in history]
    return [sum(seen["right"]) / count for seen, count in zip(history, rows, strict=True)], rows
