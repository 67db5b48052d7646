"""The table "Quickstart" of docs/results/side-by-side.md, and of README.md: three seeds.

python -m benchmarks.quickstart
"""

import statistics
import tempfile
from pathlib import Path

import fedkt

STRATEGIES = {
    "local": ("{name: local}", ""),
    # As many as distillation takes: 3 passes over 300 transfer rows by 32.
    "local, 30 steps a round": ("{name: local}", "clients.local.steps=30"),
    "dwc": ("{name: dwc}", ""),
    "knfu": ("{name: knfu}", ""),
    "fedmd, probabilities": ("{name: fedmd, average: probabilities}", ""),
    "central": ("{name: central}", ""),
}
SEEDS = (0, 1, 2)


def main() -> None:
    """Print the table: mean ± standard deviation over seeds, in percent."""
    print("| strategy | personal accuracy | global accuracy |\n|---|---|---|")
    for name, (strategy, change) in STRATEGIES.items():
        found: dict[str, list[float]] = {"personal": [], "global": []}
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                overrides = [f"strategy={strategy}", f"seed={seed}", "engine.kind=inline"]
                result = fedkt.simulate(
                    "quickstart", [*overrides, *filter(None, [change])], out=Path(folder) / "run"
                )
                for kind, values in found.items():
                    values.append(100 * result.summary["accuracy"][f"{kind}_mean"])
        cells = [f"{statistics.fmean(v):.1f} ± {statistics.stdev(v):.1f}" for v in found.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
