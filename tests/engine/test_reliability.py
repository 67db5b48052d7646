"""What can go wrong around a run: damaged files, a full disk, a changed clock, clients that withdraw."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import fedkt
from fedkt.cli.commands import app
from fedkt.engine.forgetting.withdrawal import forget
from fedkt.engine.loop import checkpoint
from fedkt.engine.runs.run import simulate
from fedkt.errors import InputError, RunError
from fedkt.files import read_tensors, write_tensors
from fedkt.results.observer import Silent
from tests.engine.test_engine import final_states, rows

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {
        "partition": {"kind": "iid", "clients": 4, "samples_per_client": 20},
        "transfer": {"from": "train", "size": 30},
    },
    "clients": {"models": [{"name": "mlp", "width": 8}], "local": {"epochs": 1}, "distill": {"epochs": 1}},
    "strategy": {"name": "knfu"},
    "rounds": 4,
    "engine": {"kind": "inline"},
}


def run(out: Path, *, resume: bool = False, **more: Any) -> Any:
    return fedkt.simulate(fedkt.scenario.load({**SMALL, **more}, several=True), out=out, resume=resume)


def flip(file: Path, at: float) -> None:
    """Flip one bit of a file; ``at``: where, as a share of its length."""
    data = bytearray(file.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    file.write_bytes(data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder)
    return folder


# ---- files


def test_one_flipped_bit_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write_tensors(
        file, {"x": torch.arange(100.0), "empty": torch.zeros(0), "one": torch.tensor(3)}, {"a": [1]}
    )
    tensors, note = read_tensors(file)
    assert (tensors["x"][99].item(), tensors["one"].item(), note) == (99.0, 3, {"a": [1]})
    good = file.read_bytes()
    seen = 0
    for at in range(len(good)):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            changed, told = read_tensors(file)
        except Exception:
            seen += 1
            continue
        # What is not seen is not content: blanks that pad the header.
        assert told == note
        assert all(torch.equal(changed[name], tensors[name]) for name in tensors)
    assert seen > len(good) - 64


def damaged(folder: Path, whole: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Resume and return what was said; the end must be that of the run that nothing happened to."""
    run(folder, resume=True)
    assert final_states(folder) == final_states(whole)
    assert rows(folder) == rows(whole)
    return caplog.text


def test_a_damaged_checkpoint_is_seen_and_the_one_before_is_used(
    tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path / "run")
    flip(tmp_path / "run" / "checkpoint" / "round-000004.safetensors", 0.9)
    said = damaged(tmp_path / "run", whole, caplog)
    assert "round-000004.safetensors cannot be used (its content does not match its checksum)" in said


def test_a_damaged_state_of_a_client_is_seen_and_the_checkpoint_before_is_used(
    tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path / "run")
    flip(max((tmp_path / "run" / "checkpoint" / "clients" / "2").glob("*.safetensors")), 0.9)
    said = damaged(tmp_path / "run", whole, caplog)
    assert "round-000004.safetensors cannot be used (the state of client 2 is damaged" in said


def test_nothing_is_resumed_from_damaged_files_alone(tmp_path: Path) -> None:
    run(tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoint").glob("round-*.safetensors"):
        flip(file, 0.9)
    with pytest.raises(InputError, match=r"all checkpoints in .* are damaged; start a new run"):
        run(tmp_path / "run", resume=True)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "run", rounds=1)
    file = checkpoint.path(tmp_path / "run" / "checkpoint", 1)
    tensors, note = read_tensors(file)
    write_tensors(file, tensors, {**note, "format": checkpoint.FORMAT + 1})
    with pytest.raises(InputError, match="this fedkt reads up to 1, so upgrade it"):
        run(tmp_path / "run", resume=True, rounds=1)


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    run(tmp_path / "run")
    left = tmp_path / "run" / "checkpoint" / "clients" / "1" / ".00000009.safetensors.4711.tmp"
    left.write_bytes(b"half")
    run(tmp_path / "run", resume=True)
    assert not left.exists()


# ---- the machine


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(tmp_path: Path, whole: Path) -> None:
    class FillsUp(Silent):
        def round_done(self, row: Any, clients: Any) -> None:
            if row["round"] == 2:  # every write to it says that no space is left
                lines = tmp_path / "run" / "rounds.jsonl"
                lines.rename(tmp_path / "kept.jsonl")
                lines.symlink_to("/dev/full")

    with pytest.raises(RunError) as raised:
        simulate(fedkt.scenario.load(SMALL), out=tmp_path / "run", observer=FillsUp())
    assert str(raised.value) == (
        f"{tmp_path / 'run'} cannot be written (No space left on device); what is done is kept: make room, "
        "or writable, and continue with --resume."
    )
    (tmp_path / "run" / "rounds.jsonl").unlink()
    (tmp_path / "kept.jsonl").rename(tmp_path / "run" / "rounds.jsonl")
    run(tmp_path / "run", resume=True)
    assert final_states(tmp_path / "run") == final_states(whole)
    assert rows(tmp_path / "run") == rows(whole)


def test_an_unwritable_folder_is_refused_before_anything_runs() -> None:
    with pytest.raises(
        InputError, match=r"/proc/run cannot be written \(.*\); name another folder with --out"
    ):
        run(Path("/proc/run"))


def test_a_changed_clock_changes_nothing(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter(range(10**9))
    real = time.time
    # A day forward, a day back, and so on.
    monkeypatch.setattr(time, "time", lambda: real() + (86400 if next(jumps) % 2 else -86400))
    run(tmp_path / "run")
    assert final_states(tmp_path / "run") == final_states(whole)
    assert (fedkt.Result.read(tmp_path / "run").rounds["wall_s"] < 600).all()


@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_long_run_holds_no_more_than_a_short_one(engine: str) -> None:
    """A short version of ``python -m benchmarks.reliability soak``."""
    measured = pytest.importorskip("benchmarks.reliability", reason="benchmarks are in the checkout only")
    assert measured.soak(rounds=40, clients=4, engine=engine)


@pytest.mark.slow
def test_rounds_close_while_clients_processes_die() -> None:
    """A short version of ``python -m benchmarks.reliability deaths``."""
    measured = pytest.importorskip("benchmarks.reliability", reason="benchmarks are in the checkout only")
    assert measured.deaths(rounds=3, seed=0, deadline_s=30)


# ---- withdrawal


def test_a_client_is_forgotten_as_if_it_had_never_been_asked(tmp_path: Path, whole: Path) -> None:
    done = forget(whole, "2", out=tmp_path / "without")
    result = done.result
    assert done.start == 0
    never = run(tmp_path / "never", participation={"withdrawn": {"2": 1}})
    assert final_states(tmp_path / "without") == final_states(tmp_path / "never")
    assert rows(tmp_path / "without") == rows(tmp_path / "never")
    assert set(result.clients["client"]) == {0, 1, 3}
    assert never.summary["accuracy"] == result.summary["accuracy"]
    assert final_states(tmp_path / "without") != final_states(whole)


def test_a_replay_starts_from_the_checkpoint_before_it_came(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("client,first,last\n2,4,9\n")
    late: dict[str, Any] = {"churn": {"trace": str(tmp_path / "trace.csv")}}
    run(tmp_path / "run", **late)
    done = forget(tmp_path / "run", "2")
    result = done.result
    assert done.start == 3
    assert result.path == tmp_path / "run-without-2"
    run(tmp_path / "never", **late, participation={"withdrawn": {"2": 4}})
    assert final_states(result.path) == final_states(tmp_path / "never")
    assert rows(result.path) == rows(tmp_path / "never")
    assert not (result.path / "checkpoint" / "clients" / "2").exists()


def test_what_cannot_be_forgotten_is_said(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(InputError, match=r"client '9' took no part in .*; those who did are 0, 1, 2, 3"):
        forget(whole, "9")
    with pytest.raises(InputError, match="is no run's folder"):
        forget(tmp_path, "1")
    run(tmp_path / "central", rounds=1, strategy={"name": "central"})
    with pytest.raises(InputError, match="strategy 'central' pools all data"):
        forget(tmp_path / "central", "1")
    with pytest.raises(InputError, match="exists already"):
        forget(whole, "1", out=whole)


def test_the_command_forgets(tmp_path: Path, whole: Path) -> None:
    done = CliRunner().invoke(
        app, ["forget", str(whole), "--client", "3", "--out", str(tmp_path / "new"), "--quiet"]
    )
    assert done.exit_code == 0, done.output
    assert "was run from the beginning without client 3 and all it contributed" in done.output
    assert "delete it" in done.output
    assert json.loads((tmp_path / "new" / "summary.json").read_text())["replies"]["accepted"] == 12
