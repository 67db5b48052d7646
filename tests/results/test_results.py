"""The run's folder, what is read from it, drawn and exported."""

import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import fedkt
from fedkt.errors import InputError
from fedkt.results.curve import _apart, _points, draw_accuracy
from fedkt.results.folder import RunFolder, read_rows, unused_path
from fedkt.results.progress import Progress, closing_table, round_text
from fedkt.results.result import Result, clock, size_text
from fedkt.scenario import Scenario, load

SUMMARY: dict[str, Any] = {
    "scenario": "try",
    "strategy": "knfu",
    "engine": "inline",
    "seed": 0,
    "rounds": 2,
    "clients": 5,
    "accuracy": {"global_mean": 0.5, "global_std": 0.1, "personal_mean": 0.755, "personal_std": 0.02},
    "bytes": {"up": 20_000, "down": 40_000},
    "privacy": {"mode": "none", "statement": "No guarantee."},
    "time": {"wall_s": 4.0, "startup_s": 1.5, "client_updates": 10, "client_updates_per_s": 2.5},
    "replies": {"accepted": 9, "rejected": 0, "late": 1, "declined": 0, "failed": 0},
}


def a_scenario(*overrides: str) -> Scenario:
    return load({"name": "try"}, overrides)


def a_round(number: int, personal: float | None = 0.5) -> dict[str, Any]:
    accuracy = None
    if personal is not None:
        accuracy = {"personal_mean": personal, "personal_std": 0.1, "global_mean": 0.25, "global_std": None}
    return {
        "round": number,
        "status": "fused",
        "accuracy": accuracy,
        "bytes": {"up": 1500, "down": 700},
        "replies": {"accepted": 3, "rejected": 0, "late": 1, "declined": 0, "failed": 0},
        "wall_s": 0.25,
        "report": {},
    }


def a_client(number: int, client: int, **more: Any) -> dict[str, Any]:
    return {"round": number, "client": client, "status": "accepted", "global": 0.5, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    opened = RunFolder.create(tmp_path / "run", a_scenario(), resume=False)
    yield opened
    opened.close()


def refusal(path: Path | None, scenario: Scenario, resume: bool) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(InputError) as caught:
        RunFolder.create(path, scenario, resume)
    (problem,) = caught.value.problems
    return problem


def test_a_new_folder_holds_the_resolved_scenario_and_the_environment(folder: RunFolder) -> None:
    assert load(folder.path / "scenario.yaml") == a_scenario()
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["run"] == folder.run and int(folder.run, 16) > 0 and len(folder.run) == 32
    assert environment["versions"]["fedkt"] == fedkt.__version__
    assert environment["versions"]["torch"] and environment["command"] == sys.argv
    assert folder.checkpoint == folder.path / "checkpoint"


def test_without_a_path_the_folder_is_named_after_scenario_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20260102-030405")
    assert unused_path("try") == Path("runs/try-20260102-030405")
    RunFolder.create(None, a_scenario(), resume=False).close()
    assert unused_path("try") == Path("runs/try-20260102-030405-2")
    assert (tmp_path / "runs" / "try-20260102-030405" / "scenario.yaml").is_file()


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    problem = refusal(tmp_path, a_scenario(), resume=False)
    assert problem == f"{tmp_path} exists already and is not empty; name another folder with --out."
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "is a file" in refusal(tmp_path / "notes.txt", a_scenario(), resume=False)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, a_scenario(), resume=False).close()
    assert "continue its run with --resume" in refusal(tmp_path, a_scenario(), resume=False)


def test_a_resumed_run_keeps_its_id_and_may_change_the_engine(tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path / "run", a_scenario(), resume=False)
    first.close()
    again = RunFolder.create(first.path, a_scenario("engine.kind=inline", "engine.workers=1"), resume=True)
    again.close()
    assert again.run == first.run
    assert load(first.path / "scenario.yaml").engine.kind == "inline"
    assert json.loads((first.path / "environment.json").read_text())["resumed"]


def test_a_changed_scenario_is_refused_with_what_changed(folder: RunFolder) -> None:
    folder.close()
    before = (folder.path / "scenario.yaml").read_bytes()
    changed = a_scenario("data.partition.alpha=0.1", "strategy={name: fedmd}", "engine.kind=inline")
    problem = refusal(folder.path, changed, resume=True)
    assert '(data.partition.alpha was 0.5 and is 0.1, strategy.name was "dwc" and is "fedmd")' in problem
    assert (folder.path / "scenario.yaml").read_bytes() == before
    many = a_scenario("seed=3", "rounds=4", "data.validation=0.1", "data.target=y>0", "clients.local.lr=1")
    assert "2 more changed" in refusal(folder.path, many, resume=True)


def test_resuming_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "name the run's folder with --out" in refusal(None, a_scenario(), resume=True)
    assert "does not exist" in refusal(tmp_path / "no", a_scenario(), resume=True)
    assert not (tmp_path / "no").exists()
    assert "holds no run" in refusal(tmp_path, a_scenario(), resume=True)
    assert list(tmp_path.iterdir()) == []


def test_a_run_killed_before_its_scenario_was_written_can_be_resumed(folder: RunFolder) -> None:
    folder.close()
    (folder.path / "scenario.yaml").unlink()
    (folder.path / ".scenario.yaml.17.tmp").write_text("name: t")
    again = RunFolder.create(folder.path, a_scenario(), resume=True)
    again.close()
    assert load(folder.path / "scenario.yaml") == a_scenario()


def test_a_damaged_environment_is_refused(folder: RunFolder) -> None:
    folder.close()
    (folder.path / "environment.json").write_text("[]")
    assert "it is damaged" in refusal(folder.path, a_scenario(), resume=True)


def test_a_second_process_is_refused_until_the_first_ends(folder: RunFolder) -> None:
    code = (
        "import sys; from pathlib import Path; from fedkt.results.folder import RunFolder\n"
        "from fedkt.scenario import load; from fedkt.errors import InputError\n"
        "try: RunFolder.create(Path(sys.argv[1]), load({'name': 'try'}), True); print('taken')\n"
        "except InputError as error: print(error)"
    )

    def second() -> str:
        command = [sys.executable, "-c", code, str(folder.path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "is in use by another process" in second()
    folder.close()
    assert second() == "taken\n"


def test_rows_are_appended_and_cut_back(folder: RunFolder) -> None:
    for number in (1, 2, 3):
        folder.append(a_round(number), [a_client(number, 0), a_client(number, 1)])
    with open(folder.path / "clients.jsonl", "a") as file:
        file.write('{"round": 4, "cli')  # as a crash leaves it
    rounds, clients = folder.rows()
    assert (len(rounds), len(clients)) == (3, 6)
    folder.truncate(2)
    rounds, clients = folder.rows()
    assert [row["round"] for row in rounds] == [1, 2]
    assert [(row["round"], row["client"]) for row in clients] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert (folder.path / "clients.jsonl").read_text().endswith("}\n")
    folder.truncate(0)
    assert folder.rows() == ([], [])


def test_undefined_numbers_become_null(folder: RunFolder) -> None:
    import numpy as np

    client = {"round": 1, "client": 0, "global": float("nan"), "auc": [float("inf"), np.float32(0.5)]}
    folder.append({"round": 1, "bytes": {"up": np.int64(3)}}, [client])
    assert folder.rows() == (
        [{"round": 1, "bytes": {"up": 3}}],
        [{"round": 1, "client": 0, "global": None, "auc": [None, 0.5]}],
    )


@pytest.mark.usefixtures("drawn")
def test_finish_writes_summary_and_picture(folder: RunFolder) -> None:
    folder.append(a_round(1), [a_client(1, 0)])
    folder.finish({**SUMMARY, "extra": float("nan")})
    assert json.loads((folder.path / "summary.json").read_text())["extra"] is None
    assert (folder.path / "accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("drawn")
def test_a_result_is_read_back_as_frames(folder: RunFolder) -> None:
    folder.append(a_round(1, None), [a_client(1, 0), a_client(1, 1)])
    folder.append(a_round(2, 0.75), [a_client(2, 0), a_client(2, 1)])
    folder.finish(SUMMARY)
    result = Result.read(folder.path)
    assert result.summary["accuracy"]["personal_mean"] == 0.755
    assert result.rounds["round"].tolist() == [1, 2]
    assert "accuracy" not in result.rounds
    assert result.rounds["accuracy.personal_mean"].isna().tolist() == [True, False]
    assert result.rounds["accuracy.personal_mean"][1] == 0.75
    assert result.clients["client"].tolist() == [0, 1, 0, 1]
    page = result._repr_html_()
    assert "75.5 ± 2.0 %" in page and "data:image/png;base64," in page


def test_an_unfinished_run_can_be_read(folder: RunFolder) -> None:
    result = Result.read(str(folder.path))
    assert result.summary == {} and len(result.rounds) == 0
    assert "not finished" in result._repr_html_()


def test_what_is_no_run_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no run's folder; it must be one that fedkt simulate made"):
        Result.read(tmp_path)


def test_the_picture_shows_only_what_was_measured(tmp_path: Path) -> None:
    rows = [a_round(1, None), a_round(2, 0.5), a_round(3, 0.75)]
    assert _points(rows, "personal", 100) == [(2, 50.0, 10.0), (3, 75.0, 10.0)]
    assert _points(rows, "global", 100) == [(2, 25.0, 0.0), (3, 25.0, 0.0)]
    draw_accuracy([a_round(1, None)], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_labels_of_the_picture_keep_their_distance() -> None:
    assert _apart([80.0, 20.0], 6, 0, 100) == [80.0, 20.0]
    assert _apart([50.0, 52.0], 6, 0, 100) == [45.0, 57.0]
    low, high = _apart([99.0, 100.0], 6, 0, 100)
    assert high - low == 12 and high <= 100


def watched(terminal: bool) -> str:
    out = StringIO()
    progress = Progress(Console(file=out, force_terminal=terminal, width=60))
    progress.started(
        {"name": "a[b]", "strategy": "knfu", "engine": "ray", "clients": 4, "rounds": 12, "round": 10}
    )
    for number in (11, 12):  # of one round nobody can tell how long the next ones take
        progress.asked(number, "train", 4)
        progress.replied(number, "train")
        progress.round_done(a_round(number, None if number == 11 else 0.5), [])
    progress.finished(SUMMARY)
    progress.close()
    return out.getvalue()


def test_elsewhere_than_in_a_terminal_each_round_is_one_plain_line() -> None:
    lines = watched(terminal=False).splitlines()
    assert len(lines) == 3
    assert lines[0] == "a[b]: knfu over 4 clients, 12 rounds, engine ray, resumed after round 10"
    assert lines[1].startswith("round 11/12  up 1.5 kB, down 700 B  1 late  0.2 s") and "left" not in lines[1]
    assert lines[2] == "round 12/12  personal  50.0 %  global  25.0 %  up 1.5 kB, down 700 B  1 late  0.2 s"


def test_the_time_left_is_told_by_the_median_of_recent_rounds_from_the_second_on() -> None:
    """Rounds of 600, 2, 4, 3, 2 and 3 s: the first warms up and is forgotten after five others."""
    out = StringIO()
    progress = Progress(Console(file=out, width=200))
    progress.started({"name": "a", "strategy": "b", "engine": "ray", "clients": 4, "rounds": 26, "round": 0})
    for number, seconds in enumerate((600.0, 2.0, 4.0, 3.0, 2.0, 3.0), 1):
        progress.round_done({**a_round(number, None), "wall_s": seconds}, [])
    left = [line.partition(" s  ")[2] for line in out.getvalue().splitlines()[1:]]
    # 24 · 301 s, 23 · 4 s, 22 · 3.5 s, 21 · 3 s, 20 · 3 s
    assert left == ["", "120:24 left", "1:32 left", "1:17 left", "1:03 left", "1:00 left"]


def test_a_terminal_gets_a_live_line_that_is_taken_away() -> None:
    assert "\x1b[" in watched(terminal=True) and "a[b]" in watched(terminal=True)


def test_a_round_without_quorum_is_told() -> None:
    assert round_text({**a_round(1), "status": "no-quorum"}).endswith("no quorum  1 late")


def test_the_closing_table(folder: RunFolder) -> None:
    folder.finish(SUMMARY)
    out = StringIO()
    closing_table(Result.read(folder.path), Console(file=out, width=200))
    text = out.getvalue()
    # 20 kB up over 2 rounds and 5 clients
    for part in ("knfu", "75.5 ± 2.0 %", "50.0 ± 10.0 %", "20.0 kB, 2.0 kB per client and round"):
        assert part in text
    assert "9 accepted, 1 late" in text and str(folder.path) in text
    # What passed before the first round is told apart from the rounds, which client updates are counted by.
    assert "4.0 s of rounds, after 1.5 s to start; 2.5 client updates per second" in text


def test_sizes_and_times_for_reading() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 12_345_678)] == ["0 B", "999 B", "1.0 kB", "12.3 MB"]
    assert [clock(s) for s in (5, 65, 3600)] == ["0:05", "1:05", "60:00"]


def test_read_rows_of_a_missing_file(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "rounds.jsonl") == []


# Export ---------------------------------------------------------------------------------------------


PLAIN = {"missing": None, "standardise": False, "normalise": None, "resized": False, "rounded": False}
IMAGES = {
    "input": {"kind": "image", "shape": [1, 8, 8], "vocabulary": 0},
    "prepare": {**PLAIN, "pixels": "uint8"},
    "classes": 3,
    "labels": None,
    "columns": None,
}


@pytest.fixture
def trained(folder: RunFolder) -> RunFolder:
    """A run of two finished rounds, and a client's state of a third one that was interrupted."""
    from fedkt.client.state import ClientState, DiskStore
    from fedkt.data.sets.dataset import InputSpec
    from fedkt.files import write_json
    from fedkt.models import build

    write_json(folder.path / "model-input.json", IMAGES)
    spec = ("mlp", {"width": 5})
    store = DiskStore(folder.checkpoint / "clients")
    for number in (2, 3):
        net = build(spec, InputSpec("image", (1, 8, 8)), 3, seed=number)
        tensors = {f"model/{name}": tensor for name, tensor in net.state_dict().items()}
        tensors["teacher/logits"] = next(iter(tensors.values()))
        store.save("7", 2 * number, ClientState(tensors, {"model": spec}), kept=0)
    for number in (1, 2):
        folder.append(a_round(number), [])
    return folder


def test_an_exported_model_is_that_of_the_last_finished_round(trained: RunFolder, tmp_path: Path) -> None:
    import torch

    from fedkt.data.sets.dataset import InputSpec
    from fedkt.models import build
    from fedkt.results.export import export

    export(trained.path, "7", tmp_path / "model")
    about = json.loads((tmp_path / "model" / "model.json").read_text())
    assert about == {
        "model": "mlp",
        "settings": {"width": 5},
        **IMAGES,
        "statistics": None,
        "fedkt": fedkt.__version__,
        "run": trained.run,
        "client": "7",
        "round": 2,
        "width": 5,
    }
    loaded = fedkt.load_model(tmp_path / "model")
    expected = build(("mlp", {"width": 5}), InputSpec("image", (1, 8, 8)), 3, seed=2)
    x = torch.ones(2, 1, 8, 8)
    assert not loaded.training and torch.equal(loaded(x)[1], expected(x)[1])


def test_export_refuses_what_is_not_there_and_what_is(trained: RunFolder, tmp_path: Path) -> None:
    from fedkt.results.export import export

    with pytest.raises(InputError, match=r"has no model of client '\.\./7'; its clients are 7\."):
        export(trained.path, "../7", tmp_path / "model")
    trained.truncate(0)
    with pytest.raises(InputError, match="no round of it has ended yet"):
        export(trained.path, "7", tmp_path / "model")
    assert not (tmp_path / "model").exists()
    trained.append(a_round(2), [])
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").touch()
    with pytest.raises(InputError, match="exists already and is not empty"):
        export(trained.path, "7", tmp_path / "model")


def test_a_damaged_model_is_refused(trained: RunFolder, tmp_path: Path) -> None:
    from fedkt.results.export import export

    with pytest.raises(InputError, match="holds no exported model"):
        fedkt.load_model(tmp_path)
    out = export(trained.path, "7", tmp_path / "model")
    (out / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="export it again"):
        fedkt.load_model(out)
