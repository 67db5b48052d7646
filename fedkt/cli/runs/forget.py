"""``fedkt forget``: a run again without one client."""

from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.runs.options import DataDir, Quiet, RunFolder


def forget(
    run_folder: RunFolder,
    client: Annotated[str, typer.Option(help="Which client has withdrawn.")],
    out: Annotated[
        Path | None, typer.Option(help="The new run's folder [default: RUN-without-CLIENT].")
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
) -> None:
    """Run a run again without one client, from before it took part: exactly as if it never had."""
    from fedkt.engine.runs.withdrawal import forget as run_again
    from fedkt.results.progress import Progress, closing_table

    progress = None if quiet else Progress()
    try:
        result, start = run_again(run_folder, client, out=out, data_dir=data_dir, observer=progress)
    finally:
        if progress is not None:
            progress.close()
    if not quiet:
        closing_table(result)
    began = f"from the checkpoint of round {start}" if start else "from the beginning"
    typer.echo(
        f"{result.path} was run {began} without client {client}; {run_folder} still holds what it "
        "contributed: delete it."
    )
