"""Live views: what is written to local stores of TensorBoard and MLflow."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedkt.cli.commands import app
from fedkt.engine.runs.watched import watched
from fedkt.errors import InputError
from fedkt.results import trackers as sinks
from fedkt.results.observer import Silent
from fedkt.results.trackers import figures
from fedkt.scenario import load

SMALL = {
    "name": "small",
    "data": {"partition": {"kind": "iid", "clients": 2, "samples_per_client": 20}},
    "clients": {"local": {"epochs": 1}},
    "strategy": {"name": "fd"},
    "rounds": 2,
    "engine": {"kind": "inline"},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(json.dumps(SMALL))
    return tmp_path


def lines(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "rounds.jsonl").read_text().splitlines()]


def test_the_figures_of_a_round() -> None:
    row = {"round": 1, "accuracy": {"personal_mean": 0.5, "global_mean": None}, "bytes": {"up": 3}}
    assert figures(row | {"replies": {"late": 1}, "wall_s": 2.0}) == {
        "accuracy/personal_mean": 0.5,
        "bytes/up": 3.0,
        "replies/late": 1.0,
        "seconds": 2.0,
    }
    assert figures({"accuracy": None, "bytes": {}, "replies": {}, "wall_s": 1.0}) == {"seconds": 1.0}


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'fedkt\[mlflow\]'"):
        sinks.require("mlflow")


def test_tensorboard_has_what_the_run_has(here: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    ended = CliRunner().invoke(
        app, ["simulate", "small.yaml", "--quiet", "--out", "run", "--tensorboard", "events"]
    )
    assert ended.exit_code == 0, ended.output
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held = EventAccumulator("events")
    held.Reload()
    found = [(event.step, event.value) for event in held.Scalars("accuracy/personal_mean")]
    expected = [(row["round"], pytest.approx(row["accuracy"]["personal_mean"])) for row in lines("run")]
    assert found == expected and len(found) == 2
    assert "clients/personal" in held.Tags()["distributions"] + held.Tags()["histograms"]


@pytest.mark.slow
def test_mlflow_has_a_run_for_each_cell_below_one_for_the_comparison(here: Path) -> None:
    """In MLflow a database of its own is made first, which takes seconds."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("alembic", reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    store = f"sqlite:///{here}/runs.db"
    ended = CliRunner().invoke(
        app, ["compare", "small.yaml", "--jobs", "1", "--quiet", "--out", "c", "--mlflow", store]
    )
    assert ended.exit_code == 0, ended.output
    client = MlflowClient(tracking_uri=store)
    found = {e.name: client.search_runs([e.experiment_id]) for e in client.search_experiments()}
    (parent,), cells = found["c"], found["small"]
    assert len(cells) == 3 and {run.info.status for run in [parent, *cells]} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in cells} == {parent.info.run_id}
    (fd,) = [run for run in cells if run.data.params["strategy.name"] == "fd"]
    last = lines("c/cells/small/fd/default/0")[-1]
    assert fd.data.metrics["accuracy/personal_mean"] == last["accuracy"]["personal_mean"]
    assert len(client.get_metric_history(fd.info.run_id, "bytes/up")) == 2
    kept = {file.path for file in client.list_artifacts(fd.info.run_id)}
    assert {"summary.json", "scenario.yaml", "rounds.jsonl"} <= kept
    assert "report.html" not in kept  # a comparison has one, its cells have none


class Stopped(Silent):
    """Somebody presses Ctrl-C after a round."""

    def round_done(self, row: Any, clients: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_is_one_run_of_mlflow_however_often_it_is_interrupted(here: Path) -> None:
    """Ctrl-C after round 1, then resumed: killed, then finished, with both rounds; a failure is one."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("alembic", reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    store, made = f"sqlite:///{here}/runs.db", load("small.yaml")
    client = MlflowClient(tracking_uri=store)

    def runs() -> list[Any]:
        (small,) = [e for e in client.search_experiments() if e.name == "small"]
        return list(client.search_runs([small.experiment_id]))

    with pytest.raises(KeyboardInterrupt):
        watched(made, here / "run", observer=Stopped(), mlflow=store)
    (killed,) = runs()
    assert killed.info.status == "KILLED"
    watched(made, here / "run", mlflow=store, resume=True)
    (done,) = runs()
    assert (done.info.run_id, done.info.status) == (killed.info.run_id, "FINISHED")
    steps = client.get_metric_history(done.info.run_id, "loss/train")
    assert [metric.step for metric in steps] == [1, 2]
    with pytest.raises(InputError):
        watched(made, here / "run", mlflow=store)  # there already: refused
    parent = sinks.parent_run(store, here, "fedkt compare")
    nested = sinks.sinks(made, here / "cell", mlflow=store, parent=parent)[0].run
    assert sinks.parent_run(store, here, "fedkt compare --resume") == parent
    sinks.kill_parent(store, parent)
    assert [client.get_run(run).info.status for run in (parent, nested)] == ["KILLED", "KILLED"]


# Stores that cannot be used ------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["./mlruns", "mlruns", "file:./mlruns"])
@pytest.mark.parametrize("command", ["simulate", "compare"])
def test_a_folder_of_files_is_no_store_any_more(here: Path, command: str, store: str) -> None:
    """MLflow 3 refuses it: one sentence with what works, before a run's folder is there."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("alembic", reason="the extra mlflow is not installed")
    ended = CliRunner().invoke(app, [command, "small.yaml", "--quiet", "--out", "c", "--mlflow", store])
    assert ended.exit_code == 2, ended.output
    assert ended.output == (
        f"fedkt: --mlflow {store} is a folder of files, in which MLflow keeps no new runs any more; "
        "sqlite:///mlruns.db works, and so does a server's address such as http://127.0.0.1:5000.\n"
    )
    assert not (here / "c").exists() or {path.name for path in (here / "c").iterdir()} == {".lock"}


def test_a_kind_of_store_that_there_is_not(here: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    with pytest.raises(InputError, match=r"--mlflow nosuch://a cannot be used \(.*\); sqlite:///mlruns.db"):
        sinks.sinks(load("small.yaml"), here, mlflow="nosuch://a")


def test_names_of_domains_are_logged_whatever_signs_they_have(here: Path) -> None:
    """MLflow takes letters, digits and a few signs in the name of a parameter: others become a line below."""
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("alembic", reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    store = f"sqlite:///{here / 'runs.db'}"
    made = load({"name": "small", "data": {"dataset": {"US$5": "npz:a.npz", "b": "npz:b.npz"}}})
    (live,) = sinks.sinks(made, here, mlflow=store)
    assert MlflowClient(store).get_run(live.run).data.params["data.dataset.US_5"] == "npz:a.npz"
