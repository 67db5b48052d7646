"""The answer in plain words: what a person who reads only this should know."""

import math
from typing import Any

import pandas as pd

from fedkt.results.comparison.frames import Comparison
from fedkt.results.comparison.summary import points, spread
from fedkt.results.result import Result
from fedkt.results.statistics import BLOCK, PLACEBO, UPPER_BOUND, critical_difference, differences

SURE = 0.05
MOST_BLOCKS = 6
"""Scenarios and conditions about which there are sentences of their own."""


def about_comparison(comparison: Comparison) -> list[str]:
    """Return the summary: over all blocks first, then a sentence or three per block."""
    table, settings = comparison.statistics, comparison.settings
    lines = _over_all(table, settings["metric"])
    blocks = table.groupby(BLOCK, sort=False)
    if len(blocks) > MOST_BLOCKS:
        lines += _ranges(table, settings["metric"])
    else:
        for block, group in blocks:
            lines.append(_about_block(comparison, block, group, settings["metric"], settings["baseline"]))
    lost = len(comparison.problems)
    if lost:
        lines.append(
            "One run has no result; it is listed below."
            if lost == 1
            else f"{lost} runs have no result; they are listed below."
        )
    return lines


def about_run(result: Result) -> list[str]:
    """Return what a single run came to."""
    summary = result.summary
    if not summary:
        return ["This run has not finished; fedkt simulate --resume continues it."]
    accuracy = summary["accuracy"]
    known = [
        (name, accuracy.get(f"{name}_mean"), accuracy.get(f"{name}_std")) for name in ("personal", "global")
    ]
    reached = [
        f"{100 * mean:.1f} % {name} accuracy (± {100 * (std or 0):.1f} between clients)"
        for name, mean, std in known
        if mean is not None
    ]
    lines = [
        f"After {summary['rounds']} rounds, {summary['clients']} clients with strategy {summary['strategy']} "
        f"reached {' and '.join(reached) or 'an accuracy that was not measured'}."
    ]
    lines.append(
        "This is one run with one seed, so nothing is said here about chance; fedkt compare does that."
    )
    return lines


def _over_all(table: pd.DataFrame, metric: str) -> list[str]:
    found = critical_difference(table)
    if found is None:
        return []
    best = found["methods"][0]
    alike = [found["methods"][i] for first, last in found["groups"] if first == 0 for i in range(1, last + 1)]
    lines = [
        f"Over {found['blocks']} scenarios and conditions, {best} has the best mean rank in {metric} "
        f"accuracy ({found['ranks'][0]:.1f} of {len(found['methods'])})."
    ]
    if found["p"] >= SURE:
        lines.append(
            f"But Friedman's test finds no difference between the strategies (p = {found['p']:.2f}): "
            f"{found['blocks']} are too few, or the strategies too alike, to prefer one."
        )
    elif alike:
        lines.append(f"By their ranks, {_and(alike)} cannot be told from it (Nemenyi, 5 % level).")
    return [" ".join(lines)]


def _ranges(table: pd.DataFrame, metric: str) -> list[str]:
    """Say between what each method lies over the conditions of a scenario."""
    lines = []
    for (scenario, method), group in table.groupby(["scenario", "method"], sort=False):
        known = group.dropna(subset=["mean"]).sort_values("mean")
        if known.empty:
            continue
        worst, best = known.iloc[0], known.iloc[-1]
        text = f"On {scenario}, {method} reached {100 * best['mean']:.1f} % {metric} accuracy"
        if worst["mean"] != best["mean"]:
            text += f" with {best['condition']}, and {100 * worst['mean']:.1f} % with {worst['condition']}"
        lines.append(text + ".")
    return lines


def _about_block(
    comparison: Comparison, block: tuple[str, str], group: pd.DataFrame, metric: str, baseline: str
) -> str:
    where = " with ".join(part for part in block if part)
    ranked = (
        group[group["strategy"] != UPPER_BOUND].dropna(subset=["mean"]).sort_values("mean", ascending=False)
    )
    if ranked.empty:
        return f"On {where}, no accuracy was measured."
    best, seeds = ranked.iloc[0], int(ranked.iloc[0]["seeds"])
    lines = [
        f"On {where}, {best['method']} reached the highest {metric} accuracy, "
        f"{spread(best['mean'], best['low'], best['high'])} %"
        + (f" (95 % interval over {seeds} seeds)" if seeds > 1 else " (one seed: no interval, no test)")
    ]
    if best["method"] == baseline:
        lines[0] += f": no strategy did better than {baseline}."
    elif not math.isnan(best["difference"]):
        sure = best["q"] < SURE
        told = points(best["difference"], best["low_difference"], best["high_difference"])
        lines[0] += f", {told} points against {baseline}"
        if seeds > 1:
            lines[0] += f" (q = {best['q']:.2g})." if sure else ", which may be chance."
        else:
            lines[0] += "."
    else:
        lines[0] += "."
    lines += _runner_up(comparison, block, ranked, metric)
    lines += _knowledge(comparison, block, ranked, metric)
    if best["method"] != "local" and not math.isnan(best["worse"]):
        lines.append(f"{_share(best['worse'])} end worse off than training alone.")
    bound = group[group["strategy"] == UPPER_BOUND]
    if len(bound) and not math.isnan(bound.iloc[0]["mean"]):
        lines.append(f"Pooling all data would give {100 * bound.iloc[0]['mean']:.1f} %.")
    return " ".join(lines)


def _runner_up(
    comparison: Comparison, block: tuple[str, str], ranked: pd.DataFrame, metric: str
) -> list[str]:
    """Say whether the second can be told from the first, by a paired test of the two."""
    if len(ranked) < 2 or ranked.iloc[0]["seeds"] < 2:
        return []
    best, second = ranked.iloc[0]["method"], ranked.iloc[1]["method"]
    runs = comparison.runs
    here = (runs[BLOCK] == list(block)).all(axis=1) & runs["method"].isin([best, second])
    (row,) = differences(runs[here], metric, best).to_dict("records")
    p: Any = row["p"]
    if math.isnan(p) or p >= SURE:
        return [f"The runner-up, {second} ({100 * ranked.iloc[1]['mean']:.1f} %), cannot be told from it."]
    return [f"The runner-up is {second} with {100 * ranked.iloc[1]['mean']:.1f} %."]


def _knowledge(
    comparison: Comparison, block: tuple[str, str], ranked: pd.DataFrame, metric: str
) -> list[str]:
    """Say what of each method's accuracy is gone with placebo peers, where it also ran with those."""
    runs, found = comparison.runs, []
    means = dict(zip(ranked["method"], ranked["mean"], strict=True))
    for control in (method for method in means if method.endswith(PLACEBO)):
        method = control.removesuffix(PLACEBO)
        here = (runs[BLOCK] == list(block)).all(axis=1) & runs["method"].isin([method, control])
        for row in differences(runs[here], metric, control).to_dict("records"):
            told = points(row["difference"], row["low"], row["high"])
            text = f"With peers who answer to other rows {method} reaches {100 * means[control]:.1f} %"
            found.append(f"{text}: what its peers know of a row is worth {told} points.")
    return found


def _share(worse: float) -> str:
    if worse == 0:
        return "No clients"
    return f"{100 * worse:.0f} % of the clients"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
