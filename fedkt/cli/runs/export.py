"""``fedkt export``: one client's model out of a run."""

from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.runs.options import DataDir, RunFolder


def export(
    run_folder: RunFolder,
    client: Annotated[str, typer.Option(help="Which client.")],
    out: Annotated[Path, typer.Option(help="Where to write the model.")],
    round_: Annotated[
        str,
        typer.Option(
            "--round",
            help="last, best (on validation rows), or the number of one that was kept.",
        ),
    ] = "last",
    shared: Annotated[
        bool, typer.Option("--shared", help="What learned from others, also where a copy is trusted more.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Write one client's model as safetensors with a description; fedkt.load_model reads it."""
    from fedkt.results.export import export as write

    typer.echo(write(run_folder, client, out, round_, shared=shared, data_dir=data_dir))
