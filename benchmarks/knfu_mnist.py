"""The tables of docs/results/knfu-mnist.md: when does fusing knowledge beat training alone?

    FEDKT_DATA=... python -m benchmarks.knfu_mnist [--out runs/knfu-mnist-table] [--seeds 0 1 2]

Each cell is a run of the bundled scenario knfu-mnist. A run that finished is not run again, one that was
interrupted is continued.
"""

import argparse
import statistics
from pathlib import Path

import fedkt
from fedkt.results.result import Result

ALPHAS = (0.1, 0.5, 5.0)
SIZES = (50, 200, 1000)
STRATEGIES = {
    "local": "{name: local}",
    "fedmd": "{name: fedmd}",
    "fedmd, probabilities": "{name: fedmd, average: probabilities}",
    "knfu": "{name: knfu, beta: 10}",
}


def measure(out: Path, alpha: float, size: int, strategy: str, seed: int) -> dict[str, float]:
    """Return the final accuracy of one run, which is run first if need be."""
    folder = out / f"{alpha:g}x{size}" / strategy.replace(", ", "-") / str(seed)
    if not (folder / "summary.json").exists():
        fedkt.simulate(
            "knfu-mnist",
            [
                f"data.partition.alpha={alpha}",
                f"data.partition.samples_per_client={size}",
                f"strategy={STRATEGIES[strategy]}",
                f"seed={seed}",
                "engine.kind=inline",
                "evaluate.every=10",
            ],
            out=folder,
            resume=(folder / "environment.json").exists(),
        )
    accuracy: dict[str, float] = Result.read(folder).summary["accuracy"]
    return accuracy


def table(out: Path, seeds: list[int], kind: str) -> list[str]:
    """Return the Markdown table of one kind of accuracy: mean ± standard deviation over seeds, in percent."""
    heads = ["alpha", "rows per client", *STRATEGIES]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for alpha in ALPHAS:
        for size in SIZES:
            cells = []
            for strategy in STRATEGIES:
                found = [100 * measure(out, alpha, size, strategy, s)[f"{kind}_mean"] for s in seeds]
                cells.append(f"{statistics.fmean(found):.1f} ± {statistics.stdev(found):.1f}")
            lines.append(f"| {alpha:g} | {size} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/knfu-mnist-table"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    for kind in ("personal", "global"):
        print(f"\n{kind} accuracy\n")
        print("\n".join(table(given.out, given.seeds, kind)))


if __name__ == "__main__":
    main()
