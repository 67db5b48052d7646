"""fedkt: federated, privacy-preserving knowledge fusion on Flower, torch and Ray."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from fedkt.engine.observer import Observer
    from fedkt.results.export import load_model
    from fedkt.results.result import Result
    from fedkt.scenario import Scenario
    from fedkt.scenario import load as load_scenario

__version__ = version("fedkt")
__all__ = ["Result", "load_model", "load_scenario", "simulate"]


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
    :func:`fedkt.engine.run.simulate`.
    """
    from pathlib import Path

    from fedkt import scenario as scenarios
    from fedkt.engine.run import simulate as run

    return run(
        scenarios.load(scenario, overrides),
        out=None if out is None else Path(out),
        resume=resume,
        data_dir=None if data_dir is None else Path(data_dir),
        observer=observer,
    )


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import fedkt` stays fast.
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
