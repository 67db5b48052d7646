"""A comparison as tables: CSV with every figure, Markdown and LaTeX to paste, and what the terminal shows."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedkt.files import write_atomic
from fedkt.results.comparison import Comparison

FOLDER = "tables"
WIDE = 160
"""Columns of what does not go to a terminal."""


def write_tables(comparison: Comparison) -> Path:
    """Write every frame as CSV and the summary as Markdown and LaTeX; return the folder."""
    folder = comparison.path / FOLDER
    frames = {"statistics": comparison.statistics, "runs": comparison.runs, "rounds": comparison.rounds}
    if not comparison.tuning.empty:
        frames["tuning"] = comparison.tuning
    for name, frame in frames.items():
        write_atomic(folder / f"{name}.csv", frame.to_csv(index=False).encode())
    head, *rows = summary_rows(comparison)
    lines = [_markdown(head), "|" + "---|" * len(head), *map(_markdown, rows)]
    write_atomic(folder / "summary.md", ("\n".join(lines) + "\n").encode())
    write_atomic(folder / "summary.tex", _latex(summary_rows(comparison, per_cent=r"\%")).encode())
    return folder


def print_summary(comparison: Comparison, page: Path, console: Console | None = None) -> None:
    """Print the summary table and where the report is."""
    to = console or Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    head, *rows = summary_rows(comparison)
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place < len(_named(comparison)) else "right")
    for row in rows:
        table.add_row(*map(Text, row))
    to.print(table)
    to.print(f"report: {page}", soft_wrap=True)


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


def _named(comparison: Comparison) -> list[str]:
    """Return the columns that tell rows apart: only those that differ."""
    table = comparison.statistics
    return [key for key in ("scenario", "condition") if table[key].nunique() > 1] + ["method"]


def summary_rows(comparison: Comparison, per_cent: str = "%") -> list[list[str]]:
    """Return the summary as text: the headings, then one row per scenario, condition and method."""
    table, named = comparison.statistics, _named(comparison)
    metric, baseline = comparison.settings["metric"], comparison.settings["baseline"]
    columns: dict[str, Callable[[pd.Series], str]] = {
        f"{metric} accuracy in {per_cent}": lambda row: spread(row["mean"], row["low"], row["high"]),
        f"to {baseline}": lambda row: points(
            row["difference"], row["low_difference"], row["high_difference"]
        ),
        "q": lambda row: number(row["q"], ".3f"),
        f"clients worse off in {per_cent}": lambda row: number(100 * row["worse"], ".0f"),
        f"worst tenth in {per_cent}": lambda row: number(100 * row["worst"], ".1f"),
        "MB per client": lambda row: number(row["megabytes"], ".3f"),
        "rank": lambda row: number(row["rank"], ".1f"),
        "seeds": lambda row: str(row["seeds"]),
    }
    body = [
        [*(str(row[key]) for key in named), *(text(row) for text in columns.values())]
        for _, row in table.iterrows()
    ]
    return [[*named, *columns], *body]


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _latex(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of LaTeX's ``tabular``, for the package booktabs."""
    head, *body = rows
    signs = {"_": r"\_", "±": r"$\pm$", "−": "$-$", "–": "--", "&": r"\&", "#": r"\#", "α": r"$\alpha$"}

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(signs.get(sign, sign) for sign in cell) for cell in cells) + r" \\"

    columns = "".join("l" if i == 0 or not body or _is_text(body[0][i]) else "r" for i in range(len(head)))
    inner = "\n".join([line(head), r"\midrule", *map(line, body)])
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{inner}\n\\bottomrule\n\\end{{tabular}}\n"


def _is_text(cell: str) -> bool:
    return cell[:1].isalpha()
