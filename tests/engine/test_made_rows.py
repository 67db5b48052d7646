"""Rounds about made rows that are others in each: the same bits in all engines, after a resume, and when
missed."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fedkt
from fedkt.client.behaviour import transfer_rows
from fedkt.engine.loop.loop import Loop
from fedkt.engine.world.checked import checked_world
from fedkt.errors import InputError
from fedkt.scenario import from_dict
from tests.engine.test_engine import SMALL, final_states

FRESH: dict[str, Any] = {
    **SMALL,
    "data": {
        "partition": SMALL["data"]["partition"],  # type: ignore[index]
        "transfer": {"from": "made:shapes", "size": 60, "refresh": "round"},
    },
}


def run(out: Path, *changes: str, resume: bool = False) -> Any:
    return fedkt.simulate(FRESH, changes, out=out, resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fresh") / "run"
    run(out)
    return out


def test_a_teacher_is_digested_about_the_rows_of_its_round() -> None:
    """Client 0 is asked in round 3 and gets the teacher of round 1, which it had missed."""
    world = checked_world(from_dict(FRESH))
    shard, player = world.shards["0"], world.player("0")
    for round_ in (3, 1):
        assert world.about(player, round_) is player
        rows = transfer_rows(player.holding, None)
        assert torch.equal(rows, world.federation.transfer_tensor(shard, round_))
    assert not torch.equal(
        world.federation.transfer_tensor(shard, 3), world.federation.transfer_tensor(shard, 1)
    )
    assert world.setting("run", Path()).transfer_in(3) == world.transfer_hash_in(3)


def test_rows_that_stay_and_fresh_ones_give_other_models(whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "same", "data.transfer.refresh=never")
    assert final_states(tmp_path / "same") != final_states(whole)


@pytest.mark.parametrize("strategy", ["dsfl", "fedka", "held"])
def test_other_methods_speak_about_fresh_rows_too(strategy: str, tmp_path: Path) -> None:
    result = run(
        tmp_path / "run", f"strategy={{name: {strategy}}}", "rounds=2", "clients.distill.together=false"
    )
    assert [row["status"] for row in result.rounds.to_dict("records")] == ["fused", "fused"]


def test_a_missed_teacher_and_a_killed_run_end_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the clients take part in a round; the run dies in round 2."""
    half = ("participation={fraction: 0.5}", "rounds=4")
    run(tmp_path / "whole", *half)
    one_round = Loop._one_round

    def dies(loop: Loop, grid: Any, number: int) -> None:
        one_round(loop, grid, number)
        if number == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_round", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", *half)
    run(tmp_path / "cut", *half, resume=True)
    assert final_states(tmp_path / "cut") == final_states(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "flower"])
def test_engines_agree_about_fresh_rows(engine: str, whole: Path, tmp_path: Path) -> None:
    run(tmp_path / "run", f"engine={{kind: {engine}, workers: 2, cohort: 'off'}}")
    assert final_states(tmp_path / "run") == final_states(whole)


def test_changes_of_labels_need_the_same_rows() -> None:
    with pytest.raises(InputError, match=r"strategy\.delta sends how labels differ .* set it to false\."):
        checked_world(from_dict({**FRESH, "strategy": {"name": "cfd"}}))
