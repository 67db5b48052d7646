"""A comparison as tables: CSV with every figure, Markdown and LaTeX to paste, and what the terminal shows."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedkt.files import write_atomic
from fedkt.results.comparison.frames import Comparison
from fedkt.results.comparison.summary import summary_rows, told_apart_by

FOLDER = "tables"
MAY_LACK = ("tuning", "domains")
"""Frames that are written only where they hold something."""
_MARKUP = re.compile(r"[\\|*`<$]")
"""What Markdown would take for more than a sign of a name."""
WIDE = 160
"""Columns of what does not go to a terminal."""


def write_tables(comparison: Comparison) -> Path:
    """Write every frame as CSV and the summary as Markdown and LaTeX; return the folder."""
    folder = comparison.path / FOLDER
    frames = {"statistics": comparison.statistics, "pairs": comparison.pairs, "declines": comparison.declines}
    frames |= {"runs": comparison.runs, "rounds": comparison.rounds}
    frames |= {"tuning": comparison.tuning, "domains": comparison.domains}
    frames = {name: frame for name, frame in frames.items() if name not in MAY_LACK or not frame.empty}
    for name, frame in frames.items():
        write_atomic(folder / f"{name}.csv", frame.to_csv(index=False).encode())
    head, *rows = summary_rows(comparison.statistics, comparison.settings, comparison.metric)
    lines = [_markdown(head), "|" + "---|" * len(head), *map(_markdown, rows)]
    write_atomic(folder / "summary.md", ("\n".join(lines) + "\n").encode())
    write_atomic(
        folder / "summary.tex",
        _latex(summary_rows(comparison.statistics, comparison.settings, comparison.metric)).encode(),
    )
    return folder


def print_summary(comparison: Comparison, page: Path, console: Console | None = None) -> None:
    """Print the summary table and where the report is."""
    to = console or Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
    head, *rows = summary_rows(comparison.statistics, comparison.settings, comparison.metric)
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(
            Text(name), justify="left" if place < len(told_apart_by(comparison.statistics)) else "right"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    to.print(table)
    to.print(Text(f"report: {page}"), soft_wrap=True)


def _markdown(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_MARKUP.sub(r"\\\g<0>", cell) for cell in cells) + " |"


def _latex(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of LaTeX's ``tabular``, for the package booktabs."""
    head, *body = rows
    signs = {"±": r"$\pm$", "−": "$-$", "–": "--", "α": r"$\alpha$"}
    signs |= {sign: rf"\{sign}" for sign in "_&#%${}"}
    signs |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(signs.get(sign, sign) for sign in cell) for cell in cells) + r" \\"

    columns = "".join("l" if i == 0 or not body or _is_text(body[0][i]) else "r" for i in range(len(head)))
    inner = "\n".join([line(head), r"\midrule", *map(line, body)])
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{inner}\n\\bottomrule\n\\end{{tabular}}\n"


def _is_text(cell: str) -> bool:
    return cell[:1].isalpha()
