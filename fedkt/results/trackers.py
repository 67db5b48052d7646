"""Runs seen live in TensorBoard or MLflow: observers that pass on what a run tells, and the runs of many.

Both packages are optional: ``pip install 'fedkt[tensorboard]'`` and ``pip install 'fedkt[mlflow]'``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fedkt.errors import InputError, Interrupted
from fedkt.files import write_json
from fedkt.results.folder import PACKAGES, package_version
from fedkt.results.metrics import measured_in
from fedkt.results.observer import Observer, Silent
from fedkt.scenario import Scenario, dump, to_dict

_NO_KEY = re.compile(r"[^\w./: -]", re.ASCII)
"""What MLflow refuses in the name of a parameter, as names of domains may have."""
NOTED = "mlflow.json"
"""In the folder of a run or a comparison: the store that it is logged to, and its run's id there."""
MOST_REASON = 200
MOST_TEXT = 500
"""Characters that MLflow keeps of a parameter (longer ones are refused by some of its stores)."""


class Several:
    """Tells several observers the same."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def started(self, info: Mapping[str, Any]) -> None:
        """Pass on."""
        for one in self.observers:
            one.started(info)

    def noted(self, text: str) -> None:
        """Pass on."""
        for one in self.observers:
            one.noted(text)

    def asked(self, round_: int, stage: str, clients: int) -> None:
        """Pass on."""
        for one in self.observers:
            one.asked(round_, stage, clients)

    def replied(self, round_: int, stage: str) -> None:
        """Pass on."""
        for one in self.observers:
            one.replied(round_, stage)

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Pass on."""
        for one in self.observers:
            one.round_done(row, clients)

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Pass on."""
        for one in self.observers:
            one.finished(summary)


class TensorBoard(Silent):
    """Writes scalars per round, and the scenario as text, to event files below a folder."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        require("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder))
        self._writer.add_text("scenario", f"```yaml\n{dump(scenario)}\n```")

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Write the round's figures, and the distribution of accuracy over clients."""
        for name, value in figures(row).items():
            self._writer.add_scalar(name, value, row["round"])
        for name in ("personal", "global"):
            values = [client[name] for client in clients if client.get(name) is not None]
            if values:
                self._writer.add_histogram(f"clients/{name}", _array(values), row["round"])
        for part in row.get("loss") or {}:
            values = [client["loss"][part] for client in clients if part in client.get("loss", {})]
            if values:
                self._writer.add_histogram(f"clients/loss/{part}", _array(values), row["round"])
        self._writer.flush()

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Close the files."""
        self._writer.close()


class MLflow(Silent):
    """Logs parameters, metrics per round, and in the end the run's folder as artefacts.

    ``uri``: a tracking server or a local store, as MLflow names it; ``experiment``: the scenario's name.
    ``parent``: the id of the run that this one is nested in.
    """

    def __init__(self, uri: str, scenario: Scenario, folder: Path, parent: str | None = None) -> None:
        require("mlflow")
        self.folder = folder
        self._client, experiment = _opened(uri, scenario.name)
        self._uri = uri
        before = _noted_run(folder, uri)
        if before is not None and _still_there(self._client, before):
            self.run = before
            self._client.update_run(self.run, status="RUNNING")
            return
        tags = {"mlflow.runName": f"{scenario.strategy.name} seed {scenario.seed}"}
        tags |= {f"version.{name}": package_version(name) or "" for name in PACKAGES}
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        self.run = self._client.create_run(experiment, tags=tags).info.run_id
        for name, value in _flat(to_dict(scenario)):
            self._client.log_param(self.run, _NO_KEY.sub("_", name), str(value)[:MOST_TEXT])

    def started(self, info: Mapping[str, Any]) -> None:
        """Note in the run's folder which run of the store this is, so that a resumed run goes on in it."""
        _note_run(self.folder, self._uri, self.run)

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Log the round's figures."""
        for name, value in figures(row).items():
            self._client.log_metric(self.run, name, value, step=row["round"])

    def finished(self, summary: Mapping[str, Any]) -> None:
        """Log what lies in the run's folder, without the checkpoint, and end the run."""
        for file in sorted(self.folder.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                self._client.log_artifact(self.run, str(file))
        self._client.set_terminated(self.run)

    def ended(self, error: BaseException) -> None:
        """End the run as killed where somebody interrupted it, else as failed."""
        killed = isinstance(error, KeyboardInterrupt | Interrupted)
        self._client.set_terminated(self.run, "KILLED" if killed else "FAILED")


def end_early(observers: Sequence[Any], error: BaseException) -> None:
    """Tell those who keep track of it that a run was interrupted or failed."""
    for one in observers:
        if isinstance(one, MLflow):
            one.ended(error)


def _note_run(folder: Path, uri: str, run: str) -> None:
    write_json(folder / NOTED, {"store": uri, "run": run})


def _noted_run(folder: Path, uri: str) -> str | None:
    """Return the run of a store that a folder's run was logged to before, None where there is none."""
    file = folder / NOTED
    held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return str(held["run"]) if held.get("store") == uri else None


def _still_there(client: Any, run: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run).info.lifecycle_stage) == "active"
    except MlflowException:  # the store was emptied meanwhile
        return False


def sinks(
    scenario: Scenario,
    folder: Path,
    *,
    tensorboard: Path | str | None = None,
    mlflow: str | None = None,
    parent: str | None = None,
) -> list[Any]:
    """Return the observers that were asked for. Raises InputError where a package is missing."""
    found: list[Any] = []
    if tensorboard is not None:
        found.append(TensorBoard(Path(tensorboard), scenario))
    if mlflow is not None:
        found.append(MLflow(mlflow, scenario, folder, parent))
    return found


def parent_run(uri: str, folder: Path, command: str) -> str:
    """Start the MLflow run that the runs of a comparison are nested in, or go on in it; return its id."""
    require("mlflow")
    name = folder.name
    client, experiment = _opened(uri, name)
    before = _noted_run(folder, uri)
    if before is not None and _still_there(client, before):
        client.update_run(before, status="RUNNING")
        return before
    tags = {"mlflow.runName": f"comparison {name}", "command": command}
    found = str(client.create_run(experiment, tags=tags).info.run_id)
    _note_run(folder, uri, found)
    return found


def kill_parent(uri: str, run: str) -> None:
    """End a comparison's MLflow run, and those of its runs that were at work, as killed."""
    client = _client(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    nested = client.search_runs(experiments, f"tags.mlflow.parentRunId = '{run}'")
    for one in [run, *(held.info.run_id for held in nested if held.info.status == "RUNNING")]:
        client.set_terminated(one, "KILLED")


def end_parent(uri: str, run: str, folder: Path) -> None:
    """End a comparison's MLflow run with its report and tables as artefacts."""
    client = _client(uri)
    for file in (folder / "report.html", folder / "comparison.json", folder / "tables"):
        if file.exists():
            client.log_artifact(run, str(file))
    client.set_terminated(run)


def require(package: str) -> None:
    """Raise InputError where an optional package is not installed."""
    if find_spec(package) is None:
        raise InputError(
            f"--{package} needs the package {package}; install it with pip install 'fedkt[{package}]'."
        )


def figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a round by name: ``accuracy/… loss/… bytes/… replies/… seconds``."""
    parts = {("score" if "score" in row else "accuracy"): measured_in(row), "loss": row.get("loss") or {}}
    parts |= {"bytes": row["bytes"], "replies": row["replies"]}
    named = {f"{part}/{name}": value for part, held in parts.items() for name, value in held.items()}
    return {name: float(value) for name, value in named.items() if value is not None} | {
        "seconds": row["wall_s"]
    }


def _opened(uri: str, name: str) -> tuple[Any, str]:
    """Return a client of a store and the id of the experiment in it.

    Raises InputError where the store cannot be used, as a folder of files cannot by MLflow 3.
    """
    try:
        client = _client(uri)
        return client, _experiment(client, name)
    except Exception as error:  # of MLflow, of SQLAlchemy, of the network
        works = "sqlite:///mlruns.db works, and so does a server's address such as http://127.0.0.1:5000"
        if "://" not in uri.removeprefix("file://"):
            raise InputError(
                f"--mlflow {uri} is a folder of files, in which MLflow keeps no new runs any more; {works}."
            ) from error
        reason = " ".join(str(error).split())[:MOST_REASON].rstrip(". ") or type(error).__name__
        raise InputError(f"--mlflow {uri} cannot be used ({reason}); {works}.") from error


def _client(uri: str) -> Any:
    import logging

    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)

    return MlflowClient(tracking_uri=uri)


def _experiment(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    uri = client.tracking_uri
    beside = None
    if uri.startswith("sqlite:///"):  # else MLflow would put files wherever the process was started
        beside = (Path(uri.removeprefix("sqlite:///")).absolute().parent / "artifacts").as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=beside))
    except MlflowException:  # another run of the comparison was quicker
        return str(client.get_experiment_by_name(name).experiment_id)


def _flat(value: Any, at: str = "") -> list[tuple[str, Any]]:
    """Return the settings of a scenario by dotted key."""
    if isinstance(value, dict):
        return [
            pair for key, held in value.items() for pair in _flat(held, f"{at}.{key}" if at else str(key))
        ]
    return [(at, value)]


def _array(values: Sequence[float]) -> Any:
    import numpy as np

    return np.asarray(values, dtype=float)
