"""A comparison as pictures for a paper: PNG and SVG, beside the report that does not need them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fedkt.drawing import BOUNDS, HUES, blank, look, write_picture
from fedkt.results.comparison.frames import Comparison
from fedkt.results.statistics import BLOCK, against_epsilon, by_seed, critical_difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = "pictures"
_GREY, _FAINT, _INK = "#767f86", "#e4e6e4", "#1d2328"
MOST_PANELS = 12
"""Scenarios and conditions that are drawn; the report shows all."""


def write_pictures(comparison: Comparison) -> Path:
    """Write ``curves``, ``accuracy``, over several scenarios ``ranks``, over several ε ``epsilon``.

    Returns their folder.
    """
    table = comparison.statistics
    drawn = {"curves": _curves(comparison, table), "accuracy": _accuracy(comparison, table)}
    ranks = critical_difference(table, comparison.metric)
    if ranks is not None:
        drawn["ranks"] = _ranks(
            ranks, f"{comparison.settings['metric']} {comparison.metric.title}", _look(table)
        )
    private = against_epsilon(comparison.runs, comparison.settings["metric"])
    if private["epsilon"].nunique() > 1:
        drawn["epsilon"] = _epsilon(comparison, table, private)
    folder = comparison.path / FOLDER
    for name, figure in drawn.items():
        for form in ("png", "svg"):
            write_picture(figure, folder / f"{name}.{form}", dpi=160)
    return folder


def _axis(comparison: Comparison) -> tuple[str, float]:
    """Return what stands at the axis of the leading figure, and by what values are multiplied there."""
    metric = comparison.metric
    return (
        f"{comparison.settings['metric']} {metric.title}{',' + metric.unit if metric.unit else ''}",
        metric.scale,
    )


def _panels(table: pd.DataFrame, height: float) -> "tuple[Figure, list[tuple[tuple[str, str], Axes]]]":
    """Return a figure with one panel per block, up to three in a row."""
    blocks = list(table[BLOCK].drop_duplicates().itertuples(index=False, name=None))[:MOST_PANELS]
    columns = min(3, len(blocks))
    rows = -(-len(blocks) // columns)
    width = 7.2 if columns == 1 else 5.0 * columns
    figure = blank(width, height * rows)
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for spare in axes[len(blocks) :]:
        spare.set_visible(False)
    for block, panel in zip(blocks, axes, strict=False):
        panel.set_title(" · ".join(part for part in block if part), loc="left", fontsize=10)
        panel.tick_params(length=0, labelsize=9)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.spines["bottom"].set_color(_FAINT)
        panel.set_axisbelow(True)
    return figure, list(zip(blocks, axes, strict=False))


def _look(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the colour and the line of every method, as in the report."""
    looks, free = {}, 0
    for method, strategy in (
        table[["method", "strategy"]].drop_duplicates().itertuples(index=False, name=None)
    ):
        hue, dash = look(free)
        bound = strategy in BOUNDS
        dash = BOUNDS[strategy] if bound else dash
        line = (0, tuple(part / 2 for part in dash)) if dash else "solid"
        looks[method] = {"color": _GREY if bound else HUES["light"][hue], "linestyle": line}
        free += not bound
    return looks


def _legend(figure: "Figure", axes: "Axes") -> None:
    """Name the lines of a panel below all of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=9
    )


def _curves(comparison: Comparison, table: pd.DataFrame) -> "Figure":
    """Draw mean accuracy per round with the range over seeds."""
    from matplotlib.ticker import MaxNLocator

    looks, (titled, scale) = _look(table), _axis(comparison)
    column = f"{comparison.settings['metric']}_mean"
    figure, panels = _panels(table, 3.6)
    rounds = comparison.rounds
    for block, axes in panels:
        here = rounds[(rounds[BLOCK] == list(block)).all(axis=1) & rounds[column].notna()]
        for method, group in here.groupby("method", sort=False):
            values = scale * by_seed(group, column).agg(["mean", "min", "max"], axis=1)
            axes.plot(values.index, values["mean"], linewidth=1.8, label=method, **looks[method])
            axes.fill_between(
                values.index,
                values["min"],
                values["max"],
                color=looks[method]["color"],
                alpha=0.12,
                linewidth=0,
            )
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round", fontsize=9)
        axes.set_ylabel(titled, fontsize=9)
    _legend(figure, panels[0][1])
    return figure


def _accuracy(comparison: Comparison, table: pd.DataFrame) -> "Figure":
    """Draw each method's mean with its 95 % interval over seeds, the best on top."""
    looks, (titled, scale) = _look(table), _axis(comparison)
    most = table.groupby(BLOCK, sort=False).size().max()
    figure, panels = _panels(table, 0.9 + 0.3 * most)
    for block, axes in panels:
        here = table[(table[BLOCK] == list(block)).all(axis=1)].sort_values(
            "mean", ascending=comparison.metric.higher_is_better
        )
        for place, row in enumerate(here.to_dict("records")):
            colour = looks[row["method"]]["color"]
            if not pd.isna(row["low"]):
                axes.plot(
                    [scale * row["low"], scale * row["high"]], [place, place], color=colour, linewidth=1.8
                )
            axes.plot(scale * row["mean"], place, "o", color=colour, markersize=6)
        axes.set_yticks(range(len(here)), here["method"])
        axes.set_ylim(-0.6, len(here) - 0.4)
        axes.grid(axis="x", color=_FAINT, linewidth=0.8)
        axes.set_xlabel(titled, fontsize=9)
    return figure


def _epsilon(comparison: Comparison, table: pd.DataFrame, private: pd.DataFrame) -> "Figure":
    """Draw accuracy against ε with 95 % intervals over seeds, one panel per scenario."""
    looks, (titled, scale) = _look(table), _axis(comparison)
    known = private.dropna(subset=["mean"])
    bounds = table[table["strategy"].isin(BOUNDS)].drop_duplicates(["scenario", "method"])
    figure, panels = _panels(known.assign(condition="")[BLOCK].drop_duplicates(), 3.6)
    for (scenario, _), axes in panels:
        for method, group in known[known["scenario"] == scenario].groupby("method", sort=False):
            group = group.sort_values("epsilon")
            wide = (scale / 2 * (group["high"] - group["low"])).fillna(0)
            axes.errorbar(
                group["epsilon"], scale * group["mean"], wide, marker="o", label=method, **looks[method]
            )
        for row in bounds[bounds["scenario"] == scenario].to_dict("records"):
            axes.axhline(scale * row["mean"], label=row["method"], linewidth=1.2, **looks[row["method"]])
        budgets = sorted(known.loc[known["scenario"] == scenario, "epsilon"].round(2).unique())
        axes.set_xscale("log")
        axes.set_xticks(budgets, [f"{value:g}" for value in budgets])
        axes.minorticks_off()
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        axes.set_xlabel("ε, the largest over clients", fontsize=9)
        axes.set_ylabel(titled, fontsize=9)
    _legend(figure, panels[0][1])
    return figure


def _ranks(found: dict[str, Any], metric: str, looks: dict[str, dict[str, Any]]) -> "Figure":
    """Draw the critical-difference diagram: mean ranks, bars over what cannot be told apart."""
    count = len(found["methods"])
    half = -(-count // 2)
    depth = 0.35 * len(found["groups"])
    figure = blank(7.2, 1.2 + 0.28 * half + 0.18 * len(found["groups"]))
    axes = figure.add_subplot()
    axes.plot([1, count], [0, 0], color=_INK, linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.15], color=_INK, linewidth=1)
        axes.text(rank, 0.3, str(rank), ha="center", fontsize=9)
    for line, (first, last) in enumerate(found["groups"]):
        ends = [found["ranks"][first] - 0.04, found["ranks"][last] + 0.04]
        axes.plot(ends, [-0.3 - 0.35 * line] * 2, color=_INK, linewidth=4, solid_capstyle="round")
    for place, (name, rank) in enumerate(zip(found["methods"], found["ranks"], strict=True)):
        left = place < half
        level = -0.7 - depth - 0.6 * (place if left else count - 1 - place)
        end = 0.85 if left else count + 0.15
        axes.plot([rank, rank, end], [0, level, level], linewidth=1.2, **looks[name])
        axes.text(
            end + (-0.05 if left else 0.05),
            level,
            f"{name} ({rank:.2f})",
            ha="right" if left else "left",
            va="center",
            fontsize=9,
        )
    axes.set_title(
        f"mean rank in {metric} over {found['blocks']} scenarios; critical difference "
        f"{found['difference']:.2f}",
        loc="left",
        fontsize=10,
    )
    axes.axis("off")
    axes.set_xlim(1 - 0.45 * count, count + 0.45 * count)
    return figure
