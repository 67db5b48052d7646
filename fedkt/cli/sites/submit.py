"""``fedkt submit``: run a scenario at real sites."""

from contextlib import closing, nullcontext
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
    needs_out,
)


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
    needs_out(resume, out, "run")
    from fedkt.deploy.coordinator.submission import submit as submit_run
    from fedkt.results.folder import unused_path
    from fedkt.results.progress import Progress, closing_table

    with nullcontext() if quiet else closing(Progress()) as progress:
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
    if not quiet:
        closing_table(result)
