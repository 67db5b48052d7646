"""A run that is watched: by a progress display, by TensorBoard, by MLflow."""

from pathlib import Path
from typing import Any

from fedkt.engine.runs.run import simulate
from fedkt.results.observer import Observer
from fedkt.results.result import Result
from fedkt.results.trackers import Several, end_early, sinks
from fedkt.scenario import Scenario


def watched(
    scenario: Scenario,
    folder: Path,
    *,
    progress: Any = None,
    observer: Observer | None = None,
    tensorboard: Path | str | None = None,
    mlflow: str | None = None,
    **how: Any,
) -> Result:
    """Run a scenario in a folder and return its result.

    ``progress``: an observer that is closed at the end, however that comes; ``tensorboard``, ``mlflow``: see
    :func:`~fedkt.results.trackers.sinks`; ``how``: the rest of what :func:`~fedkt.engine.runs.run.simulate`
    takes. Raises InputError and RunError as that does.
    """
    watchers = sinks(scenario, folder, tensorboard=tensorboard, mlflow=mlflow)
    others = [other for other in (observer, progress) if other is not None]
    try:
        return simulate(scenario, out=folder, observer=Several(*watchers, *others), **how)
    except BaseException as error:
        end_early(watchers, error)
        raise
    finally:
        if progress is not None:
            progress.close()
