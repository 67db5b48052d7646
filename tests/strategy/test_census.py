"""The row policy ``census``: counts and worth by hand, one payment for all rounds, and who cannot have it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt.data.content.census import centres, counts, groups_of, nearest
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Dims, Logits
from fedkt.privacy.ledger import Ledger
from fedkt.scenario import from_dict
from fedkt.strategy.choosing import counting
from tests.engine.test_engine import SMALL, final_states


def test_private_rows_are_counted_around_the_nearest_rows() -> None:
    """(1, 1) and (2, 1) are nearest to (0, 0), (9, 1) and (8, 0) to (10, 0), (1, 9) to (0, 10)."""
    means = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    rows = torch.tensor([[1.0, 1], [9, 1], [8, 0], [1, 9], [2, 1]])
    assert torch.bincount(nearest(rows, means)).tolist() == [2, 2, 1]
    assert [groups_of(total) for total in (3, 10, 12, 249, 1000)] == [1, 2, 2, 49, 50]
    drawn = centres(100, seed=0)
    assert len(set(drawn.tolist())) == 20
    assert drawn.tolist() == sorted(drawn.tolist()) == centres(100, seed=0).tolist()
    transfer = torch.rand(100, 1, 2, 2)
    found = counts(transfer, transfer, seed=0)
    assert found.sum() == 100
    assert found.dtype == torch.int32
    assert counts(transfer[:0], transfer, seed=0).tolist() == [0] * 20
    # One row more changes one count by one.
    assert (counts(transfer[:99], transfer, seed=0) - found).abs().sum() == 1


def test_a_row_is_worth_the_private_rows_for_each_transfer_row_of_its_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows 0, 0, 1 lie around row 0, and 9, 10 around row 4: (3 + 1) / 3 and (1 + 3) / 2."""
    monkeypatch.setattr(counting, "centres", lambda total, seed: torch.tensor([0, 4]))
    census = counting.Census(0)
    heard = torch.tensor([[3, 1], [1, 3]], dtype=torch.int32)
    for _ in range(2):  # who says it again is not counted twice
        census.hear(("a", "b"), heard)
    worth = census.worth(np.array([[0.0], [0], [1], [9], [10]]))
    assert worth.tolist() == pytest.approx([4 / 3, 4 / 3, 4 / 3, 2, 2])


CENSUS: dict[str, Any] = {
    **SMALL,
    "data": {
        "partition": SMALL["data"]["partition"],  # type: ignore[index]
        "transfer": {"from": "train", "size": 60, "rows": 12, "policy": "census"},
    },
    "strategy": {"name": "fedmd", "average": "probabilities"},
    "rounds": 3,
}


def test_rows_near_private_ones_are_asked_about_and_a_resume_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedkt.engine.loop.loop import Loop
    from fedkt.strategy.choosing.chooser import RowChoice

    one_round, choose, asked = Loop._one_round, RowChoice.choose, []

    def chosen(choice: RowChoice, number: int) -> Any:
        found = choose(choice, number)
        asked.append((choice, found))
        return found

    def dies(loop: Loop, grid: Any, number: int) -> None:
        one_round(loop, grid, number)
        if number == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RowChoice, "choose", chosen)
        fedkt.simulate(CENSUS, out=tmp_path / "whole")
    choice, rows = asked[-1]
    assert choice.census is not None
    assert choice.worth is not None
    everybody = torch.stack(list(choice.census.by_client.values()))
    federation = checked_world(from_dict(CENSUS)).federation
    assert everybody.sum() == sum(len(shard.rows) for shard in federation.shards)
    there = torch.zeros(60, dtype=torch.bool)
    there[torch.from_numpy(rows).long()] = True
    assert choice.worth[there].min() >= choice.worth[~there].max()
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_round", dies)
        with pytest.raises(KeyboardInterrupt):
            fedkt.simulate(CENSUS, out=tmp_path / "cut")
    fedkt.simulate(CENSUS, out=tmp_path / "cut", resume=True)
    assert final_states(tmp_path / "cut") == final_states(tmp_path / "whole")


def test_private_counts_are_paid_for_once_and_sent_again_as_they_are(tmp_path: Path) -> None:
    """Noise 5 on a sensitivity of 1, in its own entry, beside training's of each round."""
    private = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 2.0, "max_epsilon": 20.0}
    scenario = from_dict({**CENSUS, "privacy": private})
    planned = checked_world(scenario).costs("0")
    assert [(e.kind, e.unit, e.noise, e.rate, e.count) for e in planned.first] == [
        ("gauss", "record", 5.0, 1.0, 1)
    ]
    result = fedkt.simulate(scenario, out=tmp_path / "run")
    assert result.rounds["status"].tolist() == ["fused"] * 3
    folders = sorted((tmp_path / "run").glob("**/ledger.jsonl"))
    assert len(folders) == SMALL["data"]["partition"]["clients"]  # type: ignore[index]
    for path in folders:
        entries = Ledger(path.parent).entries()
        paid = [(e["round"], e["stage"]) for e in entries if e["state"] == "reserved"]
        assert paid == [(1, "train"), (0, "census"), (2, "train"), (3, "train")]
        (counted,) = [e for e in entries if e["state"] == "reserved" and e["stage"] == "census"]
        assert [event["noise"] for event in counted["events"]] == [5.0]
        assert len([e for e in entries if e["state"] == "released" and e["stage"] == "census"]) == 1
        assert len(list((path.parent / "sent").glob("*-000000-census.safetensors"))) == 1
    spent = json.loads((tmp_path / "run" / "summary.json").read_text())["privacy"]
    assert "epsilon" in json.dumps(spent)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"privacy": {"mode": "logit_gauss", "delta": 1e-5, "target_epsilon": 8.0}},
            "data.transfer.policy is census, for which clients count their own rows, but privacy mode "
            "'logit_gauss' does not pay for that; use dpsgd, or another policy.",
        ),
        (
            {"strategy": {"name": "cfd", "delta": False}},
            "data.transfer.policy is census, but clients of strategy 'cfd' count no rows; it must be another "
            "policy.",
        ),
        (
            {"privacy": {"mode": "none", "census_noise": 3.0}},
            "privacy.census_noise does not belong to privacy mode 'none'; it belongs to dpsgd.",
        ),
        (
            {
                "data": {**CENSUS["data"], "transfer": {"from": "train", "size": 60}},
                "privacy": {"mode": "dpsgd", "delta": 1e-5, "target_epsilon": 8.0, "census_noise": 3.0},
            },
            "privacy.census_noise is set, but no client counts rows; leave it out, or set "
            "data.transfer.policy to census.",
        ),
    ],
)
def test_who_cannot_have_a_census(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as no:
        checked_world(from_dict({**CENSUS, **changes}))
    assert words in no.value.problems


def test_counts_belong_to_a_message_only_where_they_are_asked_for() -> None:
    dims = Dims(12, 60, 10, 4)
    assert "census" not in Logits.expected(dims, probabilities=True)
    assert Logits.expected(dims, probabilities=True, census=12)["census"].shape == (12,)
