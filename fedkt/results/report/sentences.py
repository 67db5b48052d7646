"""The answer in plain words: what a person who reads only this should know."""

import math
from typing import Any

import numpy as np
import pandas as pd

from fedkt.results.comparison.frames import Comparison
from fedkt.results.comparison.summary import points, spread
from fedkt.results.measured import METRICS, Measured, read_measured
from fedkt.results.metrics import beside_in, measured_in, metric_of
from fedkt.results.result import Result, size_text
from fedkt.results.statistics import BLOCK, PLACEBO, UPPER_BOUND, critical_difference, interval

SURE = 0.05
WORSE = 0.01
"""A fall of accuracy since the best round that is worth a sentence: a point."""
MOST_BLOCKS = 6
"""Scenarios and conditions about which there are sentences of their own."""


def about_comparison(comparison: Comparison) -> list[str]:
    """Return the summary: over all blocks first, then a sentence or three per block."""
    table, settings = comparison.statistics, comparison.settings
    what = f"{settings['metric']} {comparison.metric.title}"
    lines = _over_all(table, what)
    blocks = table.groupby(BLOCK, sort=False)
    if len(blocks) > MOST_BLOCKS:
        lines += _ranges(table, what)
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
    accuracy, title = measured_in(summary), metric_of(summary).title
    known = [
        (name, accuracy.get(f"{name}_mean"), accuracy.get(f"{name}_std")) for name in ("personal", "global")
    ]
    reached = [
        f"{100 * mean:.1f} % {name} {title} (± {100 * (std or 0):.1f} between clients)"
        for name, mean, std in known
        if mean is not None
    ]
    lines = [
        f"After {summary['rounds']} rounds, {summary['clients']} clients with strategy {summary['strategy']} "
        f"reached {' and '.join(reached) or f'no {title} that was measured'}."
    ]
    lines += [f"Of {rows} rows, {_and(words)}." for rows, words in beside_in(summary).items()]
    measured = read_measured(result.path)
    for name in METRICS:
        lines += _declined_of_run(measured, name, title)
    if accuracy.get("server") is not None:
        lines.append(f"The server's own model reached {100 * accuracy['server']:.1f} %.")
    sent = summary["bytes"]["up"] + summary["bytes"]["down"]
    if sent and summary["strategy"] != UPPER_BOUND:
        each = size_text(sent / max(1, summary["clients"]))
        lines.append(f"On average a client sent and received {each} of knowledge in all.")
    lines.append(
        "This is one run with one seed, so nothing is said here about chance; fedkt compare does that."
    )
    return lines


def _declined_of_run(measured: Measured, metric: str, title: str) -> list[str]:
    """Say whether a run's clients ended worse than they once were, on average."""
    honest = [k for k, name in enumerate(measured.clients) if name not in measured.hostile]
    values = measured.values[metric][:, honest].astype(float)
    values = values[:, ~np.isnan(values).any(axis=0)]
    if not values.size:
        return []
    best = int(values.mean(axis=1).argmax())
    lost = values[-1] - values[best]
    low, high = interval(lost)
    if not _is_worse(lost.mean(), high):
        return []
    return [
        f"It got worse after round {measured.rounds[best]}: {metric} {title} was "
        f"{100 * values[best].mean():.1f} % there and is {100 * values[-1].mean():.1f} % after round "
        f"{measured.rounds[-1]} ({points(lost.mean(), low, high)} points, 95 % interval over clients); "
        "fewer rounds gave more."
    ]


def _over_all(table: pd.DataFrame, metric: str) -> list[str]:
    found = critical_difference(table)
    if found is None:
        return []
    best = found["methods"][0]
    alike = [found["methods"][i] for first, last in found["groups"] if first == 0 for i in range(1, last + 1)]
    lines = [
        f"Over {found['blocks']} scenarios and conditions, {best} has the best mean rank in {metric} "
        f"({found['ranks'][0]:.1f} of {len(found['methods'])})."
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
        text = f"On {scenario}, {method} reached {100 * best['mean']:.1f} % {metric}"
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
        return f"On {where}, no {comparison.metric.title} was measured."
    best, seeds = ranked.iloc[0], int(ranked.iloc[0]["seeds"])
    first = (
        f"On {where}, {best['method']} reached the highest {metric} {comparison.metric.title}, "
        f"{spread(best['mean'], best['low'], best['high'])} %"
        + (f" (95 % interval over {seeds} seeds)" if seeds > 1 else " (one seed: no interval, no test)")
    )
    second = ranked.iloc[1]["method"] if len(ranked) > 1 else None
    if second is not None:
        first += f", {_ahead(comparison.pairs, block, best['method'], second)} the runner-up, {second}"
    lines = [f"{first}{_sure(comparison.pairs, block, best['method'], second)}."]
    if best["method"] == baseline:
        lines.append(f"No strategy did better than {baseline}.")
    elif second != baseline and not math.isnan(best["difference"]):
        told = points(best["difference"], best["low_difference"], best["high_difference"])
        lines.append(f"Against {baseline} that is {told} points{_chance(best['q'], seeds)}.")
    lines += _knowledge(comparison, block, ranked)
    if best["method"] != "local" and not math.isnan(best["worse"]):
        lines.append(f"{_share(best['worse'])} end worse off than training alone.")
    fallen = comparison.declines
    what = f"{metric} {comparison.metric.title}"
    lines += _declined(fallen[(fallen[BLOCK] == list(block)).all(axis=1)], what)
    bound = group[group["strategy"] == UPPER_BOUND]
    if len(bound) and not math.isnan(bound.iloc[0]["mean"]):
        lines.append(f"Pooling all data would give {100 * bound.iloc[0]['mean']:.1f} %.")
    return " ".join(lines)


def _pair(pairs: pd.DataFrame, block: tuple[str, str], one: str, other: str) -> dict[str, Any] | None:
    """Return the paired difference of two methods on a block, the first one's ahead."""
    here = pairs[(pairs[BLOCK] == list(block)).all(axis=1) & pairs["method"].isin([one, other])]
    found = here[here["against"].isin([one, other])].to_dict("records")
    if not found or found[0]["method"] == one:
        return found[0] if found else None
    row = found[0]
    return {**row, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}


def _ahead(pairs: pd.DataFrame, block: tuple[str, str], best: str, second: str) -> str:
    row = _pair(pairs, block, best, second)
    if row is None or math.isnan(row["difference"]):
        return "ahead of"
    return f"{points(row['difference'], row['low'], row['high'])} points against"


def _sure(pairs: pd.DataFrame, block: tuple[str, str], best: str, second: str | None) -> str:
    row = None if second is None else _pair(pairs, block, best, second)
    return "" if row is None else _chance(row["q"], int(row["pairs"]))


def _chance(q: float, seeds: int) -> str:
    """Say how sure a difference is; nothing with one seed."""
    if seeds < 2:
        return ""
    if math.isnan(q):
        return ", which may be chance"
    return f" (q = {q:.2g})" if q < SURE else f", which may be chance (q = {q:.2g})"


def _declined(table: pd.DataFrame, metric: str) -> list[str]:
    """Say which methods ended worse than they once were, of one block's :func:`decline`."""
    worse = table[_is_worse(table["fall"], table["high"])].sort_values("fall")
    found = [
        f"{row['method']} after round {row['best']} ({100 * row['at_best']:.1f} % there, "
        f"{points(row['fall'], row['low'], row['high'])} points since)"
        for row in worse.to_dict("records")
    ]
    if not found:
        return []
    return [f"In {metric} it got worse after its best round: {_and(found)}; fewer rounds gave more."]


def _is_worse(fall: Any, high: Any) -> Any:
    """Say whether a fall is a point at least and, where there is an interval, no chance of the seeds."""
    return (fall <= -WORSE) & ((high < 0) | (high != high))


def _knowledge(comparison: Comparison, block: tuple[str, str], ranked: pd.DataFrame) -> list[str]:
    """Say what of each method's accuracy is gone with placebo peers, where it also ran with those."""
    found = []
    means = dict(zip(ranked["method"], ranked["mean"], strict=True))
    for control in (method for method in means if method.endswith(PLACEBO)):
        method = control.removesuffix(PLACEBO)
        row = _pair(comparison.pairs, block, method, control)
        if row is not None:
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
