"""Forgetting, judged over seeds (docs/results/forgetting.md).

    FEDKT_DATA=... python -m benchmarks.life.forgetting [class] [rows] [time] [--seeds 0 1 2] [--out DIR]

class  scenario ``forget-mnist``: client 0 forgets class 9 as a fresh student, beside two replays: what is
       left, and whether it comes back over five rounds with and without the blocked class
time   what both ways of forgetting rows take of the processor, by rounds and by whether clients train in one
       stack: a replay trains six clients, an own run again one; both read the data first
rows   the same with 200 rows each, of which client 0 deletes 50: its own run again beside a replay. Areas
under
       the curve of the loss attack and of the paired attack, and seconds

Prints a line for each seed, then mean ± standard deviation.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from benchmarks.life.runs import made
from benchmarks.tables import mean_text
from fedkt import data, scenario
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.forgetting.judge import Judge, judged
from fedkt.engine.forgetting.withdrawal import forget
from fedkt.results.observer import Silent

ROWS, DELETED = 200, 50
Figures = dict[str, float]


def of_class(seed: int, out: Path) -> Figures:
    """Let a fresh student forget class 9; return its figures beside those of the replays."""
    run = made("forget-mnist", [], seed, out / "run").path
    told = judged(run, forget(run, "0", label="9", how="fresh", out=out / "fresh", observer=Silent()))
    numbers: Mapping[str, Any] = told["numbers"]
    after, retrained, other = (numbers[name] for name in list(numbers)[1:])
    found = {
        "class 9 before (%)": 100 * numbers["before"]["forgotten"],
        "after (%)": 100 * after["forgotten"],
        "rest after (%)": 100 * after["rest"],
        "rest replay (%)": 100 * retrained["rest"],
        "steps after": after["relearning_steps"],
        "steps replay": retrained["relearning_steps"],
        "anamnesis index": after["relearning_index"],
        "divergence (nats)": after["kl"],
        "noise floor (nats)": other["kl"],
        "divergence / floor": after["kl"] / other["kl"],
    }
    for name, back in told["return"].items():
        found[f"return index, {name}"] = back["index"]
        found[f"after one round, {name} (%)"] = 100 * back["accuracy"][0]
    return found


def of_rows(seed: int, out: Path) -> Figures:
    """Let a client forget rows by its own run again; return the attacks beside those on a replay."""
    sets = [f"data.partition.samples_per_client={ROWS}"]
    run = made("forget-mnist", sets, seed, out / "run").path
    described = scenario.load(run / "scenario.yaml")
    mine = data.build(described).shards[0].rows
    rows = np.sort(np.random.default_rng(seed).choice(mine, DELETED, replace=False)).tolist()
    done = {
        how: forget(run, "0", rows=rows, how=how, out=out / how, observer=Silent())
        for how in ("own", "replay")
    }
    judge = Judge(checked_world(described), done["own"].what)
    looks = {name: judge.looks(out / name) for name in ("run", "own", "replay")}
    found = {
        name: judge.of(its, looks["run"], looks["replay"], same=name == "run") for name, its in looks.items()
    }
    attacks = {name: float(its["loss_attack"] or 0) for name, its in found.items()}
    return {
        "loss attack before": attacks["run"],
        "own run again": attacks["own"],
        "replay": attacks["replay"],
        "paired, own": float(found["own"]["paired_attack"] or 0),
        "paired, replay": float(found["replay"]["paired_attack"] or 0),
        "seconds, own": done["own"].seconds,
        "seconds, replay": done["replay"].seconds,
    }


def of_time(seed: int, out: Path) -> Figures:
    """Return seconds of the processor of an own run again and of a replay."""
    found = {}
    for rounds, cohort in ((8, "auto"), (40, "off")):
        place, sets = out / f"{rounds}-{cohort}", [f"rounds={rounds}", f"engine.cohort={cohort}"]
        run = made("forget-mnist", sets, seed, place / "run").path
        rows = data.build(scenario.load(run / "scenario.yaml")).shards[0].rows[:DELETED].tolist()
        for how in ("own", "replay"):
            begun = time.process_time()
            forget(run, "0", rows=rows, how=how, out=place / how, observer=Silent())
            found[f"{how}, {rounds} rounds, cohort {cohort} (s)"] = time.process_time() - begun
    return found


PARTS: dict[str, Callable[[int, Path], Figures]] = {"class": of_class, "rows": of_rows, "time": of_time}


def measured(part: str, seeds: Sequence[int], out: Path) -> None:
    """Print the figures of a part."""
    each = []
    for seed in seeds:
        place = out / f"{part}-{seed}"
        rmtree(place, ignore_errors=True)
        each.append(PARTS[part](seed, place))
        print(f"seed {seed}: {', '.join(f'{k} {v:.3f}' for k, v in each[-1].items())}", flush=True)
    print(f"\n| {part} | mean ± standard deviation of {len(each)} seeds |\n|---|---|")
    for name in each[0]:
        print(f"| {name} | {mean_text([one[name] for one in each], 3)} |", flush=True)


def main() -> None:
    """Print the figures of the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/forgetting"))
    given = parser.parse_args()
    for part in given.parts or PARTS:
        measured(part, given.seeds, given.out)


if __name__ == "__main__":
    main()
