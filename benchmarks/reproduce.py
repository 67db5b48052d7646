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
    group_effect       true: also the Group Effect, mean over the rounds in which it was measured
    decode             cifar10: data made from a mirror's file first (benchmarks/cifar10.py)

``published`` and ``spread`` are in percent, null where the source has no figure for the row.
"""

import argparse
import fnmatch
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import fedkt
from benchmarks import cifar10
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
    decode: str | None = None


@dataclass
class Measured:
    """A row's accuracies and Group Effects by seed, in percent, and the seconds of its rounds."""

    values: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    error: str = ""
    effects: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A published table: its rows, and what stands above them."""

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    group_effect: bool = False


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
    effect = described.get("group_effect", False)
    return Table(path.stem, described["title"], described["source"], rows, effect)


def measure(row: Row, folder: Path) -> Iterator[Result]:
    """Yield the run of each seed; what is finished is read, the rest is run first."""
    data_dir = None
    if row.decode == "cifar10":
        data_dir = cifar10.decoded(Path(os.environ.get("FEDKT_DATA", "data")), folder.parents[1] / "data")
    for seed in row.seeds:
        out = folder / str(seed)
        if not (out / "summary.json").exists():
            overrides = ["engine.kind=inline", *row.overrides, f"seed={seed}"]
            again = (out / "environment.json").exists()
            fedkt.simulate(row.scenario, overrides, out=out, resume=again, data_dir=data_dir)
        yield Result.read(out)


def run(row: Row, folder: Path) -> Measured:
    """Measure a row; an error is noted instead of raised, so that the other rows are still run."""
    found = Measured()
    try:
        for result in measure(row, folder):
            found.values.append(100 * result.summary["accuracy"][row.metric])
            found.wall_s += result.summary["time"]["wall_s"]
            effects = result.rounds["group_effect"].dropna().astype(float)
            if len(effects):
                found.effects.append(100 * effects.mean())
    except Exception as error:
        found.error = " ".join(f"{type(error).__name__}: {error}".split())
    return found


def spread_text(mean: float, spread: float | None) -> str:
    """Return a figure and its spread in percent."""
    return f"{mean:.2f}" if spread is None else f"{mean:.2f} ± {spread:.2f}"


def mean_text(values: Sequence[float]) -> str:
    """Return mean ± sample deviation of figures in percent, nothing of none."""
    if not values:
        return ""
    return spread_text(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def cells(row: Row, found: Measured | None, group_effect: bool) -> list[str]:
    """Return a row's cells after its name."""
    published = "–" if row.published is None else spread_text(row.published, row.spread)
    if found is None or not found.values:
        missing = found.error if found and found.error else "not run"
        return [published, missing, "", *[""] * group_effect, ""]
    apart = None if row.published is None else statistics.fmean(found.values) - row.published
    difference = "" if apart is None else f"{apart:+.2f}" + (" (far)" if abs(apart) > FAR else "")
    effect = [mean_text(found.effects)] * group_effect
    return [
        published,
        mean_text(found.values),
        difference,
        *effect,
        f"{found.wall_s / len(found.values):.0f} s",
    ]


def markdown(table: Table, measured: Mapping[str, Measured]) -> str:
    """Return a table: published and measured figures (mean ± sample deviation over seeds), time per run."""
    columns = ["row", "published", "measured", "difference", *["Group Effect"] * table.group_effect]
    columns += ["time per run"]
    lines = [
        f"### {table.title}",
        "",
        f"{table.source}. Run again: `make reproduce ARGS={table.name}`.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
    ]
    for row in table.rows:
        told = [row.name, *cells(row, measured.get(row.name), table.group_effect)]
        lines.append("| " + " | ".join(told) + " |")
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
