"""The picture in README.md: accuracy per round on the bundled scenario quickstart.

python -m benchmarks.readme_picture docs/images/quickstart.png
"""

import sys
import tempfile
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import fedkt

LINES = {
    "central": ("all data pooled (upper bound)", "#8a8a8a", "{name: central}"),
    "knfu": ("knfu: probabilities about 300 common rows", "#0b6e99", "{name: knfu}"),
    "fd": ("fd: one prediction per class", "#c2571a", "{name: fd}"),
    "local": ("each client alone (lower bound)", "#8a8a8a", "{name: local}"),
}


def main(path: Path) -> None:
    """Run each strategy three times and draw mean personal accuracy with the range over seeds."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for label, color, strategy in LINES.values():
        runs = []
        for seed in range(3):
            with tempfile.TemporaryDirectory() as folder:
                overrides = [f"strategy={strategy}", f"seed={seed}", "engine.kind=inline"]
                result = fedkt.simulate("quickstart", overrides, out=Path(folder) / "run")
                runs.append(100 * result.rounds["accuracy.personal_mean"].to_numpy())
        rounds = range(1, len(runs[0]) + 1)
        mean = sum(runs) / len(runs)
        axes.plot(rounds, mean, color=color, linewidth=2, label=f"{label}: {mean[-1]:.1f} %")
        low, high = (
            [min(column) for column in zip(*runs, strict=True)],
            [max(column) for column in zip(*runs, strict=True)],
        )
        axes.fill_between(rounds, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xlabel("round")
    axes.set_ylabel("personal accuracy in %")
    axes.set_title(
        "quickstart: 10 clients with 30 rows each, mean of 3 seeds and their range", loc="left", fontsize=10
    )
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
