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
    scenario: "Scenario | str | PathLike[str] | Mapping[str, Any]",
    overrides: Sequence[str] = (),
    *,
    out: "Path | str | None" = None,
    resume: bool = False,
    data_dir: "Path | str | None" = None,
    observer: "Observer | None" = None,
) -> "Result":
    """Run a scenario (a Scenario, a path, a bundled name or a mapping) and return its result.

    ``overrides`` are ``a.b=value`` as on the command line; the rest is as in
    :func:`fedkt.engine.runs.run.simulate`.
    """
    from pathlib import Path

    from fedkt import scenario as scenarios
    from fedkt.engine.runs.run import simulate as run

    return run(
        scenarios.load(scenario, overrides),
        out=None if out is None else Path(out),
        resume=resume,
        data_dir=None if data_dir is None else Path(data_dir),
        observer=observer,
    )


def compare(
    scenarios: "Source | Sequence[Source]",
    strategies: "str | None" = None,
    seeds: "str | Sequence[int] | None" = None,
    *,
    overrides: Sequence[str] = (),
    tune: Sequence[str] = (),
    out: "Path | str | None" = None,
    resume: bool = False,
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

    Everything means what it means to ``fedkt compare``: ``strategies="knfu:beta=5,fedmd"``, ``seeds="0-4"``
    (or numbers), ``overrides=["data.partition.alpha=0.1,0.5"]``. ``local`` and ``central`` are always added.
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
