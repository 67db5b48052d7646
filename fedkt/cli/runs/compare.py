"""``fedkt compare``: scenarios with several strategies and seeds."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fedkt.cli.runs import completion
from fedkt.cli.runs.options import DataDir, MLflowStore, Quiet, TensorBoardDir


def compare(
    scenarios: Annotated[
        list[str],
        typer.Argument(
            help="Scenario files, or bundled ones of those that 'fedkt list scenarios' names.",
            metavar="SCENARIO...",
            autocompletion=completion.scenarios,
        ),
    ],
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="a,b:x=1;y=2,c",
            help="Strategies by comma, settings by semicolon [default: each scenario's own].",
            autocompletion=completion.strategies,
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-4", help="Seeds and ranges of them [default: the scenario's].")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="a.b=v1,v2",
            help="Change a setting; several values are all run.",
            autocompletion=completion.settings,
        ),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(
            metavar="a.b=v1,v2",
            help="Let each strategy choose, by accuracy on validation rows.",
            autocompletion=completion.settings,
        ),
    ] = None,
    baseline: Annotated[str, typer.Option(help="What the others are compared with.")] = "local",
    metric: Annotated[str, typer.Option(help="personal or global accuracy.")] = "personal",
    target: Annotated[
        float | None,
        typer.Option(help="Accuracy, or other leading figure, to reach [default: the baseline's]."),
    ] = None,
    engine: Annotated[str, typer.Option(help="inline (several runs at a time), ray or flower.")] = "inline",
    address: Annotated[str | None, typer.Option(help="A Ray cluster to send the runs to.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time [default: all processors].")] = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="The comparison's folder [default: runs/compare-<names>-<time>].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue, or extend, the one in --out.")] = False,
    placebo: Annotated[
        bool,
        typer.Option(
            "--placebo", help="Also run each strategy with peers who answer to other rows: a control."
        ),
    ] = False,
    skip_impossible: Annotated[
        bool, typer.Option("--skip-impossible", help="Leave out strategies that cannot run on a scenario.")
    ] = False,
    tensorboard: TensorBoardDir = None,
    mlflow: MLflowStore = None,
    quiet: Quiet = False,
) -> None:
    """Run scenarios with several strategies and seeds, and write the report."""

    from fedkt.comparing.request import compare_command, read_request

    request = read_request(
        [*scenarios],
        strategies=strategies,
        seeds=seeds,
        sets=[*(set_ or ())],
        tune=[*(tune or ())],
        baseline=baseline,
        metric=metric,
        target=target,
        engine=engine,
        address=address,
        placebo=placebo,
    )
    compare_command(
        request,
        out=out,
        quiet=quiet,
        again=["fedkt", *sys.argv[1:]],
        jobs=jobs,
        data_dir=data_dir,
        resume=resume,
        skip_impossible=skip_impossible,
        sinks={"tensorboard": tensorboard, "mlflow": mlflow},
    )
