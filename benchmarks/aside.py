"""Settings of the default strategy on rows that clients set aside: for choosing among them, not for telling.

    FEDKT_DATA=... python -m benchmarks.aside STUDY [--seeds 10 11 12] [--out runs/aside]

Each client sets aside a fifth of its rows, which stand in place of test rows: *personal* is accuracy on its
own, *global* on those of all. Means are over the clients that are not hostile. Test rows take no part, and a
run that is in OUT/STUDY.jsonl is not run again. ``domains``: where clients differ in their domain
(amazon-products). ``claim``: two of ten clients claim every row, and are certain of a class drawn anew
(hostile-digits); *oracle* leaves out who is hostile, which nobody knows: what the others can have at best.
``--test`` measures on test rows, with nothing set aside: to tell what was chosen, on other seeds.
"""

import argparse
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forecast.runs import run
from benchmarks.tables import mean_text
from fedkt import data, scenario
from fedkt.data import Federation
from fedkt.engine.world.world import World
from fedkt.knowledge.contributions import Contributions
from fedkt.strategy import Strategy

DWC = "strategy={name: dwc}"
CLAIM = [
    *("data.partition.clients=10", "data.partition.alpha=0.5", "robust={filter: none}", DWC),
    "attacks=[{kind: claim, clients: 2}]",
]
ORACLE = "oracle"
STUDIES: dict[str, tuple[str, dict[str, list[str]]]] = {
    "domains": (
        "amazon-products",
        {
            "local": ["strategy={name: local}"],
            "fedmd": ["strategy={name: fedmd}"],
            "fedmd, rehearsal": ["strategy={name: fedmd}", "clients.distill.together=true"],
            "fedmd, probabilities, rehearsal": [
                "strategy={name: fedmd, average: probabilities}",
                "clients.distill.together=true",
            ],
            "dwc": [DWC],
            "dwc, in phases": [DWC, "clients.distill.together=false"],
            "dwc, no prior": ["strategy={name: dwc, prior: false}"],
            "dwc, ridge 10": ["strategy={name: dwc, ridge: 10}"],
            "dwc, energy": ["strategy={name: dwc, weights: energy}"],
            "dwc, energy, all alike": ["strategy={name: dwc, weights: energy, sharpness: 0}"],
            "dwc, aligned": ["strategy={name: dwc, weights: aligned}"],
            "dwc, aligned, consensus": ["strategy={name: dwc, weights: aligned, marginals: consensus}"],
        },
    ),
    "claim": (
        "hostile-digits",
        {
            "no attack": [*CLAIM, "attacks.0.kind=none"],
            "no defence": CLAIM,
            ORACLE: CLAIM,
            **{
                name: [*CLAIM, f"robust={{{settings}}}"]
                for name, settings in {
                    "trimmed-mean": "centre: trimmed-mean",
                    "trimmed-mean, hostile 0.2": "centre: trimmed-mean, hostile: 0.2",
                    "median": "centre: median",
                    "geometric-median": "centre: geometric-median",
                    "cosine": "filter: cosine",
                    "cosine, trimmed-mean": "filter: cosine, centre: trimmed-mean",
                    "cosine 0.2": "filter: cosine, least: 0.2",
                    "cosine 0.2, trimmed-mean": "filter: cosine, least: 0.2, centre: trimmed-mean",
                    "cosine 0.2, geometric-median": "filter: cosine, least: 0.2, centre: geometric-median",
                    "multi-krum": "filter: multi-krum",
                    "multi-krum, hostile 0.2": "filter: multi-krum, hostile: 0.2",
                }.items()
            },
        },
    ),
}


def judged_aside(federation: Federation) -> Federation:
    """Return the federation with the rows that clients set aside in place of all test rows."""
    pool, shards = federation.pool, [replace(shard, test=shard.validation) for shard in federation.shards]
    return replace(
        federation,
        shards=tuple(shards),
        own_test=pool,
        test=pool.take(np.sort(np.concatenate([shard.validation for shard in shards]))),
        _kept={},
    )


def leave_out_hostile(strategy: Strategy, world: World) -> None:
    """Have a strategy fuse what honest clients sent; teachers must be common to all."""
    fuse, hostile = strategy.fuse, world.hostile

    def trusted(contributions: Contributions) -> Any:
        return fuse(contributions.among([c for c in contributions.clients if c not in hostile]))

    vars(strategy)["fuse"] = trusted


def measure(study: str, name: str, seed: int, folder: Path, test: bool) -> dict[str, Any]:
    """Return both accuracies in percent, means over honest clients after the last round."""
    base, variants = STUDIES[study]
    common = ["engine={kind: inline, cohort: 10}", f"data.validation={0 if test else 0.2}"]
    described = scenario.load(base, [f"seed={seed}", *common, *variants[name]])
    federation = data.build(described, folder)
    federation = federation if test else judged_aside(federation)
    change = leave_out_hostile if name == ORACLE else None
    metrics = run(described, folder, federation, change).honest
    found = {
        what: 100 * statistics.fmean(its[what] for its in metrics.values()) for what in ("personal", "global")
    }
    return {"name": name, "seed": seed, **found}


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[10, 11, 12])
    parser.add_argument("--names", nargs="*", help="of the study's settings, all of them unless set")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/aside"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    log, folder = (
        given.out / f"{given.study}{'-test' if given.test else ''}.jsonl",
        Path(os.environ.get("FEDKT_DATA", "data")),
    )
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(r["name"], r["seed"]) for r in runs}
    names = STUDIES[given.study][1]
    for seed in given.seeds:
        for name in given.names or names:
            if (name, seed) not in known:
                runs.append(measure(given.study, name, seed, folder, given.test))
                with log.open("a") as lines:
                    lines.write(json.dumps(runs[-1]) + "\n")
    print("| | seeds | personal / global |\n|---|---|---|")
    for name in names:
        here = [r for r in runs if r["name"] == name]
        if here:
            cells = [mean_text([r[what] for r in here], 1) for what in ("personal", "global")]
            print(f"| {name} | {len(here)} | {' / '.join(cells)} |")


if __name__ == "__main__":
    main()
