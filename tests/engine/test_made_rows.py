"""Rounds about made rows that are others in each: the same bits in all engines, after a resume, and when
missed."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fedkt
from fedkt.client.behaviour import transfer_rows
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.loop.loop import Loop
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


def test_canaries_of_made_images_are_as_bright_as_private_ones(tmp_path: Path) -> None:
    """Private digits are numbers in [0, 1], made ones whole grey levels; of rows that are gone nothing is
    learned."""
    from fedkt.data import build
    from fedkt.engine.audits.audited import audit_scenario, plant

    same = from_dict({**FRESH, "data": {**FRESH["data"], "transfer": {"from": "made:shapes", "size": 60}}})
    planted, labels, members = plant(build(same), 60)
    added = planted.pool.x[-members.sum() :]
    assert len(labels) == 60
    assert added.max() <= 1
    assert added.max() > 0.5
    with pytest.raises(InputError, match=r"data\.transfer\.refresh is round, .* set it to never\."):
        audit_scenario(from_dict(FRESH), out=tmp_path / "audit", canaries=40)


PCL: dict[str, Any] = {
    **SMALL,
    "data": {
        "partition": SMALL["data"]["partition"],  # type: ignore[index]
        "public": {"size": 40},
        "transfer": {"from": "made:shapes", "size": 20},
    },
    "clients": {"models": [{"name": "mlp", "width": 16, "hidden": [16]}], "local": {"epochs": 1}},
    "rounds": 2,
}


def test_made_rows_are_negatives_of_a_contrast(tmp_path: Path) -> None:
    """Near classes weigh more, and twenty made rows more change what is learned; without hard they are
    refused."""
    found = {}
    for name, told in {"all alike": "", "hard": ", hard: 0.5", "rows": ", hard: 0.5, negatives: 20"}.items():
        fedkt.simulate(PCL, [f"strategy={{name: fedpcl{told}, pretrain: 1}}"], out=tmp_path / name)
        found[name] = final_states(tmp_path / name)
    assert found["all alike"] != found["hard"] != found["rows"]
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"negatives": 5}, "strategy.negatives has no effect without strategy.hard; leave it out."),
        (
            {"hard": 0.5, "negatives": 21},
            "strategy.negatives is 21, but data.transfer.size is 20; there must be as many transfer rows.",
        ),
    )
    for settings, problem in refused:
        with pytest.raises(InputError) as no:
            checked_world(from_dict({**PCL, "strategy": {"name": "fedpcl", **settings}}))
        assert no.value.problems == (problem,)
