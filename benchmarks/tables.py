"""What a file of benchmarks/published says, and how its rows are written beside what was measured.

A table is one YAML file:

    title, source      what is reproduced, and where it was published
    scenario           a bundled scenario's name or a path
    metric             a key of the summary's accuracy (default personal_mean); a row may have its own
    seeds              default [0, 1, 2]
    set                overrides of every row, as after --set
    nightly            {set: [...], seeds: [...]}: what makes every row short; a table without it is left out
    rows               {name: {set: [...], published: 97.13, spread: 0.30, metric: ...}}
    group_effect       true: also the Group Effect, mean over the rounds in which it was measured
    decode             cifar10: data made from a mirror's file first (benchmarks/cifar10.py)

and, of its page in docs/results alone:

    decimals           of what was measured, default 1
    order              true: at another budget than the source's the order counts, so no difference is given
    grid               rows are named LINE-COLUMN and make a grid instead of a list:
                       {lines: what stands above the lines' names,
                        gain: [fedka, local], a last column with the first one's gain over the second,
                        mean: true, a last line with the mean over lines, and one with that of the Group
                        Effect, which has a grid of its own otherwise}

``published`` and ``spread`` are in percent, left out where the source has no figure for the row.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FAR = 2.0
"""A difference of more points than this is marked: the table's page in docs/results says why."""

BEGIN = "<!-- `make reproduce` writes what follows, up to the mark below -->"
END = "<!-- up to here -->"


@dataclass(frozen=True)
class Row:
    """One published figure: what is run, and which figure of the summary stands beside it (percent)."""

    name: str
    scenario: str
    overrides: tuple[str, ...]
    metric: str
    seeds: tuple[int, ...]
    published: float | None = None
    spread: float | None = None
    decode: str | None = None


@dataclass
class Measured:
    """A row's accuracies and Group Effects by seed, in percent, and the seconds of its rounds."""

    values: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    error: str = ""
    effects: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Grid:
    """How rows named LINE-COLUMN are laid out on a page; see the module's docstring."""

    lines: str
    gain: Sequence[str] = ()
    mean: bool = False


@dataclass(frozen=True)
class Table:
    """A published table: its rows, what stands above them, and how its page shows them."""

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    group_effect: bool = False
    decimals: int = 1
    order: bool = False
    grid: Grid | None = None


def read(path: Path, nightly: bool, seeds: Sequence[int] | None) -> Table | None:
    """Read a table's file; None for one that has no nightly size where that is asked for."""
    described: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    short: Mapping[str, Any] = described.get("nightly") or {}
    if nightly and not short:
        return None
    chosen = seeds or (short if nightly else described).get("seeds") or [0, 1, 2]
    more = short.get("set", []) if nightly else []
    rows = tuple(
        Row(
            name,
            described["scenario"],
            (*described.get("set", []), *row.get("set", []), *more),
            row.get("metric", described.get("metric", "personal_mean")),
            tuple(chosen),
            row.get("published"),
            row.get("spread"),
            described.get("decode"),
        )
        for name, row in described["rows"].items()
    )
    shown = {key: described[key] for key in ("group_effect", "decimals", "order") if key in described}
    grid = Grid(**described["grid"]) if "grid" in described else None
    return Table(path.stem, described["title"], described["source"], rows, grid=grid, **shown)


def mean_text(values: Sequence[float], decimals: int, sign: str = "") -> str:
    """Return mean ± sample deviation of figures in percent, the mean alone of one, nothing of none."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):{sign}.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{decimals}f}"


def published_text(row: Row) -> str:
    """Return a row's published figure and its spread, with as many decimals as the file has."""
    figures = [str(figure) for figure in (row.published, row.spread) if figure is not None]
    decimals = max((len(figure.partition(".")[2]) for figure in figures), default=0)
    return " ± ".join(f"{float(figure):.{decimals}f}" for figure in figures) or "–"


def difference_text(row: Row, found: Measured, decimals: int) -> str:
    """Return what was measured less what was published, in points; nothing where either is missing."""
    if row.published is None or not found.values:
        return ""
    return f"{statistics.fmean(found.values) - row.published:+.{decimals}f}"


def pipes(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    told = ["| " + " | ".join(cells) + " |" for cells in (head, *lines)]
    return "\n".join([told[0], "|---" * len(head) + "|", *told[1:]]) + "\n"


def markdown(table: Table, measured: Mapping[str, Measured]) -> str:
    """Return a table as it grows: all figures to two decimals, errors, time per run."""
    head = ["row", "published", "measured", "difference", *["Group Effect"] * table.group_effect]
    lines = []
    for row in table.rows:
        found = measured.get(row.name, Measured())
        apart = difference_text(row, found, 2)
        lines.append(
            [
                row.name,
                published_text(row),
                mean_text(found.values, 2) or found.error or "not run",
                apart + " (far)" * (bool(apart) and abs(float(apart)) > FAR),
                *[mean_text(found.effects, 2)] * table.group_effect,
                f"{found.wall_s / len(found.values):.0f} s" if found.values else "",
            ]
        )
    return f"### {table.title}\n\n{table.source}. Run again: `make reproduce ARGS={table.name}`.\n\n" + pipes(
        [*head, "time per run"], lines
    )


def for_page(table: Table, measured: Mapping[str, Measured]) -> str:
    """Return a table as its page in docs/results shows it: a list of its rows, or its grid."""
    if table.grid is not None:
        return gridded(table, table.grid, measured)
    lines = []
    for row in table.rows:
        found = measured.get(row.name, Measured())
        figure = mean_text(found.values, table.decimals) or "not run"
        apart = [] if table.order else [difference_text(row, found, table.decimals)]
        lines.append([row.name, published_text(row), figure, *apart])
    return pipes(["row", "published", "measured", *["difference"] * (not table.order)], lines)


def gridded(table: Table, grid: Grid, measured: Mapping[str, Measured]) -> str:
    """Return a grid of accuracies with gains or means; the Group Effect is its last line or a second grid."""
    lines = list(dict.fromkeys(row.name.rpartition("-")[0] for row in table.rows))
    columns = list(dict.fromkeys(row.name.rpartition("-")[2] for row in table.rows))
    found = {row.name: measured.get(row.name, Measured()) for row in table.rows}
    values = {name: one.values for name, one in found.items()}
    effects = {name: one.effects for name, one in found.items()}

    def in_line(line: str, figures: Mapping[str, list[float]], without: str) -> list[str]:
        return [mean_text(figures[f"{line}-{column}"], table.decimals) or without for column in columns]

    def over_lines(figures: Mapping[str, list[float]], without: str) -> list[str]:
        by_column = [zip(*(figures[f"{line}-{column}"] for line in lines), strict=True) for column in columns]
        return [mean_text([*map(statistics.fmean, seeds)], table.decimals) or without for seeds in by_column]

    head, told = [grid.lines, *columns], [[line, *in_line(line, values, "not run")] for line in lines]
    if grid.gain:
        head = [*head, " - ".join(grid.gain)]
        for line in told:
            pairs = zip(*(values[f"{line[0]}-{column}"] for column in grid.gain), strict=True)
            line.append(mean_text([more - less for more, less in pairs], table.decimals, "+"))
    if grid.mean:
        told.append(["mean", *over_lines(values, "not run")])
    if grid.mean and table.group_effect:
        told.append(["Group Effect", *over_lines(effects, "–")])
    text = pipes(head, told)
    if table.group_effect and not grid.mean:
        of_lines = [[line, *in_line(line, effects, "–")] for line in lines]
        text += "\nGroup Effect:\n\n" + pipes([grid.lines, *columns], of_lines)
    return text


def put(path: Path, table: Table, measured: Mapping[str, Measured]) -> None:
    """Write a table between the marks of its page; a page that was not there begins with the table's title.

    Raises ValueError where a page lacks the marks.
    """
    page = f"# {table.title}\n\n{table.source}.\n\n{BEGIN}\n{END}\n"
    if path.exists():
        page = path.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(
            f"{path}: the lines {BEGIN!r} and {END!r} must stand around the table, in this order"
        )
    path.write_text(f"{before}{BEGIN}\n\n{for_page(table, measured)}\n{END}{after}", encoding="utf-8")
