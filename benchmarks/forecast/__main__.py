"""Make federations, fit the forecast that ships with fedkt, and check it on scenarios that it never saw.

    python -m benchmarks.forecast make MADE.jsonl --seeds 0-47
    python -m benchmarks.forecast fit MADE.jsonl fedkt/strategy/fusing/forecast.json
    python -m benchmarks.forecast run RUNS.jsonl --scenarios quickstart,skew-mild --seeds 0-2
    python -m benchmarks.forecast check RUNS.jsonl docs/images/forecast.png

``make`` runs each group of made federations with four of the cells that ``run`` runs: a strategy, in joint
steps or not. Both append to the file and leave out what is there already.
"""

import argparse
import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forecast import fitting
from benchmarks.forecast.runs import STRATEGIES, Cell, client_runs
from benchmarks.forecast.stacked import group_runs
from fedkt.client.training import one_thread
from fedkt.comparing.grammar import seeds, split
from fedkt.rng import numpy_stream
from fedkt.strategy.fusing.forecast import MEASURES, table
from fedkt.strategy.rounds.declining import LEAST

CELLS = 4
"""Strategies, in joint steps or not, that each group of made federations is run with."""
WORSE = 0.01
"""A loss of personal accuracy that is counted."""
STEPS = {"phases": (False,), "joint": (True,), "both": (False, True)}


def make(file: Path, numbers: Iterable[int]) -> None:
    """Append the client-runs of groups of made federations to a file."""
    cells = list(product(STRATEGIES, (False, True)))
    done = {row["seed"] for row in fitting.read(file)}
    for number in (one for one in numbers if one not in done):
        chosen = numpy_stream(number, "cells").choice(len(cells), CELLS, replace=False)
        with one_thread():
            write(file, list(group_runs(number, [cells[i] for i in chosen])))


def run(file: Path, name: str, seed: int, cells: list[Cell], overrides: tuple[str, ...]) -> None:
    """Append the client-runs of a scenario that the file lacks."""
    keys = ("scenario", "seed", "overrides", "strategy", "together")
    done = [[row[key] for key in keys] for row in fitting.read(file)]
    left = [cell for cell in cells if [name, seed, [*overrides], *cell] not in done]
    if left:
        for rows in client_runs(name, seed, left, overrides):
            write(file, rows)


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Append client-runs, and say so."""
    with file.open("a") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    print(f"{rows[0]['scenario']}, seed {rows[0]['seed']}: {len(rows)} client-runs", flush=True)


def check(file: Path, picture: Path | None) -> None:
    """Print what the forecast that ships is worth on a file's client-runs, and draw it."""
    rows, held = fitting.read(file), table()
    scenarios, strategies = (sorted({row[key] for row in rows}) for key in ("scenario", "strategy"))
    print(
        "| client-runs | measure | number | rose | said | AUC | Brier | of the base rate |\n"
        + "|---" * 8
        + "|"
    )
    for measure in MEASURES:
        parts = {"all": rows}
        parts |= {name: [row for row in rows if row["scenario"] == name] for name in scenarios}
        parts |= {name: [row for row in rows if row["strategy"] == name] for name in strategies}
        for name, part in parts.items():
            j = fitting.judged(part, held, measure)
            print(
                f"| {name} | {measure} | {j['runs']} | {100 * j['rate']:.0f} % | {100 * j['told']:.0f} % | "
                f"{j['auc']:.3f} | {j['brier']:.3f} | {j['base']:.3f} |"
            )
    gained = np.array([row["personal"] for row in rows])
    for what, kept in (
        ("all taught", gained),
        ("with decline", np.where(fitting.foretold(rows, held, "personal") < LEAST, 0.0, gained)),
    ):
        worse = (kept < -WORSE).mean()
        print(
            f"{what}: {100 * worse:.1f} % lose more than a point, mean gain {100 * kept.mean():+.1f} points"
        )
    if picture is not None:
        fitting.draw(rows, held, picture)


def main() -> None:
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["make", "fit", "run", "check"])
    parser.add_argument("file", type=Path)
    parser.add_argument("to", type=Path, nargs="?")
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--scenarios", default="")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--steps", choices=[*STEPS], default="both")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    if given.what == "make":
        make(given.file, seeds(given.seeds))
    elif given.what == "fit":
        found = json.dumps(fitting.fit(fitting.read(given.file)), separators=(",", ":"))
        given.to.write_text(found.replace('],"', '],\n"').replace('},"', '},\n"') + "\n")
    elif given.what == "check":
        check(given.file, given.to)
    else:
        cells = list(product(split(given.strategies, ","), STEPS[given.steps]))
        for seed, name in product(seeds(given.seeds), split(given.scenarios, ",")):
            run(given.file, name, seed, cells, tuple(given.overrides))


if __name__ == "__main__":
    main()
