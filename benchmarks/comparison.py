"""How long a comparison of 6 strategies and 5 seeds on digits takes, and what its scheduling costs.

    python -m benchmarks.comparison [--jobs 2] [--out FOLDER]

The overhead of scheduling is all the workers' time from the end of the checks to the end of the last run that
is no run: starting their processes, imports, handing runs out, waiting for the last one. It is given as a
share of the runs' own time, which the workers measure: (seconds x workers - own) / own. Imports and checks
before, and the report after, are told apart; ``whole_s`` is all of it.
"""

import time

BEGUN = time.monotonic()

# What these import is part of the time.
import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from fedkt.comparing.campaign import compare  # noqa: E402
from fedkt.comparing.request import finish, read_request  # noqa: E402
from fedkt.comparing.watching import ComparisonProgress  # noqa: E402
from fedkt.files import processors  # noqa: E402

STRATEGIES = "knfu,fedmd,dsfl,fd,fedproto,cfd"
GOAL_S, GOAL_SHARE = 600.0, 0.05


class Watch(ComparisonProgress):
    """Notes when the runs began and when the last one ended."""

    def started(self, runs: int, finished: int, rounds: int) -> None:
        """Note that everything is checked."""
        self.checked = time.monotonic()
        super().started(runs, finished, rounds)

    def ended(self, cell: Any, record: dict[str, Any]) -> None:
        """Note a run's end."""
        self.last = time.monotonic()
        super().ended(cell, record)


def main() -> None:
    """Run the comparison and print what it took; end with status 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=processors())
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp()) / "comparison"
    request = read_request(
        ["quickstart"],
        strategies=STRATEGIES,
        seeds="0-4",
        sets=[],
        tune=[],
        baseline="local",
        metric="personal",
        target=None,
        engine="inline",
        address=None,
    )
    watch = Watch()
    done = compare(request, out=out, jobs=given.jobs, watcher=watch)
    finish(done, quiet=True)
    whole = time.monotonic() - BEGUN
    own = sum(cell["seconds"] for cell in done.cells)
    running = watch.last - watch.checked
    overhead = (running * given.jobs - own) / own
    told = {"runs": len(done.cells), "jobs": given.jobs, "whole_s": whole, "running_s": running}
    told |= {"before_s": watch.checked - BEGUN, "report_s": BEGUN + whole - watch.last}
    print(json.dumps(told | {"own_s": own, "overhead": overhead}))
    sys.exit(0 if whole <= GOAL_S and overhead <= GOAL_SHARE else 1)


if __name__ == "__main__":
    main()
