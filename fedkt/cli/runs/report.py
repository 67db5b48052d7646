"""``fedkt report``: the report of a run or a comparison, anew."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="A comparison's folder, or a run's.", metavar="DIR")],
    baseline: Annotated[
        str | None, typer.Option(help="What the others are compared with [default: as compared].")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="personal or global accuracy.")] = None,
    target: Annotated[float | None, typer.Option(help="Accuracy, or other leading figure, to reach.")] = None,
) -> None:
    """Write report.html of a comparison or of a run anew, with its tables and pictures."""
    from fedkt.results.report import report_of

    typer.echo(report_of(folder, {"baseline": baseline, "metric": metric, "target": target}))
