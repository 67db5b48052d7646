"""``fedkt submit``: run a scenario at real sites."""

from typing import Annotated

import typer

from fedkt.cli.runs.options import (
    Overrides,
    Quiet,
    Resume,
    RunOut,
    ScenarioArg,
    Seed,
    StrategyName,
    load_scenario,
)
from fedkt.errors import InputError


def submit(
    scenario: ScenarioArg,
    superlink: Annotated[str, typer.Option(help="A SuperLink that Flower's config.toml names.")],
    strategy: StrategyName = None,
    set_: Overrides = None,
    seed: Seed = None,
    sites: Annotated[
        int | None, typer.Option(help="Begin when so many have come [default: all in time].")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds for which sites are waited for.")] = 60.0,
    transfer: Annotated[
        str | None, typer.Option(help="SHA-256 of the transfer set [default: that of most sites].")
    ] = None,
    out: RunOut = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario at real sites; data are theirs, so data.partition is ignored."""
    resolved = load_scenario(scenario, set_, seed, None, strategy)
    if resume and out is None:
        raise InputError("--resume needs --out; name the folder of the run to continue.")
    from fedkt.deploy.coordinator.submission import submit as submit_run
    from fedkt.results.folder import unused_path
    from fedkt.results.progress import Progress, closing_table

    progress = None if quiet else Progress()
    try:
        result = submit_run(
            resolved,
            superlink,
            out=out or unused_path(resolved.name),
            resume=resume,
            sites=sites,
            wait_s=wait,
            transfer=transfer,
            observer=progress,
        )
    finally:
        if progress is not None:
            progress.close()
    if not quiet:
        closing_table(result)
