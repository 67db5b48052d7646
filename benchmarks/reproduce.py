"""Published figures beside measured ones: every table of benchmarks/published, row by row.

    FEDKT_DATA=... python -m benchmarks.reproduce [TABLE/ROW]... [--nightly] [--seeds 0 1 2] [--out DIR]

``TABLE/ROW`` may be a pattern (``fedproto*``); without any, all rows are run. A run that finished is not run
again, one that was interrupted is continued. After each row its table is written to ``OUT/TABLE.md``.
Exit status: 0 done, 3 if a row failed (the others are run all the same).

A table is one YAML file:

    title, source      what is reproduced, and where it was published
    scenario           a bundled scenario's name or a path
    metric             a key of the summary's accuracy (default personal_mean); a row may have its own
    seeds              default [0, 1, 2]
    set                overrides of every row, as after --set
    nightly            {set: [...], seeds: [...]}: what makes every row short; a table without it is left out
    rows               {name: {set: [...], published: 97.13, spread: 0.30, metric: ...}}

``published`` and ``spread`` are in percent, null where the source has no figure for the row.
"""

import argparse
import fnmatch
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import fedkt
from fedkt.results.result import Result

TABLES = Path(__file__).parent / "published"
FAR = 2.0
"""A difference of more points than this is marked: docs/results.md says why."""


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


@dataclass
class Measured:
    """A row's accuracies by seed, in percent, and the seconds of its rounds."""

    values: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Table:
    """A published table: its rows, and what stands above them."""

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]


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
        )
        for name, row in described["rows"].items()
    )
    return Table(path.stem, described["title"], described["source"], rows)


def measure(row: Row, folder: Path) -> Iterator[tuple[float, float]]:
    """Yield accuracy (percent) and seconds of each seed; what is finished is read, the rest is run first."""
    for seed in row.seeds:
        out = folder / str(seed)
        if not (out / "summary.json").exists():
            overrides = ["engine.kind=inline", *row.overrides, f"seed={seed}"]
            fedkt.simulate(row.scenario, overrides, out=out, resume=(out / "environment.json").exists())
        summary = Result.read(out).summary
        yield 100 * summary["accuracy"][row.metric], summary["time"]["wall_s"]


def run(row: Row, folder: Path) -> Measured:
    """Measure a row; an error is noted instead of raised, so that the other rows are still run."""
    found = Measured()
    try:
        for value, seconds in measure(row, folder):
            found.values.append(value)
            found.wall_s += seconds
    except Exception as error:
        found.error = " ".join(f"{type(error).__name__}: {error}".split())
    return found


def spread_text(mean: float, spread: float | None) -> str:
    """Return a figure and its spread in percent."""
    return f"{mean:.2f}" if spread is None else f"{mean:.2f} ± {spread:.2f}"


def markdown(table: Table, measured: Mapping[str, Measured]) -> str:
    """Return a table: published and measured figures (mean ± sample deviation over seeds), time per run."""
    lines = [
        f"### {table.title}",
        "",
        f"{table.source}. Run again: `make reproduce ARGS={table.name}`.",
        "",
        "| row | published | measured | difference | time per run |",
        "|---|---|---|---|---|",
    ]
    for row in table.rows:
        published = "–" if row.published is None else spread_text(row.published, row.spread)
        found = measured.get(row.name)
        if found is None or not found.values:
            cells = [found.error if found and found.error else "not run", "", ""]
        else:
            mean = statistics.fmean(found.values)
            several = len(found.values) > 1
            cells = [spread_text(mean, statistics.stdev(found.values) if several else None)]
            apart = None if row.published is None else mean - row.published
            cells.append("" if apart is None else f"{apart:+.2f}" + (" (far)" if abs(apart) > FAR else ""))
            cells.append(f"{found.wall_s / len(found.values):.0f} s")
        lines.append("| " + " | ".join([row.name, published, *cells]) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing of the rows asked for and print their tables."""
    parser = argparse.ArgumentParser(description="Run published tables again; see the module's docstring.")
    parser.add_argument("rows", nargs="*", metavar="TABLE/ROW", help="pattern; TABLE alone is all its rows")
    parser.add_argument(
        "--nightly", action="store_true", help="one seed and few rounds: is it still alright?"
    )
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--out", type=Path, default=None, help="default: runs/reproduce or runs/nightly")
    given = parser.parse_args(arguments)
    out: Path = given.out or Path("runs") / ("nightly" if given.nightly else "reproduce")
    wanted = [pattern if "/" in pattern else f"{pattern}/*" for pattern in given.rows] or ["*"]
    begun, failed, chosen = time.monotonic(), 0, 0
    for path in sorted(TABLES.glob("*.yaml")):
        table = read(path, given.nightly, given.seeds)
        if table is None:
            continue
        measured: dict[str, Measured] = {}
        for row in table.rows:
            name = f"{table.name}/{row.name}"
            if not any(fnmatch.fnmatch(name, pattern) for pattern in wanted):
                continue
            chosen += 1
            measured[row.name] = run(row, out / table.name / row.name)
            failed += bool(measured[row.name].error)
            print(f"{time.monotonic() - begun:7.0f} s  {name}: {line(measured[row.name])}", flush=True)
            (out / f"{table.name}.md").write_text(markdown(table, measured), encoding="utf-8")
        if measured:
            print("\n" + markdown(table, measured), flush=True)
    if not chosen:
        print(f"no row matches {', '.join(wanted)}; tables are in {TABLES}.", file=sys.stderr)
        return 2
    return 3 if failed else 0


def line(found: Measured) -> str:
    """Return a row's figures in one line."""
    values = " ".join(f"{value:.2f}" for value in found.values)
    return f"{values} {found.error}".strip()


if __name__ == "__main__":
    sys.exit(main())
