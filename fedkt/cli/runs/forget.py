"""``fedkt forget``: a run, or one client's model, without something that was learned; and how well it is
gone."""

from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.runs.options import DataDir, Quiet, RunFolder
from fedkt.errors import InputError


def forget(
    run_folder: RunFolder,
    client: Annotated[
        str | None,
        typer.Option(
            help="Who has withdrawn, or whose rows or class it is [default: everybody, with --class]."
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(help="A file with the numbers of the rows to forget, one per line.", metavar="FILE"),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--class", help="The class to forget, its number or name.", metavar="C")
    ] = None,
    how: Annotated[
        str,
        typer.Option(
            help="replay: all again, exact; own: the client's run again among recorded contributions; fresh: "
            "a new model."
        ),
    ] = "replay",
    judge: Annotated[
        bool, typer.Option("--judge", help="Compare with two replays, and see whether it comes back.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The new run's folder [default: RUN-without-CLIENT, -class-C or -rows]."),
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
) -> None:
    """Make a run forget a client, rows of it, or a class, and say what still holds them."""
    from fedkt.engine.forgetting.judge import judged
    from fedkt.engine.forgetting.told import PAGE, tell
    from fedkt.engine.forgetting.withdrawal import forget as make_forget
    from fedkt.results.progress import Progress, closing_table

    if how not in ("replay", "own", "fresh"):
        raise InputError(f"--how is {how!r}; it must be replay, own or fresh.")
    progress = None if quiet else Progress()
    try:
        done = make_forget(
            run_folder,
            client,
            rows=rows,
            label=label,
            how=how,  # type: ignore[arg-type]
            judge=judge,
            out=out,
            data_dir=data_dir,
            observer=progress,
        )
        verdict = judged(run_folder, done, data_dir=data_dir) if judge else None
    finally:
        if progress is not None:
            progress.close()
    told = tell(run_folder, done, verdict)
    folder = done.result.path
    if not quiet:
        closing_table(done.result)
    if judge and not quiet:
        typer.echo((folder / PAGE).read_text().partition("## How well it is forgotten\n\n")[2])
    began = f"from the checkpoint of round {done.start}" if done.start else "from the beginning"
    what = "" if how == "replay" else f", of which {done.words} was made to forget ({how})"
    made = f"was run {began} without {done.words}" if how == "replay" else f"goes on from round {done.start}"
    typer.echo(
        f"{folder} {made}{what}; {run_folder} still holds what was contributed: delete it. "
        f"{folder / PAGE} says what else does ({len(told['still_held'])} places)."
    )
