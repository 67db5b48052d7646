"""A user's strictly typed program: type-checked against the installed wheel by `.ci/run`, never run.

It fails there when the wheel loses its `py.typed`, a plug-in folder, or the types of what users call.
"""

from pathlib import Path
from typing import assert_type

import fedkt
from fedkt.results.result import Result
from fedkt.strategies.local import Local
from fedkt.strategy import Strategy


def last_summary(out: Path) -> dict[str, object]:
    result = fedkt.simulate({"name": "typed", "rounds": 1}, out=out)
    assert_type(result, Result)
    return result.summary


def strategy_class() -> type[Strategy]:
    return Local
