"""The tables of docs/reliability.md, "Hostile clients": 2 of 8 attack, with each fusion, on digits and MNIST.

    FEDKT_DATA=... python -m benchmarks.attacks [--data digits mnist] [--seeds 0 1 2] [--out runs/attacks]

Accuracy is the mean over the honest clients of their own models on the common test set after the last round;
with attack "none" the same two are left out of the mean, but send what they know. A run that finished is not
run again. The last line says how far each fusion falls below the clean run, the mean without attack, under
its worst row.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import fedkt
from fedkt.results.result import Result

ATTACKS = ("none", "label-flip", "scale", "reorder", "peak", "random", "echo", "constant", "collude")
FUSIONS = {
    "mean": {},
    "median": {"centre": "median"},
    "trimmed mean": {"centre": "trimmed-mean"},
    "geometric median": {"centre": "geometric-median"},
    "multi-Krum": {"filter": "multi-krum"},
    "cosine": {"filter": "cosine"},
    "probe rows": {"filter": "probe"},
}
CLIENTS, HOSTILE = 8, 2
DATA: dict[str, dict[str, Any]] = {
    "digits": {"dataset": "digits", "rows": 100, "transfer": 300, "rounds": 8},
    "mnist": {"dataset": "npz:mnist.npz", "rows": 200, "transfer": 500, "rounds": 6},
}


def scenario(name: str, alpha: float, attack: str, fusion: str, seed: int) -> dict[str, Any]:
    """Describe one cell."""
    data = DATA[name]
    partition = {"kind": "dirichlet", "alpha": alpha, "clients": CLIENTS, "samples_per_client": data["rows"]}
    return {
        "name": f"attacks-{name}",
        "data": {
            "dataset": data["dataset"],
            "partition": partition,
            "transfer": {"from": "train", "size": data["transfer"]},
        },
        "clients": {
            "models": ["mlp"],
            "local": {"epochs": 3, "batch_size": 16, "optimizer": "adam", "lr": 0.002},
            "distill": {"epochs": 3, "batch_size": 32},
        },
        "strategy": {"name": "fedmd", "average": "probabilities"},
        "rounds": data["rounds"],
        "robust": FUSIONS[fusion],
        "attacks": [{"kind": attack, "clients": HOSTILE}],
        "engine": {"kind": "inline"},
        "evaluate": {"every": data["rounds"]},
        "seed": seed,
    }


def measure(out: Path, name: str, alpha: float, attack: str, fusion: str, seed: int) -> float:
    """Return the final accuracy of one cell in percent; it is run first if need be."""
    folder = out / name / f"{alpha:g}" / attack / fusion.replace(" ", "-") / str(seed)
    if not (folder / "summary.json").exists():
        again = (folder / "environment.json").exists()
        fedkt.simulate(scenario(name, alpha, attack, fusion, seed), out=folder, resume=again)
    accuracy = Result.read(folder).summary["accuracy"]["global_mean"]
    return 100 * float(accuracy)


def table(
    out: Path, name: str, alpha: float, seeds: list[int], attacks: list[str], fusions: list[str]
) -> list[str]:
    """Return the Markdown table of one data set: mean ± standard deviation over seeds, and the losses."""
    lines = ["| attack | " + " | ".join(fusions) + " |", "|" + "---|" * (len(fusions) + 1)]
    clean = [measure(out, name, alpha, "none", "mean", seed) for seed in seeds]
    worst = dict.fromkeys(fusions, -100.0)
    for attack in attacks:
        cells = []
        for fusion in fusions:
            found = [measure(out, name, alpha, attack, fusion, seed) for seed in seeds]
            spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
            cells.append(f"{statistics.fmean(found):.1f}{spread}")
            worst[fusion] = max(worst[fusion], statistics.fmean(clean) - statistics.fmean(found))
        lines.append(f"| {attack} | " + " | ".join(cells) + " |")
    return [*lines, "| largest loss | " + " | ".join(f"{loss:.1f}" for loss in worst.values()) + " |"]


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/attacks"))
    parser.add_argument("--data", nargs="+", choices=sorted(DATA), default=sorted(DATA))
    parser.add_argument("--alpha", type=float, default=5.0, help="Dirichlet concentration of the labels")
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--fusions", nargs="+", choices=list(FUSIONS), default=list(FUSIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    for name in given.data:
        print(f"\n{name}, alpha {given.alpha:g}\n", flush=True)
        print("\n".join(table(given.out, name, given.alpha, given.seeds, given.attacks, given.fusions)))


if __name__ == "__main__":
    main()
