"""Published figures beside measured ones: every table of benchmarks/published, row by row.

    FEDKT_DATA=... python -m benchmarks.reproduce [TABLE/ROW]... [--nightly] [--seeds 0 1 2] [--out DIR]

``TABLE/ROW`` may be a pattern (``fedproto*``); without any, all rows are run. A run that finished is not run
again, one that was interrupted is continued. After each row its table is written to ``OUT/TABLE.md``. Once
all rows of a table were measured, with the table's own seeds, its page ``docs/results/TABLE.md`` gets it too;
so no page is half old and half new, and ``git diff docs/results`` shows what came out differently here.
Exit status: 0 done, 3 if a row failed (the others are run all the same).

What stands in a table's file: benchmarks/tables.py.
"""

import argparse
import fnmatch
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import fedkt
from benchmarks import cifar10
from benchmarks.tables import Measured, Row, markdown, put, read
from fedkt.results.result import Result

TABLES = Path(__file__).parent / "published"
PAGES = Path(__file__).parents[1] / "docs" / "results"


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
            # What a table sets for all its rows, the strategy of one may make nothing of.
            described = fedkt.scenario.load(row.scenario, overrides, several=True)
            fedkt.simulate(described, out=out, resume=again, data_dir=data_dir)
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
        whole = len(measured) == len(table.rows) and not any(found.error for found in measured.values())
        if whole and table == read(path, False, None):
            put(PAGES / path.with_suffix(".md").name, table, measured)
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
