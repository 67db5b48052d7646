"""One scenario through the engines: same bits, resume, failures, the run folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import fedkt
from fedkt.engine.loop import checkpoint
from fedkt.engine.loop.loop import Loop
from fedkt.engine.runtimes import forked
from fedkt.errors import InputError, RunError
from fedkt.files import read_tensors
from fedkt.results.folder import LINES, read_rows

SMALL = {
    "name": "small",
    "data": {
        "partition": {"kind": "dirichlet", "alpha": 0.5, "clients": 4, "samples_per_client": 40},
        "transfer": {"from": "train", "size": 60},
    },
    "clients": {
        "models": [{"name": "mlp", "width": 16}, {"name": "cnn", "width": 16, "dropout": 0.2}],
        "local": {"epochs": 1},
        "distill": {"epochs": 1},
    },
    "strategy": {"name": "knfu"},
    "rounds": 3,
    "engine": {"kind": "inline"},
}


def run(out: Path, *overrides: str, resume: bool = False) -> Any:
    return fedkt.simulate(SMALL, overrides, out=out, resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give the folder of an undisturbed run with these overrides, which is made once."""
    made: dict[tuple[str, ...], Path] = {}

    def of(*overrides: str) -> Path:
        if overrides not in made:
            made[overrides] = tmp_path_factory.mktemp("whole") / "run"
            run(made[overrides], *overrides)
        return made[overrides]

    return of


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """A Ray for all tests that ask for it: each of its own would take seconds to start."""
    from fedkt.engine.runtimes.cluster import ray_session
    from fedkt.scenario import Engine

    with ray_session(Engine(workers=3)):
        yield


def _process(app: Any) -> int:
    return os.getpid()


def final_states(folder: Path) -> dict[str, bytes]:
    """Every tensor of every client's newest state and of the server's newest checkpoint."""
    found: dict[str, bytes] = {}
    for client in sorted((folder / "checkpoint" / "clients").iterdir()):
        tensors, note = read_tensors(max(client.glob("*.safetensors")))
        found |= {f"{client.name}/{name}": t.numpy().tobytes() for name, t in tensors.items()}
        del note["kept"]  # how far back a resume may start: less far after one from a damaged checkpoint
        found[f"{client.name}/note"] = json.dumps(note, sort_keys=True).encode()
    tensors, note = read_tensors(max((folder / "checkpoint").glob("round-*.safetensors")))
    del note["loop"]["wall_s"], note["loop"]["startup_s"]
    del note["engine"]  # who trained where, which is not the same in every engine
    found |= {f"server/{name}": t.numpy().tobytes() for name, t in tensors.items()}
    found["server/note"] = json.dumps(note, sort_keys=True).encode()
    return found


def rows(folder: Path) -> list[Any]:
    """All lines of the run without what is measured by the clock."""
    lines = [row for name in LINES for row in read_rows(folder / name)]
    return [{k: v for k, v in row.items() if k != "wall_s"} for row in lines]


@pytest.mark.usefixtures("drawn")
def test_the_run_folder_holds_what_the_contract_says(tmp_path: Path) -> None:
    result = run(tmp_path / "run")
    held = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"scenario.yaml", "environment.json", "rounds.jsonl", "clients.jsonl", "summary.json"} <= held
    assert {"checkpoint", "accuracy.png"} <= held
    assert list(result.rounds["round"]) == [1, 2, 3]
    assert len(result.clients) == 3 * 4
    assert {"round", "client", "status", "global", "personal", "before_digest", "epsilon"} <= set(
        result.clients
    )
    summary = result.summary
    assert summary["clients"] == 4 and summary["rounds"] == 3
    assert summary["time"]["client_updates"] == 12 and summary["time"]["startup_s"] > 0
    # 4 clients x 3 rounds, 60 x 10 float32 and a header of 128 bytes, in each direction.
    assert summary["bytes"] == {"up": 12 * (2400 + 128), "down": 12 * (2400 + 128)}
    assert summary["replies"] == {"accepted": 12, "rejected": 0, "late": 0, "declined": 0, "failed": 0}
    assert summary["accuracy"]["personal_mean"] == pytest.approx(result.clients["personal"][-4:].mean())


def test_flowers_engine_gives_the_same_bits(tmp_path: Path, whole: Callable[..., Path]) -> None:
    run(tmp_path / "flower", "engine={kind: flower, workers: 2}")
    assert final_states(tmp_path / "flower") == final_states(whole())
    assert rows(tmp_path / "flower") == rows(whole())


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_processes_gives_the_same_bits(
    tmp_path: Path, whole: Callable[..., Path], workers: int
) -> None:
    run(tmp_path / "many", f"engine={{kind: processes, workers: {workers}}}")
    assert final_states(tmp_path / "many") == final_states(whole())
    assert rows(tmp_path / "many") == rows(whole())


@pytest.mark.slow
def test_a_process_that_cannot_be_forked_is_begun_anew_with_the_same_bits(
    tmp_path: Path, whole: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "can_fork", lambda: False)
    run(tmp_path / "anew", "engine={kind: processes, workers: 2}")
    assert final_states(tmp_path / "anew") == final_states(whole())


@pytest.mark.parametrize(
    ("kind", "moment", "round_"),
    [
        ("processes", "trained", 2),
        *(
            pytest.param(kind, moment, round_, marks=pytest.mark.slow)
            for kind in ("processes", "ray")
            for moment in ("states written", "states on their way", "trained", "taught")
            for round_ in (1, 2, 3)
            if (kind, moment, round_) != ("processes", "trained", 2)
        ),
    ],
)
def test_a_killed_process_loses_nothing(
    tmp_path: Path,
    whole: Callable[..., Path],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    moment: str,
    round_: int,
) -> None:
    """Whenever it dies: what its clients had learned since their states were written is learned again."""
    from fedkt.engine.runtimes.resident import ResidentGrid

    saved, exchange, killed = ResidentGrid.saved, Loop._exchange, []
    flushes: list[Any] = []

    if kind == "ray":
        request.getfixturevalue("one_ray")

    def kill(grid: Any) -> None:
        killed.append(grid)
        line = grid._parts[0].line
        if kind == "ray":
            ray.kill(line.actor)
        else:
            os.kill(line.finish(line.begin("call", _process)), signal.SIGKILL)

    def saved_then_killed(self: Any, *functions: Any) -> Any:
        found, wait = saved(self, *functions)
        flushes.append(wait)
        if len(flushes) == round_ and "states" in moment:
            if moment == "states written":
                assert wait()
            kill(self)
        return found, wait

    def exchanged_then_killed(self: Loop, grid: Any, number: int, stage: str, messages: Any) -> Any:
        replies = exchange(self, grid, number, stage, messages)
        if number == round_ and (stage, moment) in (("train", "trained"), ("evaluate", "taught")):
            kill(grid)
        return replies

    with monkeypatch.context() as patch:
        patch.setattr(ResidentGrid, "saved", saved_then_killed)
        patch.setattr(Loop, "_exchange", exchanged_then_killed)
        run(tmp_path / "killed", f"engine={{kind: {kind}, workers: 2}}")
    assert len(killed) == 1
    assert final_states(tmp_path / "killed") == final_states(whole())
    assert rows(tmp_path / "killed") == rows(whole())
    assert checkpoint.read(tmp_path / "killed" / "checkpoint").round == 3


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_any_number_of_ray_actors_gives_the_same_bits(
    tmp_path: Path, whole: Callable[..., Path], one_ray: None, workers: int
) -> None:
    run(tmp_path / "ray", f"engine={{kind: ray, workers: {workers}}}")
    assert final_states(tmp_path / "ray") == final_states(whole())
    assert rows(tmp_path / "ray") == rows(whole())


def test_work_is_balanced() -> None:
    from fedkt.engine.world.placement import balanced

    # 9 | 7; then 5 to the 7 (12), 4 to the 9 (13), 2 to the 12 (14).
    assert balanced([9, 7, 5, 4, 2], 2) == [[0, 3], [1, 2, 4]]
    assert balanced([1], 3) == [[0], [], []]


def test_a_seed_gives_the_same_run_twice_and_another_seed_another(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b")
    run(tmp_path / "c", "seed=1")
    assert final_states(tmp_path / "a") == final_states(tmp_path / "b")
    assert rows(tmp_path / "a") != rows(tmp_path / "c")


class Killed(Exception):
    """Stands for a process that dies."""


@pytest.mark.parametrize("strategy", ["knfu", "fedproto", "fd", "central", "fedmd"])
@pytest.mark.parametrize("moment", ["after train", "before lines", "before checkpoint"])
def test_a_run_that_dies_in_round_2_resumes_to_the_same_bits(
    tmp_path: Path, whole: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, strategy: str, moment: str
) -> None:
    change = f"strategy={{name: {strategy}}}"

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "after train":
            exchange = Loop._exchange

            def dying(self: Loop, grid: Any, number: int, stage: str, messages: Any) -> Any:
                replies = exchange(self, grid, number, stage, messages)
                return die() if (number, stage) == (2, "train") else replies

            patch.setattr(Loop, "_exchange", dying)
        elif moment == "before lines":
            append = fedkt.results.folder.RunFolder.append

            def dying_append(self: Any, row: Any, *lines: Any) -> None:
                die() if row["round"] == 2 else append(self, row, *lines)

            patch.setattr("fedkt.results.folder.RunFolder.append", dying_append)
        else:
            write = fedkt.engine.loop.checkpoint.write

            def dying_write(folder: Path, round_: int, content: bytes) -> None:
                die() if round_ == 2 else write(folder, round_, content)

            patch.setattr("fedkt.engine.loop.checkpoint.write", dying_write)
        with pytest.raises(Killed):
            run(tmp_path / "cut", change)
    run(tmp_path / "cut", change, resume=True)
    assert final_states(tmp_path / "cut") == final_states(whole(change))
    assert rows(tmp_path / "cut") == rows(whole(change))


COHORTS = "engine={kind: ray, workers: 2, cohort: 2}"
CHILDREN = """
import os, sys, fedkt, fedkt.engine.runs.run  # seconds, which the children need not spend
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setsid()
        print(os.getpid(), flush=True)
        fedkt.simulate({}, {}, out={!r}, resume=os.path.exists({!r}))
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
"""Begins the run, or goes on with it, in a process and a group of its own for each line that it reads."""


@pytest.mark.parametrize(
    "engine",
    [
        "engine.kind=inline",
        *(
            pytest.param(e, marks=pytest.mark.slow)
            for e in ("engine.kind=processes", "engine.kind=ray", "engine.kind=flower", COHORTS)
        ),
    ],
)
def test_kill_9_at_any_instant_then_resume_gives_the_same_bits(
    tmp_path: Path, whole: Callable[..., Path], engine: str
) -> None:
    rounds = "rounds=24"  # so that it is not over when it is killed, on a busy machine either
    # Cohorts have the bits of the same cohorts only.
    undisturbed = whole(rounds, *([engine] if engine == COHORTS else []))
    cut, lines = tmp_path / "cut", tmp_path / "cut" / "rounds.jsonl"
    code = CHILDREN.format(SMALL, [rounds, engine], str(cut), str(lines))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as mother:  # type: ignore[call-overload]
        for attempt in range(3):
            mother.stdin.write("\n")
            mother.stdin.flush()
            child = int(mother.stdout.readline())
            end = time.monotonic() + 120
            while time.monotonic() < end:
                os.kill(child, 0)  # raises where it has ended
                if lines.exists() and len(lines.read_text().splitlines()) >= 3 * (attempt + 1):
                    break
                time.sleep(0.005)
            time.sleep(0.013 * attempt)
            os.killpg(child, signal.SIGKILL)
            mother.stdout.readline()
        mother.stdin.close()
    run(cut, rounds, engine, resume=True)
    assert final_states(cut) == final_states(undisturbed)
    assert rows(cut) == rows(undisturbed)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, whole: Callable[..., Path]
) -> None:
    run(tmp_path / "cut")
    newest = max((tmp_path / "cut" / "checkpoint").glob("round-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:100])
    run(tmp_path / "cut", resume=True)
    assert final_states(tmp_path / "cut") == final_states(whole())
    assert rows(tmp_path / "cut") == rows(whole())


def test_a_changed_scenario_is_not_resumed(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(InputError, match="seed was 0 and is 5"):
        run(tmp_path / "run", "seed=5", resume=True)


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path / "run", "rounds=1")
    with pytest.raises(InputError, match="--resume"):
        run(tmp_path / "run", "rounds=1")


def test_an_exception_inline_names_client_round_and_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr("fedkt.client.learning.learner.fit", broken)
    words = (
        r"client 0, round 1, stage train: ZeroDivisionError: on purpose \(test_engine\.py:\d+, in broken\)"
    )
    with pytest.raises(RunError, match=f"^every client failed in round 1; the first: {words}"):
        run(tmp_path / "run")
    monkeypatch.setenv("FEDKT_DEBUG", "1")  # ends at the first, whoever else would have gone on
    with pytest.raises(RunError, match=f"^{words}$"):
        run(tmp_path / "debug")


def test_partial_participation_teaches_who_took_part_and_measures_who_changed(tmp_path: Path) -> None:
    result = run(tmp_path / "run", "participation.fraction=0.5", "rounds=4")
    trained = result.clients[result.clients["status"] == "accepted"]
    assert list(trained.groupby("round").size()) == [2, 2, 2, 2]
    # In round 1 everyone is measured once; later only those whose model changed.
    assert list(result.clients.groupby("round").size()) == [4, 2, 2, 2]


def test_evaluation_every_n_rounds_still_delivers_every_teacher(tmp_path: Path) -> None:
    run(tmp_path / "each", "rounds=4")
    seldom = run(tmp_path / "seldom", "rounds=4", "evaluate.every=3")
    assert [
        row is None
        for row in (
            json.loads(line)["accuracy"]
            for line in (tmp_path / "seldom" / "rounds.jsonl").read_text().splitlines()
        )
    ] == [True, True, False, False]
    each, late = final_states(tmp_path / "each"), final_states(tmp_path / "seldom")
    assert {k: v for k, v in each.items() if "/model/" in k} == {
        k: v for k, v in late.items() if "/model/" in k
    }
    assert seldom.summary["bytes"] == fedkt.Result.read(tmp_path / "each").summary["bytes"]
