"""A finished run that goes on, the best round, and a run that ends when it gets no better."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import fedkt
from fedkt.cli.commands import app
from fedkt.client.state import DiskStore
from fedkt.engine.loop.best import better, exhausted
from fedkt.errors import InputError
from fedkt.results.export import export
from fedkt.results.folder import read_rows, run_state
from fedkt.scenario import load
from fedkt.tasks import Figure

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {
        "dataset": "digits",
        "partition": {"kind": "dirichlet", "clients": 3, "samples_per_client": 30},
        "transfer": {"from": "train", "size": 20},
    },
    "clients": {"models": {"name": "mlp", "hidden": [8], "width": 6}, "local": {"epochs": 1}},
    "strategy": "knfu",
    "engine": {"kind": "inline", "cohort": "off"},
}
JUDGED = ["data.validation=0.3", "clients.distill.together=false"]


def states(run: Path) -> dict[str, Any]:
    """Every client's newest tensors, as bytes."""
    store = DiskStore(run / "checkpoint" / "clients")
    found = {client: store.load(client, below=10**6) for client in store.clients()}
    return {
        client: {name: tensor.numpy().tobytes() for name, tensor in state.tensors.items()}
        for client, state in sorted(found.items())
        if state is not None
    }


def rows(run: Path) -> list[Any]:
    return [
        [row | {"wall_s": 0} for row in read_rows(run / name)] for name in ("rounds.jsonl", "clients.jsonl")
    ]


@pytest.mark.parametrize(
    "settings",
    [
        ["clients.distill.together=true"],
        ["clients.distill.together=false", "evaluate.every=3"],
        ["strategy=fd", "participation.fraction=0.7"],
    ],
    ids=[
        "joint steps, whose last round has a phase of its own",
        "the last round is always measured",
        "sampled",
    ],
)
@pytest.mark.parametrize("first", [1, 2])
def test_a_finished_run_goes_on_with_the_bits_of_a_longer_one(
    settings: list[str], first: int, tmp_path: Path
) -> None:
    whole = fedkt.simulate(SMALL, [*settings, "rounds=4"], out=tmp_path / "whole")
    fedkt.simulate(SMALL, [*settings, f"rounds={first}"], out=tmp_path / "grown")
    assert run_state(tmp_path / "grown", load(SMALL, [*settings, "rounds=4"])) == "unfinished"
    grown = fedkt.simulate(SMALL, [*settings, "rounds=4"], out=tmp_path / "grown", resume=True)
    assert states(grown.path) == states(whole.path)
    assert rows(grown.path) == rows(whole.path)
    differ = {"time"}
    assert {k: v for k, v in grown.summary.items() if k not in differ} == {
        k: v for k, v in whole.summary.items() if k not in differ
    }
    assert run_state(grown.path, load(SMALL, [*settings, "rounds=4"])) == "finished"


def test_a_run_of_more_rounds_cannot_get_fewer(tmp_path: Path) -> None:
    fedkt.simulate(SMALL, ["rounds=2"], out=tmp_path / "run")
    with pytest.raises(
        InputError, match=r"cannot be resumed with another scenario \(rounds was 2 and is 1\)"
    ):
        fedkt.simulate(SMALL, ["rounds=1"], out=tmp_path / "run", resume=True)
    with pytest.raises(InputError, match=r"\(seed was 0 and is 1\)"):
        fedkt.simulate(SMALL, ["rounds=3", "seed=1"], out=tmp_path / "run", resume=True)


def test_what_was_planned_over_the_rounds_keeps_their_number(tmp_path: Path) -> None:
    leaving = ["churn={leavers: 0.34}", "rounds=2"]
    fedkt.simulate(SMALL, leaving, out=tmp_path / "run")
    before = (tmp_path / "run" / "scenario.yaml").read_text()
    with pytest.raises(InputError) as caught:
        fedkt.simulate(SMALL, [*leaving, "rounds=3"], out=tmp_path / "run", resume=True)
    assert str(caught.value) == (
        f"{tmp_path / 'run'} was begun with 2 rounds and churn.leavers were drawn over them, so 3 cannot "
        "continue it; start a new run."
    )
    assert (tmp_path / "run" / "scenario.yaml").read_text() == before


def test_the_best_round_of_a_figure_of_which_less_is_better_is_the_lowest() -> None:
    bits, best = Figure("bits", "bits per byte", share=False, higher_is_better=False), None
    for number, value in enumerate([2.5, None, 2.25, 2.25, 3.0], start=1):
        best = better(best, number, value, bits)
    assert best == {"round": 3, "validation": 2.25}


def test_the_best_round_is_the_first_of_the_best() -> None:
    best = None
    for number, value in enumerate([0.5, None, 0.7, 0.7, 0.6], start=1):
        best = better(best, number, value)
    assert best == {"round": 3, "validation": 0.7}
    assert [exhausted(best, number, 2) for number in (3, 4, 5)] == [False, False, True]
    assert not exhausted(best, 99, None) and not exhausted(None, 99, 2)
    # Measured in every third round: the best in 3, then 6 and 9 were no better; between, nothing was asked.
    assert [exhausted(best, number, 2, every=3) for number in range(6, 10)] == [False, False, False, True]


def test_a_run_ends_when_it_gets_no_better_and_its_best_round_can_be_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What validation rows say is written here, so that the best round is known: the second."""
    told = iter([0.5, 0.8, 0.8, 0.7, 0.9])
    monkeypatch.setattr(
        "fedkt.engine.loop.loop.better",
        lambda best, number, found, figure: better(best, number, next(told) if found is not None else None),
    )
    run = fedkt.simulate(SMALL, [*JUDGED, "rounds=9", "patience=2"], out=tmp_path / "run")
    assert run.summary["rounds"] == 4 and run.summary["stopped"]
    assert run.summary["best"] == {"round": 2, "validation": 0.8}
    assert run_state(run.path, load(SMALL, [*JUDGED, "rounds=9", "patience=2"])) == "finished"
    # What is taken for what is known of the round that turned out to be the last.
    assert json.loads((run.path / "confusion.json").read_text())["round"] == 4
    again = fedkt.simulate(SMALL, [*JUDGED, "rounds=9", "patience=2"], out=tmp_path / "run", resume=True)
    assert again.summary["rounds"] == 4

    monkeypatch.undo()
    short = fedkt.simulate(SMALL, [*JUDGED, "rounds=2"], out=tmp_path / "short")
    best, last = export(run.path, "1", tmp_path / "best", "best"), export(short.path, "1", tmp_path / "last")
    assert (best / "model.safetensors").read_bytes() == (last / "model.safetensors").read_bytes()
    assert json.loads((best / "model.json").read_text())["round"] == 2
    late = export(run.path, "1", tmp_path / "late")
    assert (late / "model.safetensors").read_bytes() != (best / "model.safetensors").read_bytes()


def test_measured_rows_judge_the_rounds(tmp_path: Path) -> None:
    run = fedkt.simulate(SMALL, [*JUDGED, "rounds=3"], out=tmp_path / "run")
    measured = run.rounds["accuracy.validation_mean"].to_numpy()
    assert run.summary["best"] == {
        "round": int(np.argmax(measured)) + 1,
        "validation": pytest.approx(measured.max()),
    }
    assert not run.summary["stopped"]


def test_without_validation_rows_there_is_no_best_round(tmp_path: Path) -> None:
    fedkt.simulate(SMALL, ["rounds=1"], out=tmp_path / "run")
    arguments = ["export", str(tmp_path / "run"), "--client", "1", "--out", str(tmp_path / "model")]
    ended = CliRunner().invoke(app, [*arguments, "--round", "best"])
    assert (ended.exit_code, ended.stderr) == (
        2,
        f"fedkt: {tmp_path / 'run'} kept no best round, since no validation rows were set aside to judge by; "
        "run it with data.validation, such as 0.2, or export the last round.\n",
    )
    ended = CliRunner().invoke(app, [*arguments, "--round", "7"])
    assert (ended.exit_code, ended.stderr) == (
        2,
        "fedkt: --round is '7'; it must be last or best; checkpoint.keep, such as 20, keeps every so many "
        "rounds.\n",
    )
    with pytest.raises(InputError) as caught:
        load(SMALL, ["patience=3"])
    assert str(caught.value) == (
        "--set patience: patience needs rows to judge rounds by; set data.validation, such as 0.2."
    )
