"""A comparison from the first run to the last: resumed, interrupted, with failures, over processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fedkt
from fedkt.cli.commands import app
from fedkt.comparing import campaign as compare_run
from fedkt.comparing.pool import run_here
from fedkt.errors import InputError, RunError
from tests.project.snippets import in_this_process

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"dataset": "digits", "partition": {"kind": "iid", "clients": 2, "samples_per_client": 20}}
    | {"transfer": {"from": "train", "size": 10}},
    "clients": {"local": {"epochs": 1}, "distill": {"epochs": 1}, "models": [{"name": "mlp", "width": 8}]},
    "rounds": 1,
}
PLUGINS = '''
import os
from fedkt.strategies.fd import FD

class Dies(FD):
    """Takes its process with it in the second round."""
    def fuse(self, contributions):
        os._exit(9)

class Raises(FD):
    """Has a mistake."""
    def fuse(self, contributions):
        raise ZeroDivisionError("a mistake")
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with plug-ins that fail; runs take place in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "failing.py").write_text(PLUGINS)
    monkeypatch.setattr(compare_run, "run_here", in_this_process)
    return tmp_path


def statuses(folder: Path) -> dict[str, str]:
    book = json.loads((folder / "comparison.json").read_text())
    return {f"{cell['method']} {cell['seed']}": cell["status"] for cell in book["cells"]}


def test_a_comparison_and_its_frames(here: Path) -> None:
    done = fedkt.compare(SMALL, "fd", [0, 1], out="c", overrides=["rounds=2"])
    assert isinstance(done, fedkt.Comparison) and set(statuses(here / "c").values()) == {"finished"}
    assert (here / "c/cells/small/fd/default/1/summary.json").is_file()
    assert len(done.runs) == 3 * 2 and len(done.rounds) == 12 and len(done.clients) == 24
    for frame in (done.runs, done.rounds, done.clients):
        assert list(frame.columns[:5]) == ["scenario", "condition", "method", "strategy", "seed"]
    first = done.runs[(done.runs["method"] == "fd") & (done.runs["seed"] == 1)].iloc[0]
    summary = json.loads((here / "c/cells/small/fd/default/1/summary.json").read_text())
    assert first["personal_mean"] == summary["accuracy"]["personal_mean"]
    assert first["bytes_up"] == summary["bytes"]["up"] > 0
    # The mean over clients of what each client ended with is what the summary says.
    ended = done.final[(done.final["method"] == "fd") & (done.final["seed"] == 1)]
    assert ended["personal"].mean() == pytest.approx(summary["accuracy"]["personal_mean"], abs=1e-6)
    assert done.statistics["seeds"].tolist() == [2, 2, 2]
    assert (here / "c/tables/summary.md").read_text().count("\n") == 5


def test_all_strategies_start_alike(here: Path) -> None:
    """The same rows and models at a seed: after training alone in round 1, before anything was taught."""
    done = fedkt.compare(SMALL, "fd,knfu", [3], out="c")
    first = {
        method: group.sort_values("client")["before_digest"].tolist()
        for method, group in done.clients.groupby("method")
        if method in ("fd", "knfu")
    }
    alone = done.clients[done.clients["method"] == "local"].sort_values("client")["global"].tolist()
    assert first["fd"] == first["knfu"] == alone


def test_finished_runs_are_kept_and_others_added(here: Path) -> None:
    fedkt.compare(SMALL, "fd", "0", out="c")
    before = (here / "c/cells/small/fd/default/0/summary.json").stat().st_mtime_ns
    with pytest.raises(InputError, match="holds a comparison already"):
        fedkt.compare(SMALL, "fd", "0", out="c")
    done = fedkt.compare(SMALL, "fd,knfu", "0-1", out="c", resume=True)
    assert (here / "c/cells/small/fd/default/0/summary.json").stat().st_mtime_ns == before
    assert len(done.runs) == 4 * 2
    # What an earlier call planned stays, whatever a later one names.
    again = fedkt.compare(SMALL, "knfu", "1", out="c", resume=True)
    assert len(again.runs) == 4 * 2


def test_patience_ends_a_run_of_a_comparison_for_good(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first round is called the best of each run, so all end after three of five."""
    monkeypatch.setattr(
        "fedkt.engine.loop.loop.better", lambda best, number, *_: best or {"round": number, "validation": 1.0}
    )
    patient = {**SMALL, "rounds": 5, "patience": 2, "data": {**SMALL["data"], "validation": 0.2}}
    done = fedkt.compare(patient, "fd", "0", out="c")
    assert set(done.runs["rounds"]) == {3} and set(statuses(here / "c").values()) == {"finished"}
    ran = [file.stat().st_mtime_ns for file in sorted((here / "c").rglob("summary.json"))]
    fedkt.compare(patient, "fd", "0", out="c", resume=True)
    assert [file.stat().st_mtime_ns for file in sorted((here / "c").rglob("summary.json"))] == ran
    assert len(list((here / "c").glob("cells/small/*/default/0/confusion.json"))) == 3


def test_a_failed_run_is_shown_and_tried_again(here: Path) -> None:
    with pytest.raises(
        RunError, match=r"1 of 4 runs have no result.*failing:Raises seed 0: failed, .*a mistake"
    ):
        fedkt.compare(SMALL, "failing:Raises,fd", "0", out="c")
    assert statuses(here / "c") == {
        "local 0": "finished",
        "failing:Raises 0": "failed",
        "fd 0": "finished",
        "central 0": "finished",
    }
    (trace,) = (here / "c/failures").iterdir()
    assert "ZeroDivisionError" in trace.read_text()
    (here / "failing.py").write_text(
        PLUGINS.replace('raise ZeroDivisionError("a mistake")', "return super().fuse(contributions)")
    )
    del sys.modules["failing"]
    done = fedkt.compare(SMALL, "failing:Raises,fd", "0", out="c", resume=True)
    assert not done.problems and len(done.runs) == 4


def test_a_foreign_or_damaged_folder_is_named_and_left_alone(here: Path) -> None:
    fedkt.compare(SMALL, "fd,knfu", "0", out="c")
    damaged = here / "c/cells/small/fd/default/0/summary.json"
    damaged.write_text("{")
    foreign = here / "c/cells/small/knfu/default/1"
    foreign.mkdir(parents=True)
    (foreign / "diary.txt").write_text("mine")
    with pytest.raises(RunError, match="2 of 8 runs have no result") as caught:
        fedkt.compare(SMALL, "fd,knfu", "0-1", out="c", resume=True)
    assert "foreign" in str(caught.value)
    assert damaged.read_text() == "{" and (foreign / "diary.txt").read_text() == "mine"
    done = fedkt.Comparison.read("c")
    assert len(done.runs) == 6
    assert any("summary.json is damaged" in problem for problem in done.problems)
    assert any("holds no run" in problem for problem in done.problems)


def test_a_folder_that_holds_no_comparison_is_refused(here: Path) -> None:
    (here / "notes").mkdir()
    (here / "notes/x.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no comparison; name another"):
        fedkt.compare(SMALL, "fd", "0", out="notes")
    with pytest.raises(InputError, match="no comparison to resume"):
        fedkt.compare(SMALL, "fd", "0", out="new", resume=True)
    with pytest.raises(InputError, match="no comparison's folder"):
        fedkt.Comparison.read("notes")


def test_settings_are_chosen_on_validation_rows(here: Path) -> None:
    done = fedkt.compare(
        SMALL,
        "fd",
        "0-1",
        overrides=["data.validation=0.5", "rounds=2"],
        tune=["clients.local.lr=1e-9,0.05"],
        out="c",
    )
    tuning = done.tuning
    assert len(tuning) == 6 and tuning["seeds"].tolist() == [2] * 6  # 3 methods, 2 settings: the same for all
    for _, group in tuning.groupby("method"):
        assert group.loc[group["chosen"], "validation"].tolist() == [group["validation"].max()]
    chosen = tuning[tuning["chosen"]].set_index("method")["tried"].to_dict()
    assert done.runs.groupby("method")["tried"].unique().map(list).to_dict() == {
        method: [tried] for method, tried in chosen.items()
    }
    rows = Path("c/cells/small/fd/lr=0.05/0/clients.jsonl").read_text().splitlines()
    last = [json.loads(row)["validation"] for row in rows][-2:]
    rows = Path("c/cells/small/fd/lr=0.05/1/clients.jsonl").read_text().splitlines()
    last += [json.loads(row)["validation"] for row in rows][-2:]
    found = tuning[(tuning["method"] == "fd") & (tuning["tried"] == "lr=0.05")]["validation"]
    assert found.tolist() == pytest.approx([sum(last) / 4])


def test_wrong_input_is_told_at_once(here: Path) -> None:
    ended = CliRunner().invoke(
        app, ["compare", "quickstart", "--strategies", "knfu,knfu", "--seeds", "x", "--metric", "auc"]
    )
    assert ended.exit_code == 2 and ended.stdout == ""
    told = ended.stderr
    assert "named twice" in told and "--seeds is 'x'" in told and "--metric is 'auc'" in told
    ended = CliRunner().invoke(app, ["compare", "quickstart", "--strategies", "fedavg,fd"])
    assert ended.exit_code == 2
    assert "fedavg cannot run on quickstart" in ended.stderr and "--skip-impossible" in ended.stderr
    assert not (here / "runs").exists()


def test_the_command_prints_a_table(here: Path) -> None:
    (here / "small.yaml").write_text(json.dumps(SMALL))
    ended = CliRunner().invoke(app, ["compare", "small.yaml", "--strategies", "fd", "--out", "c"])
    assert ended.exit_code == 0, ended.output
    assert "[3/3] small central seed 0" in ended.stdout and "worst tenth" in ended.stdout


# Processes -------------------------------------------------------------------------------------------


def job(folder: Path, strategy: str, **more: Any) -> dict[str, Any]:
    # Without what fd has no use for, which a run by itself refuses.
    clients = {key: value for key, value in SMALL["clients"].items() if key != "distill"}
    scenario = SMALL | {"strategy": {"name": strategy}, "clients": clients} | more
    return {"scenario": scenario, "out": str(folder / strategy), "resume": False, "data_dir": None}


@pytest.mark.slow
def test_a_process_that_dies_fails_its_run_alone(here: Path) -> None:
    told = list(run_here([job(here, "failing:Dies"), job(here, "fd")], workers=1))
    ends = {number: event for number, event in told if event["event"] in ("done", "failed")}
    assert ends[0]["error"].startswith("its process ended with status 9")
    assert ends[1]["event"] == "done" and ends[1]["seconds"] > 0
    assert (here / "fd/summary.json").is_file()


@pytest.mark.slow
def test_kill_9_and_resume_give_the_same_as_without(tmp_path: Path) -> None:
    """An interrupted comparison ends with the bits of an uninterrupted one."""
    (tmp_path / "small.yaml").write_text(json.dumps(SMALL | {"rounds": 12}))
    command = [sys.executable, "-c", "from fedkt.cli import main; main()", "compare", "small.yaml"]
    command += ["--strategies", "fd,knfu", "--seeds", "0-1", "--jobs", "2", "--out"]
    subprocess.run([*command, "whole"], cwd=tmp_path, check=True, capture_output=True)
    begun = subprocess.Popen([*command, "cut"], cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True)
    while not list(tmp_path.glob("cut/cells/small/*/default/0/rounds.jsonl")):
        time.sleep(0.02)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    time.sleep(3)  # its workers notice at the end of their round that nobody listens
    subprocess.run([*command, "cut", "--resume"], cwd=tmp_path, check=True, capture_output=True)
    for one in tmp_path.glob("whole/cells/*/*/*/*/summary.json"):
        other = tmp_path / "cut" / one.relative_to(tmp_path / "whole")
        first, second = json.loads(one.read_text()), json.loads(other.read_text())
        assert first["accuracy"] == second["accuracy"] and first["bytes"] == second["bytes"]


@pytest.mark.slow
def test_runs_on_a_cluster_come_back(tmp_path: Path) -> None:
    import ray

    from fedkt.comparing.on_cluster import run_there
    from fedkt.scenario import Engine

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        told = list(run_there([job(tmp_path, "fd"), job(tmp_path, "no-such")], Engine(kind="inline")))
    finally:
        ray.shutdown()
    ends = {number: event for number, event in told if event["event"] in ("done", "failed")}
    assert ends[0]["event"] == "done" and "no-such" in ends[1]["error"]
    assert fedkt.Result.read(tmp_path / "fd").summary["rounds"] == 1
