"""``fedkt show``: what a scenario means, before anything is trained."""

from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.runs.options import (
    DataDir,
    EngineKind,
    Overrides,
    ScenarioArg,
    Seed,
    StrategyName,
    load_scenario,
)


def show(
    scenario: ScenarioArg,
    strategy: StrategyName = None,
    set_: Overrides = None,
    seed: Seed = None,
    engine: EngineKind = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Also draw the partition as partition.png, and made images as transfer.png, in this folder."
        ),
    ] = None,
) -> None:
    """Print what a scenario means: nothing is trained."""
    resolved = load_scenario(scenario, set_, seed, engine, strategy)
    from fedkt.cli.scenario_view import show_scenario
    from fedkt.engine.checks.checked import checked_world

    show_scenario(checked_world(resolved, data_dir), out)
