"""Simulated boards: virtual time, the same bits again and after a death, what is paid."""

import json
from pathlib import Path
from typing import Any

import pytest

import fedkt
from fedkt.errors import InputError
from fedkt.privacy.ledger import Ledger
from fedkt.results.folder import read_rows
from tests.engine.test_engine import final_states, rows
from tests.engine.test_reliability import SMALL

BOARD: dict[str, Any] = {
    **SMALL,
    "churn": {"seconds": 1.0, "spread": 0.0, "speeds": [1, 2, 4, 8]},
    "board": {"half_life_s": 1.0},
    "engine": {"kind": "board"},
    "rounds": 3,
}


def run(out: Path, *, resume: bool = False, **more: Any) -> Any:
    return fedkt.simulate(fedkt.scenario.load({**BOARD, **more}), out=out, resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board") / "run"
    run(folder)
    return folder


def test_time_is_that_of_the_visits(whole: Path) -> None:
    """Training and digesting take 1, 1/2, 1/4 and 1/8 s; quorum 1, so all deposits bring a teacher.

    Client 3 deposits at .125 and every .25 s from then on, 2 at .25 and every .5 s, 1 at .5 and every 1 s, 0
    at 1 and every 2 s. In order: .125 (3) .25 (2) .375 (3) .5 (1) | .625 (3) .75 (2) .875 (3) 1 (0) | 1.125
    (3) 1.25 (2) 1.375 (3) 1.5 (1).
    """
    lines = read_rows(whole / "rounds.jsonl")
    assert [line["simulated_s"] for line in lines] == [0.5, 0.5, 0.5]
    assert [line["visits"] for line in lines] == [4, 8, 12]
    assert lines[0]["report"]["ages_s"] == {"1": 0.0, "2": 0.25, "3": 0.125}
    assert lines[1]["report"]["ages_s"] == {"0": 0.0, "1": 0.5, "2": 0.25, "3": 0.125}
    assert [line["replies"]["accepted"] for line in lines] == [4, 4, 4]
    clients = [(line["round"], line["client"]) for line in read_rows(whole / "clients.jsonl")]
    assert clients == [(1, 1), (1, 2), (1, 3), (2, 0), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)]
    assert json.loads((whole / "summary.json").read_text())["time"]["client_updates"] == 12


def test_a_board_that_dies_resumes_to_the_same_bits(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = fedkt.engine.loop.checkpoint.write
    with monkeypatch.context() as patch:

        def dying(folder: Path, number: int, content: bytes) -> None:
            if number == 8:
                raise KeyboardInterrupt
            write(folder, number, content)

        patch.setattr("fedkt.engine.loop.checkpoint.write", dying)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut")
    run(tmp_path / "cut", resume=True)
    assert final_states(tmp_path / "cut") == final_states(whole)
    assert rows(tmp_path / "cut") == rows(whole)
    with pytest.raises(InputError, match=r"engine\.kind was \"board\" and is \"inline\""):
        run(tmp_path / "cut", resume=True, engine={"kind": "inline"}, board={})


def test_age_counts_and_a_stale_quorum_does_not(tmp_path: Path, whole: Path) -> None:
    run(tmp_path / "alike", board={})
    assert rows(tmp_path / "alike") != rows(whole)
    apart: dict[str, Any] = {"churn": {"spread": 0.3}, "participation": {"quorum": 2}}  # no two come at once
    run(tmp_path / "alone", board={"fresh_s": 1e-6}, rounds=1, **apart)
    (line,) = read_rows(tmp_path / "alone" / "rounds.jsonl")
    assert (line["status"], line["bytes"]["down"]) == ("no-quorum", 0)


def test_the_ledger_charges_each_deposit_and_declines_when_it_is_empty(tmp_path: Path) -> None:
    dear = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 20.0}
    folder = tmp_path / "private"
    run(folder, privacy=dear, clients={**SMALL["clients"], "local": {"epochs": 1, "optimizer": "sgd"}})
    lines = read_rows(folder / "rounds.jsonl")
    deposits = sum(line["replies"]["accepted"] for line in lines)
    paid = {c: Ledger(folder / "checkpoint" / "clients" / c / "ledger").entries() for c in "0123"}
    trained = {
        c: [e for e in its if (e["stage"], e["state"]) == ("train", "reserved")] for c, its in paid.items()
    }
    assert sum(map(len, trained.values())) == deposits
    assert len(trained["3"]) > len(trained["1"]) > len(trained["0"]) == 1
