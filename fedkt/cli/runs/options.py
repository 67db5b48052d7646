"""What several commands take: the scenario, what changes it, and where data and records lie."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedkt.cli.runs import completion
from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

ScenarioArg = Annotated[
    str,
    typer.Argument(
        help="A scenario file, or a bundled one of those that 'fedkt list scenarios' names.",
        metavar="SCENARIO",
        autocompletion=completion.scenarios,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="a.b=v",
        help="Change a setting; the value is YAML.",
        autocompletion=completion.settings,
    ),
]
StrategyName = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        metavar="NAME[:x=1;y=2]",
        help="Replaces the scenario's strategy; 'fedkt list strategies' names them.",
        autocompletion=completion.strategies,
    ),
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
EngineKind = Annotated[str | None, typer.Option("--engine", help="inline, processes, ray, flower or board.")]
RunOut = Annotated[Path | None, typer.Option("--out", help="The run's folder [default: runs/<name>-<time>].")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")]
RunFolder = Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")]


def load_scenario(
    scenario: str,
    set_: list[str] | None = None,
    seed: int | None = None,
    engine: str | None = None,
    strategy: str | None = None,
) -> "Scenario":
    """Return the scenario with what the command line changes in it. Raises InputError."""
    from fedkt import scenario as scenarios

    overrides = [] if strategy is None else [_strategy(strategy)]
    overrides += set_ or []
    if seed is not None:
        overrides.append(f"seed={seed}")
    if engine is not None:
        overrides.append(f"engine.kind={engine}")
    return scenarios.load(scenario, overrides)


def needs_out(resume: bool, out: Path | None, what: str) -> None:
    """Raise InputError where ``what`` is to be continued and nobody says which."""
    if resume and out is None:
        raise InputError(f"--resume needs --out; name the folder of the {what} to continue.")


def _strategy(text: str) -> str:
    """Return ``NAME`` or ``NAME:x=1;y=2`` as an override. Raises InputError."""
    import json

    from fedkt.comparing.grammar import methods

    named = methods(text, "--strategy")
    if len(named) != 1:
        raise InputError(
            f"--strategy is {text!r}, which names {len(named)} strategies; a run has one, "
            "fedkt compare takes several."
        )
    return f"strategy={json.dumps(named[0].part)}"
