"""The picture in README.md: accuracy per round on the bundled scenario quickstart.

python -m benchmarks.readme_picture docs/images/quickstart.png
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

import fedkt

SEEDS = range(3)
# FedMD averages logits in its paper; with probabilities it is better here.
FEDMD = ["strategy={name: fedmd, average: probabilities}"]
LINES = {
    "central": ("central: all data pooled", "#6b7780", "dashed", ["strategy={name: central}"]),
    "dwc": ("dwc (default): who knows a row has the say", "#c2571a", "solid", ["strategy={name: dwc}"]),
    "knfu": ("knfu: a mix of its own for each client", "#0b6e99", "solid", ["strategy={name: knfu}"]),
    "fedmd": ("fedmd: the same mean of probabilities for all", "#7a4fa3", "solid", FEDMD),
    "local": ("local: each client alone", "#6b7780", "dotted", ["strategy={name: local}"]),
}


def accuracies(changes: list[str]) -> NDArray[np.float64]:
    """Return mean personal accuracy over clients in per cent [seeds, rounds]."""
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            overrides = [*changes, f"seed={seed}", "engine.kind=inline"]
            result = fedkt.simulate("quickstart", overrides, out=Path(folder) / "run")
            runs.append(100 * result.rounds["accuracy.personal_mean"].to_numpy())
    return np.stack(runs)


def main(path: Path) -> None:
    """Run each strategy with each seed and draw the mean over seeds and their range."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (label, color, style, changes) in LINES.items():
        found = accuracies(changes)
        mean, rounds = found.mean(0), range(1, found.shape[1] + 1)
        print(name, *(f"{value:.1f}" for value in mean))
        axes.plot(rounds, mean, color=color, linestyle=style, linewidth=2, label=f"{label}: {mean[-1]:.1f} %")
        axes.fill_between(rounds, found.min(0), found.max(0), color=color, alpha=0.13, linewidth=0)
    axes.set_xlabel("round")
    axes.set_ylabel("personal accuracy in %")
    axes.set_title(
        "quickstart: 10 clients with 30 rows each, mean of 3 seeds and their range", loc="left", fontsize=10
    )
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    axes.set_ylim(bottom=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
