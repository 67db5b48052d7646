"""A comparison's figures as text: means with their intervals, differences in points, one row a method."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from fedkt.tasks import CLASSIFICATION, Figure

ACCURACY: Figure = CLASSIFICATION.metric


def spread(mean: float, low: float, high: float, figure: Figure = ACCURACY) -> str:
    """Return a mean, of a share in per cent, with half the width of its interval; alone without one."""
    if pd.isna(mean):
        return "–"
    return figure.number(mean) + _half(low, high, figure)


def points(difference: float, low: float, high: float, figure: Figure = ACCURACY) -> str:
    """Return a gain, of a share in points, with its sign."""
    if pd.isna(difference):
        return "–"
    size = figure.number(abs(difference), 3)
    sign = "" if float(size) == 0 else "+" if difference > 0 else "−"
    return sign + size + _half(low, high, figure)


def _half(low: float, high: float, figure: Figure) -> str:
    return "" if pd.isna(low) else f" ± {figure.number(round((high - low) / 2, 9), 2)}"


def number(value: float, form: str = ".2f") -> str:
    """Return a number, or a dash for none."""
    return "–" if pd.isna(value) else f"{value:{form}}"


def told_apart_by(table: pd.DataFrame) -> list[str]:
    """Return the columns that tell rows apart: only those that differ."""
    return [key for key in ("scenario", "condition") if table[key].nunique() > 1] + ["method"]


def summary_rows(
    table: pd.DataFrame, settings: Mapping[str, Any], figure: Figure = ACCURACY
) -> list[list[str]]:
    """Return the summary as text: the headings, then one row per scenario, condition and method.

    ``table``: a comparison's statistics; ``settings``: its metric and baseline;
    ``figure``: what its figures are of. Differences are gains, also where less is better.
    """
    named, metric, baseline = told_apart_by(table), settings["metric"], settings["baseline"]
    per_cent, to = " in %" if figure.share else "", "to" if figure.higher_is_better else "gain over"
    columns: dict[str, Callable[[pd.Series], str]] = {
        f"{metric} {figure.title}{per_cent}": lambda row: spread(
            row["mean"], row["low"], row["high"], figure
        ),
        f"{to} {baseline}": lambda row: points(
            row["difference"], row["low_difference"], row["high_difference"], figure
        ),
        "q": lambda row: number(row["q"], ".3f"),
        "clients worse off in %": lambda row: number(100 * row["worse"], ".0f"),
        f"worst tenth{per_cent}": lambda row: spread(row["worst"], math.nan, math.nan, figure),
        "MB per client": lambda row: number(row["megabytes"], ".3f"),
        "rank": lambda row: number(row["rank"], ".1f"),
        "seeds": lambda row: str(row["seeds"]),
    }
    body = [
        [*(str(row[key]) for key in named), *(text(row) for text in columns.values())]
        for _, row in table.iterrows()
    ]
    return [[*named, *columns], *body]
