"""The picture of a run: accuracy per round."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LINES = (
    ("personal", "personal accuracy", "#0b6e99"),
    ("global", "global accuracy", "#c2571a"),
    ("server", "server model", "#5b5b5b"),
)


def draw_accuracy(rounds: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw mean accuracy over clients per round with a band of one standard deviation, as PNG.

    Rounds that were not evaluated have no point; without any point no picture is written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measured = [row for row in rounds if row["accuracy"]]
    if not measured:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, label, color in LINES:
        points = [
            (row["round"], 100 * row["accuracy"][f"{name}_mean"], 100 * row["accuracy"][f"{name}_std"])
            for row in measured
            if row["accuracy"].get(f"{name}_mean") is not None
        ]
        if points:
            at, mean, std = zip(*points, strict=True)
            axes.plot(at, mean, color=color, marker="o", markersize=3, label=f"{label} {mean[-1]:.1f} %")
            low = [m - s for m, s in zip(mean, std, strict=True)]
            high = [m + s for m, s in zip(mean, std, strict=True)]
            axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xlabel("round")
    axes.set_ylabel("accuracy in %, mean over clients ± std")
    axes.set_ylim(0, 100)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=120)
