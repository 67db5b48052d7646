"""A client undoes what a teacher cost it, by rows that it set aside, and says so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import fedkt
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.copies import costly
from fedkt.errors import InputError
from fedkt.results.export import export
from fedkt.scenario import from_dict, load, to_dict


def right(*rows: int) -> torch.Tensor:
    return torch.tensor(rows) > 0


@pytest.mark.parametrize(
    ("before", "after", "undone"),
    [
        # Mean -1/3, deviation .516, error .516/sqrt(6) = .211.
        ((1, 1, 1, 1, 1, 1), (0, 0, 1, 1, 1, 1), True),
        # Mean -1/6, deviation .408, error .1667: not more than one.
        ((1, 1, 1, 1, 1, 1), (0, 1, 1, 1, 1, 1), False),
        # Two lost and one won: mean -1/6, deviation .753, error .307.
        ((1, 1, 1, 1, 0, 1), (0, 0, 1, 1, 1, 1), False),
        ((0, 0, 1), (1, 1, 1), False),  # a gain
        ((1, 0, 1), (1, 0, 1), False),  # nothing changed
        ((1, 1), (0, 0), True),  # all lost, without any deviation
        ((1,), (0,), False),  # one row shows nothing
        ((), (), False),
    ],
)
def test_more_than_one_standard_error(before: Any, after: Any, undone: bool) -> None:
    assert costly(right(*before), right(*after)) is undone


def scenario(strategy: Any, **more: Any) -> Any:
    clients = {
        "models": [{"name": "mlp", "width": 8, "hidden": [8]}],
        "local": {"epochs": 20, "batch_size": 8, "lr": 0.01},
        "distill": {"epochs": 20, "batch_size": 8, "lr": 0.05, "loss": "kl", **more.pop("distill", {})},
        "guard": {"validation": 0.25},
    }
    return from_dict(
        {
            "name": "guarded",
            "data": {
                "partition": {"kind": "pathological", "classes_per_client": 3, "clients": 4},
                "transfer": {"size": 40},
                **more.pop("data", {}),
            },
            "clients": clients | more.pop("clients", {}),
            "strategy": strategy,
            "rounds": 2,
            "engine": {"kind": "inline"},
            **more,
        }
    )


FEDMD = {"name": "fedmd", "average": "probabilities"}
SMALL = {
    "partition": {
        "kind": "pathological",
        "classes_per_client": 3,
        "clients": 4,
        "samples_per_client": 40,
    }
}


def test_rows_are_set_aside_by_class_and_trained_with_by_nobody() -> None:
    world = checked_world(scenario(FEDMD, data=SMALL))
    for client, shard in world.shards.items():
        aside, held = world.aside(client), world.holding(client)
        assert len(aside) == 10
        assert len(held.y) == 30
        x, y = world.guard_rows(client)
        assert len(x) == len(y) == 10
        assert sorted([*y.tolist(), *held.y.tolist()]) == sorted(world.federation.pool.y[shard.rows].tolist())
        # The shares are those of what is trained with.
        assert held.label_share.sum().item() == pytest.approx(1.0)
        assert torch.equal(held.label_share * 30, torch.bincount(held.y, minlength=10).float())
    # Who is taught nothing has nothing to guard.
    alone = scenario({"name": "local"}, data=SMALL, clients={"distill": {}})
    local = checked_world(load(to_dict(alone), several=True))
    assert [len(local.holding(client).y) for client in local.shards] == [40] * 4


def test_a_harmful_digestion_is_undone_and_told(tmp_path: Path) -> None:
    """Clients of three classes each are pulled to a mean that knows all; who lost by it goes back."""
    bare = fedkt.simulate(scenario(FEDMD, data=SMALL, clients={"guard": None}), out=tmp_path / "bare").clients
    kept = fedkt.simulate(scenario(FEDMD, data=SMALL), out=tmp_path / "kept").clients
    assert "undone" not in bare.columns
    lost = bare[bare["round"] == 2].set_index("client")
    last = kept[kept["round"] == 2].set_index("client")
    assert set(last["undone"]) <= {0.0, 1.0}
    assert last["undone"].sum() >= 1
    undone = last[last["undone"] == 1.0]
    # What was undone is as if it had not been: the accuracy before is the accuracy after.
    assert (undone["global"] == undone["before_digest"]).all()
    assert undone["personal"].mean() > lost["personal"].loc[undone.index].mean()


def test_joint_steps_are_guarded_too(tmp_path: Path) -> None:
    joint = scenario(FEDMD, data=SMALL, distill={"together": True})
    told = fedkt.simulate(joint, out=tmp_path / "joint").clients
    assert set(told["undone"]) <= {0.0, 1.0}


def test_a_model_that_has_learned_from_nobody_predicts_without_the_prior(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its own class frequencies from its own rows; added once more they would count twice."""
    strategy = {**FEDMD, "prior": True}
    assert "prior_personal" in fedkt.simulate(scenario(strategy, data=SMALL), out=tmp_path / "run").clients
    monkeypatch.setattr("fedkt.engine.clients.party.costly", lambda before, after: True)
    told = fedkt.simulate(scenario(strategy, data=SMALL), out=tmp_path / "undone").clients
    assert told["undone"].tolist() == [1.0] * 8
    assert "prior_personal" not in told and told["personal"].notna().all()


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError) as raised:
        checked_world(scenario(FEDMD, data=SMALL, clients={"guard": {"validation": 0.02}}))
    words = (
        "clients.guard.validation is 0.02, but client 0 has 40 training rows, of which that is none; it needs"
    )
    assert f"{words} at least 50, or guard must be left out." in str(raised.value)
    privacy = {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 1.0, "max_epsilon": 1e6}
    with pytest.raises(InputError, match=r"does not pay for what clients\.guard decides on private rows"):
        checked_world(scenario(FEDMD, data=SMALL, privacy=privacy))


# In place of rows set aside: copies that do without a part each -------------------------------------------

FOLDS: Any = {"guard": {"folds": 3}}


def test_folds_share_out_all_rows_by_class_and_nobody_loses_any() -> None:
    world = checked_world(scenario(FEDMD, data=SMALL, clients=FOLDS))
    for client, shard in world.shards.items():
        folds = world.folds(client)
        assert sorted(row for fold in folds for row in fold) == list(range(40))
        assert [len(fold) for fold in folds] == [14, 13, 13]
        labels = world.federation.pool.y[shard.rows]
        for label in set(labels.tolist()):
            held = [int((labels[fold] == label).sum()) for fold in folds]
            assert max(held) - min(held) <= 1
        assert len(world.holding(client).y) == 40 and len(world.aside(client)) == 0


@pytest.mark.parametrize("together", [pytest.param(False, marks=pytest.mark.slow), True])
def test_who_is_not_made_better_predicts_as_alone(tmp_path: Path, together: bool) -> None:
    """To the bit, and the model that everybody shares knowledge of is that of a run without a guard."""
    told = [
        scenario(FEDMD, data=SMALL, distill={"together": together}, clients=c)
        for c in (FOLDS, {"guard": None})
    ]
    kept, bare = (fedkt.simulate(t, out=tmp_path / str(i)).clients for i, t in enumerate(told))
    alone = scenario({"name": "local"}, data=SMALL, clients={"distill": {}, "guard": None})
    by_itself = fedkt.simulate(alone, out=tmp_path / "alone").clients
    assert kept["global"].tolist() == bare["global"].tolist()
    assert kept["model_personal"].tolist() == bare["personal"].tolist()
    better = kept["trusted"] == 1
    expected = bare["personal"].where(better, by_itself["personal"])
    assert kept["personal"].tolist() == expected.tolist()
    assert not better.all()  # a plain mean takes what they know of their three classes
    if together:
        exported_is_what_predicts(tmp_path, kept)


def exported_is_what_predicts(folder: Path, kept: Any) -> None:
    """On the common test rows a client's exported model is right as often as its own predictions were."""
    last = kept[kept["round"] == kept["round"].max()]
    rows = fedkt.data.build(scenario(FEDMD, data=SMALL, clients=FOLDS)).test
    assert rows is not None
    for _, line in last.iterrows():
        client = str(line["client"])
        for shared in (False, True):
            at = export(folder / "0", client, folder / f"{client} {shared}", shared=shared)
            right = (fedkt.load_model(at)(rows.x)[1].argmax(1).numpy() == rows.y).mean()
            about = json.loads((at / "model.json").read_text())
            copied = not (shared or line["trusted"])
            assert about.get("alone", False) == copied
            assert right == pytest.approx(line["guarded_global"] if copied else line["global"])
    with pytest.raises(InputError, match=r"--shared tells a model from a copy .* has none"):
        export(folder / "1", "0", folder / "none", shared=True)


@pytest.mark.slow
def test_copies_go_on_after_a_stop(tmp_path: Path) -> None:
    told = scenario(FEDMD, data=SMALL, clients=FOLDS)
    whole = fedkt.simulate(told, out=tmp_path / "whole").clients
    fedkt.simulate(told, ["rounds=1"], out=tmp_path / "parts")
    fedkt.simulate(told, out=tmp_path / "parts", resume=True)
    parts = (tmp_path / "parts" / "clients.jsonl").read_text().splitlines()
    last = [json.loads(line) for line in parts][-4:]
    assert [line["personal"] for line in last] == whole["personal"].tolist()[-4:]


def test_folds_share_out_rows_of_several_labels_too() -> None:
    told = load("multilabel-digits", ["clients.guard={folds: 3}", "participation.quorum=1"])
    world = checked_world(told)
    for client in world.shards:
        rows = [row for fold in world.folds(client) for row in fold]
        assert sorted(rows) == list(range(len(world.shards[client].rows)))


def test_what_folds_need() -> None:
    with pytest.raises(InputError, match=r"clients\.guard has validation, which sets rows aside, and folds"):
        scenario(FEDMD, data=SMALL, clients={"guard": {"validation": 0.1, "folds": 3}})
    few = {"partition": {**SMALL["partition"], "samples_per_client": 6}}
    with pytest.raises(InputError, match="folds is 10, but client 0 has 6 training rows"):
        checked_world(scenario(FEDMD, data=few, clients={"guard": {"folds": 10}}))
    again = from_dict(to_dict(scenario(FEDMD, data=SMALL, clients=FOLDS)))
    assert again.clients.guard is not None and again.clients.guard.folds == 3
