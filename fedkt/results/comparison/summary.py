"""A comparison's figures as text: means with their intervals, differences in points, one row a method."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd


def spread(mean: float, low: float, high: float) -> str:
    """Return a mean in per cent with half the width of its interval; the mean alone without one."""
    if pd.isna(mean):
        return "–"
    return f"{100 * mean:.1f}" if pd.isna(low) else f"{100 * mean:.1f} ± {50 * (high - low):.1f}"


def points(difference: float, low: float, high: float) -> str:
    """Return a difference in points with its sign."""
    if pd.isna(difference):
        return "–"
    text = f"{100 * difference:+.1f}".replace("-", "−")
    text = "0.0" if text in ("+0.0", "−0.0") else text
    return text if pd.isna(low) else f"{text} ± {50 * (high - low):.1f}"


def number(value: float, form: str = ".2f") -> str:
    """Return a number, or a dash for none."""
    return "–" if pd.isna(value) else f"{value:{form}}"


def told_apart_by(table: pd.DataFrame) -> list[str]:
    """Return the columns that tell rows apart: only those that differ."""
    return [key for key in ("scenario", "condition") if table[key].nunique() > 1] + ["method"]


def summary_rows(
    table: pd.DataFrame, settings: Mapping[str, Any], title: str = "accuracy"
) -> list[list[str]]:
    """Return the summary as text: the headings, then one row per scenario, condition and method.

    ``table``: a comparison's statistics; ``settings``: its metric and baseline;
    ``title``: what its figures are called.
    """
    named, metric, baseline = told_apart_by(table), settings["metric"], settings["baseline"]
    columns: dict[str, Callable[[pd.Series], str]] = {
        f"{metric} {title} in %": lambda row: spread(row["mean"], row["low"], row["high"]),
        f"to {baseline}": lambda row: points(
            row["difference"], row["low_difference"], row["high_difference"]
        ),
        "q": lambda row: number(row["q"], ".3f"),
        "clients worse off in %": lambda row: number(100 * row["worse"], ".0f"),
        "worst tenth in %": lambda row: number(100 * row["worst"], ".1f"),
        "MB per client": lambda row: number(row["megabytes"], ".3f"),
        "rank": lambda row: number(row["rank"], ".1f"),
        "seeds": lambda row: str(row["seeds"]),
    }
    body = [
        [*(str(row[key]) for key in named), *(text(row) for text in columns.values())]
        for _, row in table.iterrows()
    ]
    return [[*named, *columns], *body]
