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
from fedkt.tasks import Figure

SURE = 0.05
WORSE = 0.01
"""A fall of accuracy since the best round that is worth a sentence: a point."""
MOST_BLOCKS = 6
"""Scenarios and conditions about which there are sentences of their own."""


def about_comparison(comparison: Comparison) -> list[str]:
    """Return the summary: over all blocks first, then a sentence or three per block."""
    table, settings = comparison.statistics, comparison.settings
    figure = comparison.metric
    what = f"{settings['metric']} {figure.title}"
    lines = _over_all(table, what, figure)
    blocks = table.groupby(BLOCK, sort=False)
    if len(blocks) > MOST_BLOCKS:
        lines += _ranges(table, what, figure)
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
    accuracy, figure = measured_in(summary), metric_of(summary)
    title = figure.title
    known = [
        (name, accuracy.get(f"{name}_mean"), accuracy.get(f"{name}_std")) for name in ("personal", "global")
    ]
    reached = [
        f"{figure.text(mean)} {name} {title} (± {figure.number(std or 0, 2)} between clients)"
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
        lines += _declined_of_run(measured, name, figure)
    if accuracy.get("server") is not None:
        lines.append(f"The server's own model reached {figure.text(accuracy['server'])}.")
    sent = summary["bytes"]["up"] + summary["bytes"]["down"]
    if sent and summary["strategy"] != UPPER_BOUND:
        each = size_text(sent / max(1, summary["clients"]))
        lines.append(f"On average a client sent and received {each} of knowledge in all.")
    lines.append(
        "This is one run with one seed, so nothing is said here about chance; fedkt compare does that."
    )
    return lines


def _declined_of_run(measured: Measured, metric: str, figure: Figure) -> list[str]:
    """Say whether a run's clients ended worse than they once were, on average."""
    honest = [k for k, name in enumerate(measured.clients) if name not in measured.hostile]
    values = measured.values[metric][:, honest].astype(float)
    values = values[:, ~np.isnan(values).any(axis=0)]
    if not values.size:
        return []
    best = int((figure.sign * values.mean(axis=1)).argmax())
    lost = figure.gain(values[-1], values[best])
    low, high = interval(lost)
    if not _is_worse(lost.mean(), high, values[best].mean(), figure):
        return []
    return [
        f"It got worse after round {measured.rounds[best]}: {metric} {figure.title} was "
        f"{figure.text(values[best].mean())} there and is {figure.text(values[-1].mean())} after round "
        f"{measured.rounds[-1]} ({_gained(lost.mean(), low, high, figure)}, 95 % interval over clients); "
        "fewer rounds gave more."
    ]


def _over_all(table: pd.DataFrame, metric: str, figure: Figure) -> list[str]:
    found = critical_difference(table, figure)
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


def _ranges(table: pd.DataFrame, metric: str, figure: Figure) -> list[str]:
    """Say between what each method lies over the conditions of a scenario."""
    lines = []
    for (scenario, method), group in table.groupby(["scenario", "method"], sort=False):
        known = group.dropna(subset=["mean"]).sort_values("mean", ascending=figure.higher_is_better)
        if known.empty:
            continue
        worst, best = known.iloc[0], known.iloc[-1]
        text = f"On {scenario}, {method} reached {figure.text(best['mean'])} {metric}"
        if worst["mean"] != best["mean"]:
            text += f" with {best['condition']}, and {figure.text(worst['mean'])} with {worst['condition']}"
        lines.append(text + ".")
    return lines


def _about_block(
    comparison: Comparison, block: tuple[str, str], group: pd.DataFrame, metric: str, baseline: str
) -> str:
    where, figure = " with ".join(part for part in block if part), comparison.metric
    ranked = (
        group[group["strategy"] != UPPER_BOUND]
        .dropna(subset=["mean"])
        .sort_values("mean", ascending=not figure.higher_is_better)
    )
    if ranked.empty:
        return f"On {where}, no {figure.title} was measured."
    best, seeds = ranked.iloc[0], int(ranked.iloc[0]["seeds"])
    first = (
        f"On {where}, {best['method']} reached the {'highest' if figure.higher_is_better else 'lowest'} "
        f"{metric} {figure.title}, {spread(best['mean'], best['low'], best['high'], figure)}{figure.unit}"
        + (f" (95 % interval over {seeds} seeds)" if seeds > 1 else " (one seed: no interval, no test)")
    )
    second = ranked.iloc[1]["method"] if len(ranked) > 1 else None
    if second is not None:
        first += f", {_ahead(comparison, block, best['method'], second)} the runner-up, {second}"
    lines = [f"{first}{_sure(comparison.pairs, block, best['method'], second)}."]
    if best["method"] == baseline:
        lines.append(f"No strategy did better than {baseline}.")
    elif second != baseline and not math.isnan(best["difference"]):
        told = _gained(best["difference"], best["low_difference"], best["high_difference"], figure)
        lines.append(f"Against {baseline} that is {told}{_chance(best['q'], seeds)}.")
    lines += _knowledge(comparison, block, ranked)
    if best["method"] != "local" and not math.isnan(best["worse"]):
        lines.append(f"{_share(best['worse'])} end worse off than training alone.")
    fallen = comparison.declines
    what = f"{metric} {figure.title}"
    lines += _declined(fallen[(fallen[BLOCK] == list(block)).all(axis=1)], what, figure)
    bound = group[group["strategy"] == UPPER_BOUND]
    if len(bound) and not math.isnan(bound.iloc[0]["mean"]):
        lines.append(f"Pooling all data would give {figure.text(bound.iloc[0]['mean'])}.")
    return " ".join(lines)


def _pair(pairs: pd.DataFrame, block: tuple[str, str], one: str, other: str) -> dict[str, Any] | None:
    """Return the paired difference of two methods on a block, the first one's ahead."""
    here = pairs[(pairs[BLOCK] == list(block)).all(axis=1) & pairs["method"].isin([one, other])]
    found = here[here["against"].isin([one, other])].to_dict("records")
    if not found or found[0]["method"] == one:
        return found[0] if found else None
    row = found[0]
    return {**row, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}


def _ahead(comparison: Comparison, block: tuple[str, str], best: str, second: str) -> str:
    row = _pair(comparison.pairs, block, best, second)
    if row is None or math.isnan(row["difference"]):
        return "ahead of"
    return f"{_gained(row['difference'], row['low'], row['high'], comparison.metric)} against"


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


def _declined(table: pd.DataFrame, metric: str, figure: Figure) -> list[str]:
    """Say which methods ended worse than they once were, of one block's :func:`decline`."""
    worse = table[_is_worse(table["fall"], table["high"], table["at_best"], figure)].sort_values("fall")
    found = [
        f"{row['method']} after round {row['best']} ({figure.text(row['at_best'])} there, "
        f"{_gained(row['fall'], row['low'], row['high'], figure)} since)"
        for row in worse.to_dict("records")
    ]
    if not found:
        return []
    return [f"In {metric} it got worse after its best round: {_and(found)}; fewer rounds gave more."]


def _gained(difference: float, low: float, high: float, figure: Figure) -> str:
    return points(difference, low, high, figure) + figure.unit_of_gain


def _is_worse(fall: Any, high: Any, best: Any, figure: Figure) -> Any:
    """Say whether a fall is a point at least (of what is no share, a hundredth of the ``best``) and, where
    there is an interval, no chance of the seeds."""
    least = WORSE if figure.share else WORSE * abs(best)
    return (fall <= -least) & ((high < 0) | (high != high))


def _knowledge(comparison: Comparison, block: tuple[str, str], ranked: pd.DataFrame) -> list[str]:
    """Say what of each method's accuracy is gone with placebo peers, where it also ran with those."""
    found = []
    means = dict(zip(ranked["method"], ranked["mean"], strict=True))
    for control in (method for method in means if method.endswith(PLACEBO)):
        method = control.removesuffix(PLACEBO)
        row = _pair(comparison.pairs, block, method, control)
        if row is not None:
            figure = comparison.metric
            told = _gained(row["difference"], row["low"], row["high"], figure)
            text = f"With peers who answer to other rows {method} reaches {figure.text(means[control])}"
            found.append(f"{text}: what its peers know of a row is worth {told}.")
    return found


def _share(worse: float) -> str:
    if worse == 0:
        return "No clients"
    return f"{100 * worse:.0f} % of the clients"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
