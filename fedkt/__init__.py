"""fedkt: federated, privacy-preserving knowledge fusion on Flower, torch and Ray."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from fedkt.results.comparison.frames import Comparison
    from fedkt.results.export import load_model
    from fedkt.results.observer import Observer
    from fedkt.results.result import Result
    from fedkt.scenario import Scenario, Source
    from fedkt.scenario import load as load_scenario

__version__ = version("fedkt")
__all__ = ["Comparison", "Result", "compare", "load_model", "load_scenario", "simulate"]


def simulate(
    scenario: "Scenario | str | PathLike[str] | Mapping[str, Any] | None" = None,
    overrides: Sequence[str] = (),
    *,
    data: Any = None,
    sites: Any = None,
    strategy: Any = None,
    models: Any = None,
    seed: int | None = None,
    out: "Path | str | None" = None,
    resume: bool = False,
    data_dir: "Path | str | None" = None,
    progress: bool = False,
    tensorboard: "Path | str | None" = None,
    mlflow: str | None = None,
    observer: "Observer | None" = None,
) -> "Result":
    """Run a scenario on this machine and return its result.

    Strategies, models and losses may be defined in a notebook's cell or a launched script, on every engine;
    a deployment needs them in a module.

    Args:
        scenario: what :func:`load_scenario` takes: a path, a bundled name, YAML text, a mapping, a Scenario.
            None: what suits ``data``.
        overrides: settings to change, ``a.b=value`` as on the command line; the value is YAML.
        data: rows in place of the scenario's data set: ``(X, y)``, a table (data frame, mapping of columns)
            with a column ``label`` or the scenario's ``data.label``, or ``(table, "column")``; several
            columns as a list.
        sites: whose row is whose: a name per row, or the name of a column; each name is a client. None: rows
            are dealt as ``data.partition`` says.
        strategy: in place of the scenario's: a name, a mapping such as ``{"name": "knfu", "beta": 5}``, a
            class, or an instance with settings, ``Mine(trim=2)``.
        models: in place of the scenario's: a name, a function ``(input, classes) -> module``, or a list.
        seed: in place of the scenario's, from 0 on.
        out: the run's folder; None: ``runs/<name>-<time>``.
        resume: continue the run in ``out``, which must be of the same scenario; only ``rounds`` may grow.
        data_dir: where data files lie; None: ``$FEDKT_DATA``, else ``./data``.
        progress: show the run as it goes: a live widget in a notebook, lines elsewhere.
        tensorboard: a folder for TensorBoard's events; None: none are written.
        mlflow: an MLflow store such as ``sqlite:///runs.db``; None: none is written to.
        observer: is told of each message and each round; None: nobody is.

    Returns:
        The result, which reads the run's folder.

    Raises:
        InputError: the scenario, its data or the folder will not do; raised before anything is written.
        RunError: the run failed.

    >>> import fedkt
    >>> result = fedkt.simulate("quickstart", ["engine.kind=inline", "rounds=1"], strategy="knfu")
    >>> result.summary["strategy"], result.summary["replies"]["accepted"]
    ('knfu', 10)
    """
    from pathlib import Path

    from fedkt.engine.runs.from_python import scenario_of
    from fedkt.engine.runs.watched import watched
    from fedkt.results.folder import unused_path

    resolved = scenario_of(
        scenario, overrides, data=data, sites=sites, strategy=strategy, models=models, seed=seed
    )
    display = None
    if progress:
        from fedkt.results.widget import progress_display

        display = progress_display()
    return watched(
        resolved,
        unused_path(resolved.name) if out is None else Path(out),
        progress=display,
        observer=observer,
        tensorboard=tensorboard,
        mlflow=mlflow,
        resume=resume,
        data_dir=None if data_dir is None else Path(data_dir),
    )


def compare(
    scenarios: "Source | Sequence[Source]",
    strategies: "str | Sequence[Any] | None" = None,
    seeds: "str | Sequence[int] | None" = None,
    *,
    overrides: Sequence[str] = (),
    tune: Sequence[str] = (),
    out: "Path | str | None" = None,
    resume: bool = False,
    placebo: bool = False,
    skip_impossible: bool = False,
    jobs: int | None = None,
    engine: str = "inline",
    address: str | None = None,
    data_dir: "Path | str | None" = None,
    baseline: str = "local",
    metric: str = "personal",
    target: float | None = None,
    quiet: bool = True,
) -> "Comparison":
    """Run scenarios with several strategies and seeds, write the report, and return the comparison.

    Everything means what it means to ``fedkt compare``. ``local`` and ``central`` are always added.

    Args:
        scenarios: one or several of what :func:`load_scenario` takes.
        strategies: names by comma, settings by semicolon: ``"knfu:beta=5;epd=labels,fedmd"``; or a list of
            names, mappings such as ``{"name": "knfu", "beta": 5}``, classes and instances; None: each
            scenario's own.
        seeds: ``"0-4"``, ``"0,2"`` or numbers from 0 on; None: each scenario's own.
        overrides: settings to change; of several values by comma, ``"data.partition.alpha=0.1,0.5"``, every
            combination is a condition.
        tune: settings of which each method gets its best, by accuracy on validation rows.
        out: the comparison's folder; None: ``runs/compare-<names>-<time>``.
        resume: run in ``out`` what has no result yet.
        placebo: also run each method with peers who answer to other rows: a control.
        skip_impossible: leave out methods that a scenario cannot run, instead of raising.
        jobs: runs at the same time, at least 1; None: one per processor.
        engine: ``inline``, ``ray``, ``flower`` or ``board``.
        address: of a running Ray cluster, on which runs are spread; None: this machine.
        data_dir: where data files lie; None: ``$FEDKT_DATA``, else ``./data``.
        baseline: the method that the others are compared with.
        metric: ``personal`` or ``global`` accuracy.
        target: an accuracy in (0, 1], for what it costs to reach; None: the baseline's mean.
        quiet: show no progress and no table.

    Returns:
        The comparison, which reads its folder.

    Raises:
        InputError: some run cannot be planned as asked; raised before any run starts.
        RunError: a run failed; the others' report is written.

    >>> import fedkt
    >>> small = ["rounds=1", "data.partition.clients=3"]
    >>> comparison = fedkt.compare("quickstart", "fedmd", seeds=[0], overrides=small)
    >>> list(comparison.runs["method"])
    ['local', 'fedmd', 'central']
    """
    from pathlib import Path

    from fedkt.comparing.request import compare_command, read_request

    request = read_request(
        scenarios if isinstance(scenarios, list | tuple) else [scenarios],  # type: ignore[list-item]
        strategies=strategies,
        seeds=seeds if seeds is None or isinstance(seeds, str) else ",".join(map(str, seeds)),
        sets=overrides,
        tune=tune,
        baseline=baseline,
        metric=metric,
        target=target,
        engine=engine,
        address=address,
        placebo=placebo,
    )
    return compare_command(
        request,
        out=None if out is None else Path(out),
        quiet=quiet,
        jobs=jobs,
        data_dir=None if data_dir is None else Path(data_dir),
        resume=resume,
        skip_impossible=skip_impossible,
    )


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import fedkt` stays fast.
    if name == "Comparison":
        from fedkt.results.comparison.frames import Comparison

        return Comparison
    if name == "Result":
        from fedkt.results.result import Result

        return Result
    if name == "load_model":
        from fedkt.results.export import load_model

        return load_model
    if name == "load_scenario":
        from fedkt.scenario import load

        return load
    raise AttributeError(f"module 'fedkt' has no attribute {name!r}")
