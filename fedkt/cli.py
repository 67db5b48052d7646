"""The command line. Heavy packages are imported inside the commands, so that help is immediate."""

import errno
import os
import shlex
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fedkt.deploy.commands import site as site_commands
from fedkt.errors import InputError, RunError
from fedkt.privacy.commands import app as privacy_commands

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

INPUT_WRONG, RUN_FAILED, INTERRUPTED = 2, 3, 130


class Commands(TyperGroup):
    """Turns every way to end into an exit status: the one place where that is decided."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 2 for wrong input, 3 for a failed run, 130 when interrupted."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            _end(INPUT_WRONG, *error.problems)
        except RunError as error:
            if os.environ.get("FEDKT_DEBUG") == "1":
                traceback.print_exc()
            _end(RUN_FAILED, str(error))
        except KeyboardInterrupt as error:
            # Here and not around the whole: typer would turn it into a status without a word.
            _end(INTERRUPTED, str(error) or "interrupted.")
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if hasattr(error, "exit_code"):
                raise  # wrong usage, which typer explains itself
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader has left, as `head` does
            # A mistake in fedkt or in a plug-in: what matters is where.
            traceback.print_exc()
            _end(RUN_FAILED, f"{type(error).__name__}: {error}")


def _end(status: int, *lines: str) -> None:
    for line in lines:
        typer.echo(f"fedkt: {line}", err=True)
    raise typer.Exit(status)


app = typer.Typer(
    name="fedkt",
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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


def _version(asked: bool) -> None:
    if asked:
        import fedkt

        typer.echo(f"fedkt {fedkt.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Federated knowledge fusion: parties fuse what their models know, and share neither data nor weights."""


def main() -> None:
    """Run the command line and exit with its status."""
    app()


@app.command()
def simulate(
    scenario: ScenarioArg,
    set_: Overrides = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the scenario's seed.")] = None,
    engine: Annotated[str | None, typer.Option(help="inline, ray or flower.")] = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder [default: runs/<name>-<time>].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    tensorboard: TensorBoardDir = None,
    mlflow: MLflowStore = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
) -> None:
    """Run a scenario on this machine."""
    resolved = _load(scenario, set_, seed, engine)
    if resume and out is None:
        raise InputError("--resume needs --out; name the folder of the run to continue.")
    from fedkt.results.folder import is_run, unused_path

    folder = out or unused_path(resolved.name)
    try:
        _simulate(resolved, folder, resume, data_dir, quiet, {"tensorboard": tensorboard, "mlflow": mlflow})
    except KeyboardInterrupt:
        if not is_run(folder):
            raise KeyboardInterrupt(
                "interrupted before the run began; there is nothing to continue."
            ) from None
        again = ["fedkt", "simulate", scenario]
        again += [part for text in set_ or () for part in ("--set", text)]
        again += [] if seed is None else ["--seed", str(seed)]
        again += [] if engine is None else ["--engine", engine]
        again += [] if data_dir is None else ["--data-dir", str(data_dir)]
        again += [] if tensorboard is None else ["--tensorboard", str(tensorboard)]
        again += [] if mlflow is None else ["--mlflow", mlflow]
        again += ["--out", str(folder), "--resume", *(["--quiet"] if quiet else [])]
        raise KeyboardInterrupt(
            f"interrupted; what is done is kept, continue with: {shlex.join(again)}"
        ) from None


def _simulate(
    resolved: "Scenario",
    folder: Path,
    resume: bool,
    data_dir: Path | None,
    quiet: bool,
    live: dict[str, Any],
) -> None:
    from fedkt.engine.run import simulate as run_scenario
    from fedkt.live import Several, end_failed, sinks
    from fedkt.results.progress import Progress, closing_table
    from fedkt.results.report import write_report

    progress = None if quiet else Progress()
    watchers = sinks(resolved, folder, **live)
    observer = Several(*watchers, *([] if progress is None else [progress]))
    try:
        result = run_scenario(resolved, out=folder, resume=resume, data_dir=data_dir, observer=observer)
    except BaseException:
        end_failed(watchers)
        raise
    finally:
        if progress is not None:
            progress.close()

    write_report(result)
    if not quiet:
        closing_table(result)


@app.command()
def compare(
    scenarios: Annotated[
        list[str], typer.Argument(help="Scenario files, or names of bundled ones.", metavar="SCENARIO...")
    ],
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="a,b:x=1;y=2,c",
            help="Strategies by comma, settings by semicolon [default: each scenario's own].",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-4", help="Seeds and ranges of them [default: the scenario's].")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a.b=v1,v2", help="Change a setting; several values are all run."),
    ] = None,
    tune: Annotated[
        list[str] | None,
        typer.Option(metavar="a.b=v1,v2", help="Let each strategy choose, by accuracy on validation rows."),
    ] = None,
    baseline: Annotated[str, typer.Option(help="What the others are compared with.")] = "local",
    metric: Annotated[str, typer.Option(help="personal or global accuracy.")] = "personal",
    target: Annotated[
        float | None, typer.Option(help="Accuracy to reach, in (0, 1] [default: the baseline's].")
    ] = None,
    engine: Annotated[str, typer.Option(help="inline (several runs at a time), ray or flower.")] = "inline",
    address: Annotated[str | None, typer.Option(help="A Ray cluster to send the runs to.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time [default: all processors].")] = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="The comparison's folder [default: runs/compare-<names>-<time>].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue, or extend, the one in --out.")] = False,
    skip_impossible: Annotated[
        bool, typer.Option("--skip-impossible", help="Leave out strategies that cannot run on a scenario.")
    ] = False,
    tensorboard: TensorBoardDir = None,
    mlflow: MLflowStore = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
) -> None:
    """Run scenarios with several strategies and seeds, and write the report."""
    import sys

    from fedkt.comparing.command import compare_command, read_request

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


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A comparison's folder, or a run's.", metavar="DIR")],
    baseline: Annotated[
        str | None, typer.Option(help="What the others are compared with [default: as compared].")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="personal or global accuracy.")] = None,
    target: Annotated[float | None, typer.Option(help="Accuracy to reach, in (0, 1].")] = None,
) -> None:
    """Write report.html of a comparison or of a run anew, with its tables and pictures."""
    from fedkt.results.report import report_of

    typer.echo(report_of(folder, {"baseline": baseline, "metric": metric, "target": target}))


@app.command()
def show(
    scenario: ScenarioArg,
    set_: Overrides = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the scenario's seed.")] = None,
    engine: Annotated[str | None, typer.Option(help="inline, ray or flower.")] = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="Also draw the partition as partition.png in this folder.")
    ] = None,
) -> None:
    """Print what a scenario means: nothing is trained."""
    resolved = _load(scenario, set_, seed, engine)
    from fedkt.engine.check import checked_world
    from fedkt.show import show_scenario

    show_scenario(checked_world(resolved, data_dir), out)


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(help="strategies, clients, models, datasets, losses or scenarios.")],
) -> None:
    """List what can be named in a scenario."""
    from fedkt.show import show_names

    show_names(what)


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")],
    client: Annotated[str, typer.Option(help="Which client.")],
    out: Annotated[Path, typer.Option(help="Where to write the model.")],
) -> None:
    """Write one client's model as safetensors with a description; fedkt.load_model reads it."""
    from fedkt.results.export import export as write

    typer.echo(write(run_folder, client, out))


@app.command()
def submit(
    scenario: ScenarioArg,
    superlink: Annotated[str, typer.Option(help="A SuperLink that Flower's config.toml names.")],
    set_: Overrides = None,
    seed: Annotated[int | None, typer.Option(help="Replaces the scenario's seed.")] = None,
    sites: Annotated[
        int | None, typer.Option(help="Begin when so many have come [default: all in time].")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds for which sites are waited for.")] = 60.0,
    transfer: Annotated[
        str | None, typer.Option(help="SHA-256 of the transfer set [default: that of most sites].")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder [default: runs/<name>-<time>].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
) -> None:
    """Run a scenario at real sites; data are theirs, so data.partition is ignored."""
    resolved = _load(scenario, set_, seed, None)
    if resume and out is None:
        raise InputError("--resume needs --out; name the folder of the run to continue.")
    from fedkt.deploy.submit import submit as submit_run
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


@app.command()
def forget(
    run_folder: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")],
    client: Annotated[str, typer.Option(help="Which client has withdrawn.")],
    out: Annotated[
        Path | None, typer.Option(help="The new run's folder [default: RUN-without-CLIENT].")
    ] = None,
    data_dir: DataDir = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
) -> None:
    """Run a run again without one client, from before it took part: exactly as if it never had."""
    from fedkt.engine.forget import forget as run_again
    from fedkt.results.progress import Progress, closing_table

    progress = None if quiet else Progress()
    try:
        result, start = run_again(run_folder, client, out=out, data_dir=data_dir, observer=progress)
    finally:
        if progress is not None:
            progress.close()
    if not quiet:
        closing_table(result)
    began = f"from the checkpoint of round {start}" if start else "from the beginning"
    typer.echo(
        f"{result.path} was run {began} without client {client}; {run_folder} still holds what it "
        "contributed: delete it."
    )


@app.command()
def audit(
    scenario: ScenarioArg,
    set_: Overrides = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="The audit's folder [default: runs/<name>-<time>].")
    ] = None,
    canaries: Annotated[int, typer.Option(help="Transfer rows that get a planted label.")] = 500,
    lokt: Annotated[
        bool, typer.Option("--lokt", help="Also reconstruct images of a client's classes from labels alone.")
    ] = False,
) -> None:
    """Run a scenario with canaries, attack what it releases: a lower bound of epsilon against the claim."""
    from fedkt.engine.audit import audit_scenario, report

    described = _load(scenario, set_, None, None)
    found = audit_scenario(described, out=out, data_dir=data_dir, canaries=canaries, lokt=lokt)
    typer.echo(report(found))


@app.command()
def doctor() -> None:
    """Say what will work on this machine."""
    from fedkt.doctor import examine

    if not examine():
        raise RunError("something essential is missing; see the lines marked 'broken'.")


app.add_typer(site_commands, name="site")
app.add_typer(privacy_commands, name="privacy")


def _load(scenario: str, set_: list[str] | None, seed: int | None, engine: str | None) -> "Scenario":
    from fedkt import scenario as scenarios

    overrides = list(set_ or [])
    if seed is not None:
        overrides.append(f"seed={seed}")
    if engine is not None:
        overrides.append(f"engine.kind={engine}")
    return scenarios.load(scenario, overrides)
