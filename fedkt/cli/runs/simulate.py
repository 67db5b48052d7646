"""``fedkt simulate``: run a scenario on this machine."""

import gc
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedkt.cli.runs.options import (
    DataDir,
    EngineKind,
    MLflowStore,
    Overrides,
    Quiet,
    Resume,
    RunOut,
    ScenarioArg,
    Seed,
    StrategyName,
    TensorBoardDir,
    load_scenario,
    needs_out,
)

if TYPE_CHECKING:
    from fedkt.scenario import Scenario


def simulate(
    ctx: typer.Context,
    scenario: ScenarioArg,
    strategy: StrategyName = None,
    set_: Overrides = None,
    seed: Seed = None,
    engine: EngineKind = None,
    data_dir: DataDir = None,
    out: RunOut = None,
    resume: Resume = False,
    tensorboard: TensorBoardDir = None,
    mlflow: MLflowStore = None,
    quiet: Quiet = False,
) -> None:
    """Run a scenario on this machine."""
    with _uncollected():
        resolved = load_scenario(scenario, set_, seed, engine, strategy)
        needs_out(resume, out, "run")
        from fedkt.engine.runs import watched  # noqa: F401 - what takes most of the time until the first round
        from fedkt.results.folder import is_run, unused_path

    folder = out or unused_path(resolved.name)
    try:
        live = {"tensorboard": tensorboard, "mlflow": mlflow}
        _simulate(resolved, folder, resume, data_dir, quiet, live, hurry=ctx.obj is not None)
    except KeyboardInterrupt:
        if not is_run(folder):
            raise KeyboardInterrupt(
                "interrupted before the run began; there is nothing to continue."
            ) from None
        again = ["fedkt", "simulate", scenario]
        again += [] if strategy is None else ["--strategy", strategy]
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


@contextmanager
def _uncollected() -> Iterator[None]:
    """Import without looking for garbage, of which there is none: that takes a sixth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _simulate(
    resolved: "Scenario",
    folder: Path,
    resume: bool,
    data_dir: Path | None,
    quiet: bool,
    live: dict[str, Any],
    *,
    hurry: bool,
) -> None:
    from fedkt.engine.runs.watched import watched
    from fedkt.results.progress import Progress, closing_table

    progress = None if quiet else Progress()
    result = watched(
        resolved, folder, progress=progress, resume=resume, data_dir=data_dir, hurry=hurry, **live
    )
    from fedkt.results.report import write_report  # now, since no round needs it

    write_report(result)
    if not quiet:
        closing_table(result)
