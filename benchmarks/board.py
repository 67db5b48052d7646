"""Rounds that wait for the slowest client and a board that waits for nobody, over simulated time.

    python -m benchmarks.board [--seeds 3] [--half-life 20] [--out FOLDER]

Both are ``scenarios/board-digits.yaml``: the same data, models, speeds and strategy; the run in rounds has as
many as fit into the board's time. The figure is the time at which the mean accuracy over clients has come to
95 % of what the run in rounds has after its last one. Prints one line of JSON with what was measured, draws
``board.png``, and ends with status 1 where a board needs more than half the time.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import fedkt
from benchmarks.reliability import tell
from fedkt.drawing import blank, write_picture
from fedkt.results.folder import read_rows

ROUNDS = 10
SHARE, MOST = 0.95, 0.5
Curve = list[tuple[float, float]]
"""Simulated seconds since the beginning, and the mean accuracy over clients then."""


def curve(run: Path, kind: str) -> Curve:
    """Return a run's curve of ``global`` or ``personal`` accuracy."""
    rows = read_rows(run / "rounds.jsonl")
    times = accumulate(row["simulated_s"] for row in rows)
    return [(t, row["accuracy"][f"{kind}_mean"]) for t, row in zip(times, rows, strict=True)]


def reaches(found: Curve, accuracy: float) -> float:
    """Return when a curve first comes to an accuracy, infinity where it never does.

    >>> reaches([(10.0, 0.5), (20.0, 0.75), (30.0, 0.7)], 0.7)
    20.0
    """
    return next((t for t, value in found if value >= accuracy), math.inf)


def runs(seed: int, half_life: float | None, folder: Path) -> dict[str, Path]:
    """Return where both kinds of run with a seed lie; they are made unless they are there already."""
    ages = f"board={{half_life_s: {half_life}}}" if half_life else "board={}"
    changes = {
        "board": [f"seed={seed}", ages],
        "rounds": [f"seed={seed}", "engine={kind: inline, cohort: 'off'}", "board={}", f"rounds={ROUNDS}"],
    }
    for name, its in changes.items():
        if not (folder / name / "summary.json").is_file():
            fedkt.simulate("board-digits", its, out=folder / name)
    return {name: folder / name for name in changes}


def compared(board: Curve, rounds: Curve) -> dict[str, float]:
    """Return what one seed's curves come to: accuracies at the end of the rounds, and times in seconds."""
    end, final = rounds[-1]
    return {
        "rounds_final": final,
        "board_final": [value for t, value in board if t <= end][-1],
        "rounds_s": reaches(rounds, SHARE * final),
        "board_s": reaches(board, SHARE * final),
    }


def draw(curves: Sequence[dict[str, Curve]], path: Path) -> None:
    """Draw the curves of all seeds."""
    figure = blank(6.4, 3.8)
    axes = figure.add_subplot()
    for name, colour in (("rounds", "#767f86"), ("board", "#0b6ea8")):
        for number, both in enumerate(curves):
            label = None if number else name
            axes.plot(*zip(*both[name], strict=True), color=colour, linewidth=1.4, alpha=0.8, label=label)
    axes.set(xlabel="simulated seconds", ylabel="global accuracy, mean over clients")
    axes.legend(frameon=False)
    write_picture(figure, path)


def main() -> None:
    """Run, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--half-life", type=float, default=20.0, help="seconds; 0: age does not count")
    parser.add_argument("--out", type=Path, default=Path("runs/board-digits"))
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"global": [], "personal": []}
    drawn = []
    for seed in range(given.seeds):
        there = runs(seed, given.half_life or None, given.out / f"{given.half_life:g}-{seed}")
        for kind, its in found.items():
            curves = {run: curve(path, kind) for run, path in there.items()}
            its.append(compared(curves["board"], curves["rounds"]))
            drawn += [curves] if kind == "global" else []
        print(seed, {kind: its[-1] for kind, its in found.items()}, file=sys.stderr, flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    draw(drawn, given.out / "board.png")
    told: dict[str, Any] = {"half_life_s": given.half_life or None}
    for kind, its in found.items():
        ratios = [seed["board_s"] / seed["rounds_s"] for seed in its]
        told[f"{kind}_time_ratio"] = [round(ratio, 3) for ratio in ratios]
        told |= {
            f"{kind}_{key}": f"{statistics.fmean(v):.3f} ± {statistics.pstdev(v):.3f}"
            for key in its[0]
            if (v := [seed[key] for seed in its])
        }
    tell(**told)
    sys.exit(0 if max(told["global_time_ratio"]) <= MOST else 1)


if __name__ == "__main__":
    main()
