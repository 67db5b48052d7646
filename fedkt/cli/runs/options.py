"""What several commands take: the scenario, what changes it, and where data and records lie."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

ScenarioArg = Annotated[
    str, typer.Argument(help="A scenario file, or the name of a bundled one.", metavar="SCENARIO")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="a.b=v", help="Change a setting; the value is YAML.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where data files lie [default: $FEDKT_DATA, else ./data].")
]

TensorBoardDir = Annotated[
    Path | None, typer.Option("--tensorboard", metavar="DIR", help="Also write TensorBoard events there.")
]
MLflowStore = Annotated[
    str | None, typer.Option("--mlflow", metavar="URI", help="Also log there, such as sqlite:///runs.db.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Replaces the scenario's seed.")]
EngineKind = Annotated[str | None, typer.Option("--engine", help="inline, ray or flower.")]
RunOut = Annotated[Path | None, typer.Option("--out", help="The run's folder [default: runs/<name>-<time>].")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")]


def load_scenario(
    scenario: str, set_: list[str] | None = None, seed: int | None = None, engine: str | None = None
) -> "Scenario":
    """Return the scenario with what the command line changes in it. Raises InputError."""
    from fedkt import scenario as scenarios

    overrides = list(set_ or [])
    if seed is not None:
        overrides.append(f"seed={seed}")
    if engine is not None:
        overrides.append(f"engine.kind={engine}")
    return scenarios.load(scenario, overrides)
