"""``fedkt clean``: free the disk of what finished runs do not need."""

from pathlib import Path
from typing import Annotated

import typer


def clean(
    folder: Annotated[
        Path, typer.Argument(help="A run's folder, a comparison's, or one with several.", metavar="DIR")
    ] = Path("runs"),
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it, instead of only saying what would go.")
    ] = False,
) -> None:
    """Remove finished runs' models; figures and reports stay.

    Goes: the checkpoint of each finished run, without which it can neither be exported from nor continued,
    and runs of which no round was finished. Stays: figures, reports, unfinished runs, privacy ledgers.
    """
    from fedkt.engine.runs.leftovers import leftovers, remove
    from fedkt.results.result import size_text

    found, kept = leftovers(folder)
    for leftover in found:
        typer.echo(f"{size_text(leftover.size):>9}  {leftover.path} ({leftover.why})")
    for sentence in kept:
        typer.echo(f"     kept  {sentence}")
    total = size_text(sum(leftover.size for leftover in found))
    if not found:
        typer.echo("there is nothing to remove.")
    elif yes:
        remove(found)
        typer.echo(f"{total} removed.")
    else:
        typer.echo(f"{total} would go; --yes removes it.")
