"""Tables of docs/results/fusion.md: the default against others' methods, and against the newer ones.

    FEDKT_DATA=... python -m benchmarks.fusion [--table default|newer] [--seeds 0 1 2] [--cases a b] [--write]

Every run is appended to OUT/runs.jsonl and is not run again. ``--write`` puts the table of what is there into
the page, between its two marks. CIFAR-10 is made of the mirror in $FEDKT_DATA first.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fedkt
from benchmarks.cifar10 import NAME, decoded
from benchmarks.tables import mean_text

MNIST = {
    f"MNIST, alpha {alpha:g}, {rows} rows": (
        "knfu-mnist",
        [f"data.partition.alpha={alpha:g}", f"data.partition.samples_per_client={rows}"],
    )
    for alpha in (0.1, 0.5, 5)
    for rows in (50, 200, 1000)
}
CIFAR = [f"data.dataset=npz:{NAME}", "data.image={size: 16, channels: 3}", "data.normalise=null"]
CASES: dict[str, tuple[str, list[str]]] = {
    "quickstart": ("quickstart", []),
    "skew-mild": ("skew-mild", []),
    "skew-severe": ("skew-severe", []),
    "shifted-transfer": ("shifted-transfer", []),
    "architectures": ("architectures", []),
    "Fashion-MNIST": ("knfu-mnist", ["data.dataset=npz:fashion_mnist.npz", "data.normalise=null"]),
    "CIFAR-10, cnn": ("knfu-mnist", [*CIFAR, "clients.models=[cnn]"]),
    "CIFAR-10, resnet8": ("knfu-mnist", [*CIFAR, "clients.models=[resnet8]"]),
    "amazon-products": ("amazon-products", []),
    "heart-disease": ("heart-disease", []),
    **MNIST,
}
TABLES = {
    "default": {name: [] for name in ("local", "dwc", "knfu", "fedmd", "complementary")},
    "newer": {
        **{name: [] for name in ("local", "dwc", "held", "transferability", "kshot", "dynamic_logits")},
        "comd": ["server_model={model: mlp}"],
        **{name: [] for name in ("fd", "fd_ratio")},
    },
}
"""The methods of each table, and what each changes in a scenario beside the strategy."""
PAGE = Path("docs/results/fusion.md")
Run = dict[str, Any]


def measure(case: str, method: str, seed: int, data: Path) -> Run:
    """Return the accuracy after the last round in percent, of all clients in the mean and of each."""
    scenario, changes = CASES[case]
    settings = [f"strategy={{name: {method}}}", f"seed={seed}", "engine={kind: inline, cohort: 10}"]
    settings += next(methods[method] for methods in TABLES.values() if method in methods)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        done = fedkt.simulate(scenario, [*changes, *settings, "evaluate.every=10"], out=out, data_dir=data)
        last = done.clients[done.clients["round"] == done.clients["round"].max()]
        found = {kind: [100 * float(v) for v in last[kind]] for kind in ("personal", "global")}
    return {"case": case, "method": method, "seed": seed, **found}


def table(runs: list[Run], methods: Sequence[str]) -> list[str]:
    """Return a row for each case: personal / global by method, and whom the default leaves worse off."""
    lines = [f"| | seeds | {' | '.join(methods)} | worse off |", "|---" * (len(methods) + 3) + "|"]
    for case in CASES:
        here = [run for run in runs if run["case"] == case]
        shared = set.intersection(*({r["seed"] for r in here if r["method"] == m} for m in ("local", "dwc")))
        if not shared:
            continue
        cells = [_cell([r for r in here if r["method"] == m and r["seed"] in shared]) for m in methods]
        lines.append(f"| {case} | {len(shared)} | {' | '.join(cells)} | {_worse(here, shared)} |")
    return lines


def _cell(runs: list[Run]) -> str:
    if not runs:
        return "–"
    means = [[statistics.fmean(run[kind]) for run in runs] for kind in ("personal", "global")]
    return " / ".join(mean_text(values, 1) for values in means)


def _worse(runs: list[Run], seeds: set[int]) -> str:
    """Say which share of clients the default leaves more than a point below training alone, and the most."""
    by = {(r["method"], r["seed"]): r["personal"] for r in runs}
    gains = [g - a for s in seeds for g, a in zip(by["dwc", s], by["local", s], strict=True)]
    return f"{100 * sum(g < -1 for g in gains) / len(gains):.0f} %, {min(gains):+.1f}"


def main() -> None:
    """Run what is missing; print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/fusion"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--table", choices=list(TABLES), default="default")
    parser.add_argument("--methods", nargs="*", help="of the table, all of them unless set")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    methods = list(TABLES[given.table])
    given.out.mkdir(parents=True, exist_ok=True)
    log, folder = given.out / "runs.jsonl", Path(os.environ.get("FEDKT_DATA", "data"))
    runs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {(r["case"], r["method"], r["seed"]) for r in runs}
    for seed in given.seeds:
        for case in given.cases:
            for method in given.methods if given.methods is not None else methods:
                if (case, method, seed) in known:
                    continue
                made = decoded(folder, given.out) if case.startswith("CIFAR") else folder
                runs.append(measure(case, method, seed, made))
                with log.open("a") as lines:
                    lines.write(json.dumps(runs[-1]) + "\n")
    text = "\n".join(table([run for run in runs if run["case"] in given.cases], methods))
    if given.write:
        page = PAGE.read_text()
        begin, end = (f"<!-- benchmarks.fusion, {given.table}: {mark} -->" for mark in ("begin", "end"))
        before, after = page.split(begin)[0], page.split(end)[1]
        PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    else:
        print(text)


if __name__ == "__main__":
    main()
