"""The picture of a run: accuracy per round."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedkt.drawing import blank, write_picture
from fedkt.results.metrics import measured_in
from fedkt.tasks import CLASSIFICATION, Metric

LINES = (
    ("personal", "personal", "#0b6e99"),
    ("global", "global", "#c2571a"),
)
_FAINT = "#dde3e8"
_LABEL_GAP = 0.06
"""Least distance between two labels, as a share of the axis."""


def draw_accuracy(
    rounds: Sequence[Mapping[str, Any]], path: Path, title: str = "", metric: Metric = CLASSIFICATION.metric
) -> None:
    """Draw the leading figure, mean over clients, per round, with a band of one standard deviation, as PNG.

    ``rounds``: lines of ``rounds.jsonl``. Each line carries its last value. Rounds that were not evaluated
    have no point; without any point there is no picture.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    drawn = [(label, color, _points(rounds, name, metric.scale)) for name, label, color in LINES]
    drawn = [line for line in drawn if line[2]]
    if not drawn:
        return
    scale = metric.scale
    most = math.inf if metric.highest is None else scale * metric.highest
    figure = blank(7, 4)
    axes = figure.add_subplot()
    for _, color, points in drawn:
        at, mean, std = zip(*points, strict=True)
        low = [max(scale * metric.lowest, m - s) for m, s in zip(mean, std, strict=True)]
        high = [min(most, m + s) for m, s in zip(mean, std, strict=True)]
        axes.fill_between(at, low, high, color=color, alpha=0.13, linewidth=0)
        marker = "o" if len(points) <= 40 else None
        axes.plot(at, mean, color=color, linewidth=2, marker=marker, markersize=3.5)
    lowest = min(m - s for _, _, points in drawn for _, m, s in points)
    step = 10.0 if metric.share else 10.0 ** math.floor(math.log10(abs(lowest) or 1.0))
    bottom = max(scale * metric.lowest, step * (lowest // step))
    top = most if math.isfinite(most) else 1.05 * max(m + s for _, _, points in drawn for _, m, s in points)
    axes.set_ylim(bottom, top)
    lasts = [points[-1][1] for _, _, points in drawn]
    heights = _apart(lasts, _LABEL_GAP * (top - bottom), bottom, top)
    for (label, color, points), height in zip(drawn, heights, strict=True):
        text = f"{label}\n{metric.text(points[-1][1] / scale)}"
        axes.annotate(
            text,
            (points[-1][0], height),
            xytext=(10, 0),
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=10,
            linespacing=1.25,
            annotation_clip=False,
        )
    first, last = min(p[0][0] for _, _, p in drawn), max(p[-1][0] for _, _, p in drawn)
    margin = 0.01 * (last - first) or 0.5
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    if metric.share:
        axes.yaxis.set_major_formatter(PercentFormatter(decimals=0, symbol=" %"))
    axes.set_xlabel("round")
    axes.set_title(title or metric.title, loc="left", fontsize=12, fontweight="bold", pad=22)
    caption = f"{metric.title} of each client's own model: mean over clients, band ± one standard deviation"
    axes.text(0, 1.03, caption, transform=axes.transAxes, fontsize=8.5, color="#5b6770")
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    write_picture(figure, path)


def _points(rounds: Sequence[Mapping[str, Any]], name: str, scale: float) -> list[tuple[int, float, float]]:
    """Return (round, mean, standard deviation), of a share in per cent, where the metric was measured."""
    measured = ((row["round"], measured_in(row)) for row in rounds)
    return [
        (number, scale * found[f"{name}_mean"], scale * (found.get(f"{name}_std") or 0.0))
        for number, found in measured
        if found.get(f"{name}_mean") is not None
    ]


def _apart(values: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
    """Return the heights of labels for these values: in the same order, two lines of text apart."""
    gap *= 2
    order = sorted(range(len(values)), key=lambda i: values[i])
    heights = list(values)
    for lower, upper in pairwise(order):
        missing = gap - (heights[upper] - heights[lower])
        if missing > 0:
            heights[lower] -= missing / 2
            heights[upper] += missing / 2
    over = max(0.0, max(heights) - (top - gap / 4))
    under = max(0.0, bottom + gap / 4 - min(heights))
    return [height - over + under for height in heights]
