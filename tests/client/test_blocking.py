"""Classes that a client never learns, and rows that it does not use any more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt.client.lessons.blocking import masked
from fedkt.client.state import DiskStore
from fedkt.data import build
from fedkt.distill.losses import as_logits
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Alignment, ClassLogits, Knowledge, Logits, Prototypes, Quantised
from fedkt.knowledge.kinds import PrototypeSets, Votes
from fedkt.results.observer import Silent
from fedkt.scenario import from_dict

P = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.75, 0.25], [1.0, 0.0, 0.0]])


def scenario(**more: Any) -> dict[str, Any]:
    return {
        "name": "small",
        "data": {
            "partition": {"kind": "iid", "clients": 3, "samples_per_client": 40},
            "transfer": {"from": "train", "size": 30},
        },
        "clients": {"models": [{"name": "mlp", "hidden": [], "width": 8}], "local": {"epochs": 1}},
        "strategy": {"name": "fedmd", "average": "probabilities"},
        "rounds": 2,
        "engine": {"kind": "inline"},
        **more,
    }


def test_probabilities_are_shared_among_the_other_classes() -> None:
    left = masked(Logits, {"values": P}, [0], {"form": "probabilities"})
    torch.testing.assert_close(left["values"], torch.tensor([[0.0, 0.6, 0.4], [0.0, 0.75, 0.25]]))
    assert left["rows"].tolist() == [0, 1]  # of the third nothing was left


def test_rows_keep_the_ids_that_the_teacher_gave_them() -> None:
    teacher = {"values": P, "rows": torch.tensor([7, 3, 9], dtype=torch.int32)}
    assert masked(Logits, teacher, [0], {"form": "votes"})["rows"].tolist() == [7, 3]
    assert masked(Logits, teacher, [], {"form": "votes"})["rows"].tolist() == [7, 3, 9]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logits_teach_what_masked_probabilities_would(temperature: float) -> None:
    settings = {"form": "logits", "temperature": temperature}
    left = masked(Logits, {"values": as_logits(P, temperature)}, [0], settings)
    taught = (left["values"] / temperature).softmax(-1)
    torch.testing.assert_close(taught, torch.tensor([[0.0, 0.6, 0.4], [0.0, 0.75, 0.25]]), atol=1e-6, rtol=0)
    assert left["values"].isfinite().all()


def test_means_per_class_lose_the_class_as_row_and_as_column() -> None:
    teacher = {"values": P[[2, 1, 0]], "counts": torch.tensor([4, 4, 4], dtype=torch.int32)}
    left = masked(ClassLogits, teacher, [0], {})
    assert left["counts"].tolist() == [0, 4, 4]
    torch.testing.assert_close(left["values"], torch.tensor([[0.0] * 3, [0.0, 0.75, 0.25], [0.0, 0.6, 0.4]]))


@pytest.mark.parametrize("kind", [Prototypes, PrototypeSets])
def test_prototypes_of_the_class_are_unknown(kind: type[Knowledge]) -> None:
    lead = (2,) if kind is PrototypeSets else ()
    teacher = {"values": torch.ones(*lead, 3, 5), "counts": torch.ones(*lead, 3, dtype=torch.int32)}
    left = masked(kind, teacher, [1], {})
    assert (left["counts"] == torch.tensor([1, 0, 1])).all()
    assert left["values"].sum(-1).unique().tolist() == [0, 5]
    assert teacher["counts"].all()  # what arrived stays as it is


@pytest.mark.parametrize("kind", [Votes, Alignment])
def test_votes_for_the_class_are_none(kind: type[Knowledge]) -> None:
    labels = torch.tensor([0, 1, 2, -1], dtype=torch.int16)
    assert masked(kind, {"labels": labels}, [1, 2], {})["labels"].tolist() == [0, -1, -1, -1]


@pytest.mark.parametrize(("bits", "symbols"), [(1, [1, 0]), (2, [[1, 1, 1], [3, 0, 0]])])
def test_quantised_rows_name_their_rows_so_that_they_are_no_base(bits: int, symbols: list[Any]) -> None:
    teacher = {"values": torch.tensor(symbols, dtype=torch.uint8), "base": torch.tensor(2)}
    left = masked(Quantised, teacher, [0], {"bits_down": bits, "classes": 3})
    assert left["rows"].tolist() == [0]
    # Half of 3 units each: the larger part goes to the lower class.
    assert left["values"].tolist() == ([1] if bits == 1 else [[0, 2, 1]])


def test_a_blocked_class_does_not_come_back_and_an_unblocked_one_does(tmp_path: Path) -> None:
    """Client 0 holds no row of class 6; its peers do."""
    found = {}
    for name, part in {
        "blocked": {"blocked": {"0": [6]}},
        "open": {"withdrawn_rows": {"0": _rows_of(6)}},
    }.items():
        made = scenario(participation=part, rounds=3)
        made["data"]["partition"]["samples_per_client"] = 150
        made["data"]["transfer"]["size"] = 200
        made["clients"]["local"] = {"epochs": 4, "batch_size": 16, "lr": 0.01}
        made["clients"]["distill"] = {"epochs": 4, "loss": "kl"}
        run = fedkt.simulate(made, out=tmp_path / name, observer=Silent())
        world = checked_world(from_dict(made))
        state = DiskStore(run.path / "checkpoint" / "clients").load("0", 99)
        assert state is not None
        net = world.net("0")
        net.load_state_dict({n[6:]: t for n, t in state.tensors.items() if n.startswith("model/")})
        assert world.federation.test is not None
        x, y = world.federation.test_tensors()
        with torch.no_grad():
            right = net(x)[1].argmax(-1) == y
        found[name] = right[y == 6].float().mean().item(), right[y != 6].float().mean().item()
        if name == "blocked":
            assert state.tensors["teacher/values"][:, 6].abs().max() == 0
            torch.testing.assert_close(
                state.tensors["teacher/values"].sum(-1), torch.ones(len(state.tensors["teacher/rows"]))
            )
    assert found["blocked"][0] == 0
    assert found["open"][0] > 0.4
    assert found["blocked"][1] > 0.7


def _rows_of(label: int) -> list[int]:
    made = scenario()
    made["data"]["partition"]["samples_per_client"] = 150
    made["data"]["transfer"]["size"] = 200
    federation = build(from_dict(made))
    rows = federation.shards[0].rows
    return [int(row) for row in rows[federation.pool.y[rows] == label]]


def test_rows_that_are_withdrawn_are_held_by_nobody(tmp_path: Path) -> None:
    before = build(from_dict(scenario())).shards[1]
    (tmp_path / "gone.txt").write_text(f"{before.rows[0]}\n{before.rows[2]}\n")
    part = {"withdrawn_rows": {"1": str(tmp_path / "gone.txt")}}
    after = build(from_dict(scenario(participation=part)))
    assert after.shards[1].rows.tolist() == np.delete(before.rows, [0, 2]).tolist()
    assert after.shards[1].share.sum() == pytest.approx(1)
    assert after.shards[0].rows.tolist() == build(from_dict(scenario())).shards[0].rows.tolist()


def test_a_blocked_client_holds_no_row_of_the_class() -> None:
    federation = build(from_dict(scenario(participation={"blocked": {"2": [1, "4"]}})))
    assert federation.counts()[2, [1, 4]].tolist() == [0, 0]
    assert (federation.counts()[:2, [1, 4]] > 0).all()


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"blocked": {"0": [10]}}, "participation.blocked names 10, which is no class; there are 0 to 9."),
        ({"blocked": {"0": list(range(10))}}, "participation.blocked names all 10 classes"),
        ({"blocked": {"7": [1]}}, "participation.blocked names '7', which is no client; there are 0, 1, 2."),
        ({"withdrawn_rows": {"7": [1]}}, "participation.withdrawn_rows names '7', which is no client"),
        ({"withdrawn_rows": {"0": [99999]}}, "names 99999 for client '0', which is not among its 40 rows."),
        ({"withdrawn_rows": {"0": "none.txt"}}, "data file 'none.txt' was not found"),
    ],
)
def test_what_nobody_can_leave_out_is_told(part: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as error:
        checked_world(from_dict(scenario(participation=part)))
    assert any(told in problem for problem in error.value.problems), error.value.problems


def test_a_file_of_rows_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").write_text("1\ntwo\n")
    part = {"withdrawn_rows": {"0": str(tmp_path / "gone.txt")}}
    with pytest.raises(InputError, match=r"holds two; it must hold one row number per line"):
        checked_world(from_dict(scenario(participation=part)))


def test_a_class_cannot_be_taken_out_of_weights() -> None:
    made = scenario(participation={"blocked": {"0": [1]}}, strategy={"name": "fedavg"}, allow=["weights"])
    with pytest.raises(InputError, match="are weights, from which no class can be taken out"):
        checked_world(from_dict(made))


def test_a_client_without_any_row_left_is_told() -> None:
    rows = build(from_dict(scenario())).shards[0].rows.tolist()
    with pytest.raises(InputError, match="client '0' has no row left without those that"):
        build(from_dict(scenario(participation={"withdrawn_rows": {"0": rows}})))
