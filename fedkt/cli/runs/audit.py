"""``fedkt audit``: canaries and attacks against what is claimed."""

from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.runs.options import DataDir, Overrides, ScenarioArg, load_scenario


def audit(
    scenario: ScenarioArg,
    set_: Overrides = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="The audit's folder [default: runs/<name>-<time>].")
    ] = None,
    canaries: Annotated[
        int | None,
        typer.Option(
            help="Transfer rows, or test rows without these, that get a planted label [default: 500]; of "
            "text, sentences with secrets [default: 16]."
        ),
    ] = None,
    must_refute: Annotated[
        str | None,
        typer.Option(
            metavar="BUG",
            help="Instead plant a bug into the private training of the scenario's own model; exit with 1 "
            "unless the audit refutes the claim. noise-off, noise-tenth, clip-off, accountant-forgets or "
            "seed-known.",
        ),
    ] = None,
    lokt: Annotated[
        bool, typer.Option("--lokt", help="Also reconstruct images of a client's classes from labels alone.")
    ] = False,
) -> None:
    """Run a scenario with canaries, attack what it releases: a lower bound of epsilon against the claim."""
    from fedkt.engine.audits.audited import audit_scenario, report

    described = load_scenario(scenario, set_, None, None)
    if must_refute is not None:
        from fedkt.engine.audits.planted import audit_bug

        refuted, told = audit_bug(described, must_refute, data_dir=data_dir, canaries=canaries or 500)
        typer.echo(told)
        raise typer.Exit(0 if refuted else 1)
    found = audit_scenario(described, out=out, data_dir=data_dir, canaries=canaries, lokt=lokt)
    typer.echo(report(found))
