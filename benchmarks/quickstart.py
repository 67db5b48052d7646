"""The table "Quickstart" of docs/results/side-by-side.md: every strategy on that scenario, three seeds.

python -m benchmarks.quickstart
"""

import statistics
import tempfile
from pathlib import Path

import fedkt

STRATEGIES = {
    "local": ("{name: local}", ""),
    "fedmd": ("{name: fedmd}", ""),
    "fedmd, probabilities": ("{name: fedmd, average: probabilities}", ""),
    "dsfl": ("{name: dsfl}", ""),
    "fd": ("{name: fd}", ""),
    "fedproto": ("{name: fedproto}", ""),
    "knfu": ("{name: knfu}", ""),
    "central": ("{name: central}", ""),
    "fedavg (mlp only)": ("{name: fedavg}", "clients.models=[mlp]"),
    "local (mlp only)": ("{name: local}", "clients.models=[mlp]"),
}
SEEDS = (0, 1, 2)


def main() -> None:
    """Print the table: mean ± standard deviation over seeds, in percent."""
    print("| strategy | personal accuracy | global accuracy |\n|---|---|---|")
    for name, (strategy, change) in STRATEGIES.items():
        found: dict[str, list[float]] = {"personal": [], "global": []}
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                overrides = [f"strategy={strategy}", f"seed={seed}", "engine.kind=inline", "allow=[weights]"]
                result = fedkt.simulate(
                    "quickstart", [*overrides, *filter(None, [change])], out=Path(folder) / "run"
                )
                for kind, values in found.items():
                    values.append(100 * result.summary["accuracy"][f"{kind}_mean"])
        cells = [f"{statistics.fmean(v):.1f} ± {statistics.stdev(v):.1f}" for v in found.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
