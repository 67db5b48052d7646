"""``fedkt board``: a board at the coordinator, to which sites come when they can."""

from contextlib import closing, nullcontext
from pathlib import Path
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
from fedkt.errors import InputError


def board(
    scenario: ScenarioArg,
    sites: Annotated[int, typer.Option(min=1, help="How many take part: the first that come and fit.")],
    keys: Annotated[Path, typer.Option(help="A folder with each site's node.pub, as SITE.pub.")],
    listen: Annotated[str, typer.Option(help="Where sites come to.", metavar="HOST:PORT")] = "127.0.0.1:8443",
    certificate: Annotated[
        Path | None, typer.Option(help="PEM file; without it only 127.0.0.1 is served.")
    ] = None,
    certificate_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    transfer: Annotated[
        str | None, typer.Option(help="SHA-256 of the transfer set [default: that of the first site].")
    ] = None,
    strategy: StrategyName = None,
    set_: Overrides = None,
    seed: Seed = None,
    out: RunOut = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Keep a board for real sites, which come when they can; data are theirs."""
    resolved = load_scenario(scenario, set_, seed, None, strategy)
    needs_out(resume, out, "board")
    if (certificate is None) != (certificate_key is None):
        raise InputError("--certificate and --certificate-key belong together; name both, or neither.")
    from fedkt.deploy.coordinator.board_run import run_board
    from fedkt.results.folder import unused_path
    from fedkt.results.progress import Progress, closing_table

    tls = None if certificate is None or certificate_key is None else (certificate, certificate_key)
    folder = out or unused_path(resolved.name)
    with nullcontext() if quiet else closing(Progress()) as progress:
        result = run_board(
            resolved,
            folder,
            listen,
            keys=keys,
            sites=sites,
            transfer=transfer,
            tls=tls,
            resume=resume,
            observer=progress,
        )
    if not quiet:
        closing_table(result)
