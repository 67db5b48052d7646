"""``fedkt demo``: what fusing knowledge brings, in about a minute."""

from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.runs.options import Quiet

SCENARIO = "quickstart"


def demo(
    out: Annotated[
        Path | None, typer.Option(help="The folder of the three runs [default: runs/demo-<time>].")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train alone, together and on pooled data.

    Ten clients with 30 rows each and two architectures (scenario quickstart): three runs on the same rows and
    initial models, at the same time.
    """
    from fedkt.comparing.campaign import compare
    from fedkt.comparing.growing import Growing, closing
    from fedkt.comparing.request import read_request
    from fedkt.results.folder import unused_path
    from fedkt.results.report import write_report

    folder = out or unused_path("demo")
    done = compare(read_request([SCENARIO]), out=folder, jobs=3, watcher=None if quiet else Growing(folder))
    page = write_report(done)
    if not quiet:
        for sentence in closing(done, page):
            typer.echo(sentence)
