"""Tables of docs/results/fusion.md: the default against others' methods, newer ones, and with a guard.

    FEDKT_DATA=... python -m benchmarks.fusion [--table default|newer|guard] [--seeds 0 1 2] [--cases a b]
        [--write]

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
from benchmarks.tables import mean_text, pipes

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
TABLES: dict[str, dict[str, list[str]]] = {
    "default": {name: [] for name in ("local", "dwc", "knfu", "fedmd", "complementary")},
    "newer": {
        **{name: [] for name in ("local", "dwc", "held", "transferability", "kshot", "dynamic_logits")},
        "comd": ["server_model={model: mlp}"],
        **{name: [] for name in ("fd", "fd_ratio")},
    },
    "guard": {"local": [], "dwc": [], "dwc, folds": ["clients.guard={folds: 3}"]},
}
"""The methods of each table, a strategy's name first, and what each changes in a scenario beside it."""
OTHERS = ("local", "knfu", "fedmd")
"""Those whose best the default is compared with."""
KINDS = ("personal", "global")
EACH_ROUND = ("quickstart", *MNIST)
"""Cases that are looked at after every round."""
PAGE = Path("docs/results/fusion.md")
Run = dict[str, Any]


def measure(case: str, method: str, seed: int, data: Path) -> Run:
    """Return accuracy in percent: after the last round of each client, after each that is looked at in the
    mean (all rounds where models are small)."""
    scenario, changes = CASES[case]
    settings = [f"strategy={{name: {method.split(',')[0]}}}", f"seed={seed}"]
    settings += ["engine={kind: inline, cohort: 10}", f"evaluate.every={1 if case in EACH_ROUND else 10}"]
    settings += next(methods[method] for methods in TABLES.values() if method in methods)
    with tempfile.TemporaryDirectory() as folder:
        done = fedkt.simulate(scenario, [*changes, *settings], out=Path(folder) / "run", data_dir=data)
        rounds = {int(r): here for r, here in done.clients.groupby("round")}
    found = {kind: [100 * float(v) for v in rounds[max(rounds)][kind]] for kind in KINDS}
    means = {str(r): 100 * float(here["personal"].mean()) for r, here in rounds.items()}
    return {"case": case, "method": method, "seed": seed, **found, "rounds": means}


def table(runs: list[Run], methods: Sequence[str]) -> str:
    """Return a row for each case: personal / global by method, what the first of them that fuses gains on
    the best of others, and whom it and the last one leave worse off than training alone."""
    guarded = [methods[1], *([methods[-1]] if "," in methods[-1] else [])]
    last = [f"{method}: worse off" for method in guarded]
    ahead = [f"on the best of {', '.join(OTHERS)}"] * set(OTHERS).issubset(methods)
    lines, losses = [], dict[str, list[float]]((method, []) for method in guarded)
    for case in CASES:
        here = {(r["method"], r["seed"]): r for r in runs if r["case"] == case}
        seeds = sorted(
            set.intersection(*({s for m, s in here if m == known} for known in (methods[0], *guarded)))
        )
        if not seeds:
            continue
        by = {m: [here[m, s] for s in seeds if (m, s) in here] for m in methods}
        gains = {m: gained(by[m], by["local"]) for m in guarded}
        for method in guarded:
            losses[method] += gains[method]
        told = [case, str(len(seeds)), *map(_cell, by.values()), *[_ahead(by)] * len(ahead)]
        lines.append(told + [_worse(gains[m]) for m in guarded])
    lines.append(["all", *[""] * (1 + len(methods) + len(ahead)), *map(_worse, losses.values())])
    return pipes(["", "seeds", *methods, *ahead, *last], lines).rstrip()


def gained(runs: list[Run], alone: list[Run]) -> list[float]:
    """Return what each client's own accuracy is above that of training alone, over all seeds."""
    pairs = [zip(r["personal"], a["personal"], strict=True) for r, a in zip(runs, alone, strict=True)]
    return [taught - own for pair in pairs for taught, own in pair]


def _cell(runs: list[Run]) -> str:
    found = [mean_text([statistics.fmean(r[kind]) for r in runs], 1) for kind in KINDS]
    return " / ".join(found) if runs else "–"


def _ahead(by: dict[str, list[Run]]) -> str:
    found = []
    for kind in KINDS:
        mean = {m: statistics.fmean(statistics.fmean(r[kind]) for r in by[m]) for m in by if by[m]}
        found.append(f"{mean['dwc'] - max(mean[m] for m in OTHERS if m in mean):+.1f}")
    return " / ".join(found)


def _worse(gains: list[float]) -> str:
    """Say how many clients end more than a point below training alone, of how many, and the least gain."""
    if not gains:
        return "–"
    return f"{sum(g < -1 for g in gains)} of {len(gains)}, {min(gains):+.1f}"


def from_round_two(runs: list[Run]) -> list[str]:
    """Return for each case that is looked at in every round where the default stands least above training
    alone, of the means over clients from round 2 on."""
    lines = []
    for case in EACH_ROUND:
        here = {(r["method"], r["seed"]): r["rounds"] for r in runs if r["case"] == case and "rounds" in r}
        seeds = sorted(s for m, s in here if m == "dwc" and ("local", s) in here)
        least = []
        for seed in seeds:
            ours, alone = here["dwc", seed], here["local", seed]
            least.append(min((ours[r] - alone[r], -int(r)) for r in ours if int(r) > 1))
        told = ", ".join(f"{gain:+.1f} (round {-r})" for gain, r in least)
        lines += [f"{case}, seeds {', '.join(map(str, seeds))}: {told}"] * bool(seeds)
    return lines


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
    text = table([run for run in runs if run["case"] in given.cases], methods)
    if given.write:
        page = PAGE.read_text()
        begin, end = (f"<!-- benchmarks.fusion, {given.table}: {mark} -->" for mark in ("begin", "end"))
        before, after = page.split(begin)[0], page.split(end)[1]
        PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")
    else:
        print(text, *from_round_two(runs), sep="\n")


if __name__ == "__main__":
    main()
