"""A copy that is brought to the transfer rows before a client speaks of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedkt
from fedkt.client.lessons.adapting import Speaker, adapted, contrast, entropy, first_of, information
from fedkt.client.lessons.labelling import margins, worth
from fedkt.client.lessons.sensing import move_statistics
from fedkt.client.state import DiskStore
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.results.observer import Silent
from fedkt.scenario import from_dict
from fedkt.scenario.about_adversity import Adapt
from tests.client.test_lessons import scenario

P = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
AT = (0, "0", 1)


def test_losses_by_hand() -> None:
    assert entropy(P).tolist() == pytest.approx([0.5004, 0.6730], abs=1e-4)
    # H of the mean (.7, .3) is .6109
    assert information(P).item() == pytest.approx((0.5004 + 0.6730) / 2 - 0.6109, abs=1e-4)
    assert information(P, torch.tensor([0.7, 0.3])).item() == pytest.approx(0.5867, abs=1e-4)
    q = torch.tensor([[[0.9, 0.1], [0.7, 0.3]], [[0.5, 0.5], [0.4, 0.6]]])
    # attraction (.74 + .62 + .5 + .48)/2, repulsion (.48 + .08)^2
    assert contrast(P, q, 0.0).item() == pytest.approx(-1.17, abs=1e-4)
    assert contrast(P, q, 0.5).item() == pytest.approx(-1.17 + 0.5 * 0.3136, abs=1e-4)


def test_few_rows_of_each_class() -> None:
    assert first_of(torch.tensor([1, 1, 0, 1, 2, 0]), 2).tolist() == [True, True, True, False, True, True]


@pytest.mark.parametrize("loss", ["entropy", "im", "snc"])
def test_a_copy_becomes_surer_and_the_model_stays(loss: Any) -> None:
    world = checked_world(from_dict(scenario()))
    net, x = world.net("0"), world.holding("0").transfer
    assert x is not None
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    first = {name: tensor.clone() for name, tensor in tensors.items()}
    adapt = Adapt(loss=loss, epochs=20, lr=0.01)
    found = adapted(net, Speaker(tensors), x, adapt, at=AT).tensors
    assert all(torch.equal(tensor, first[name]) for name, tensor in tensors.items())
    assert torch.equal(found["head.weight"], tensors["head.weight"])
    said = []
    for held in (tensors, found):
        net.load_state_dict(held)
        said.append(net(x)[1].softmax(-1).detach())
    assert entropy(said[1]).mean() < entropy(said[0]).mean()
    again = adapted(net, Speaker(tensors), x, adapt, at=AT).tensors
    assert all(torch.equal(tensor, again[name]) for name, tensor in found.items())


def test_few_labels_choose_the_better_one() -> None:
    world = checked_world(from_dict(scenario()))
    net, x = world.net("0"), world.holding("0").transfer
    assert x is not None
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    was = net(x)[1].argmax(-1)
    adapt = Adapt(loss="im", epochs=20, lr=0.01, few=3)
    kept = adapted(net, Speaker(tensors), x, adapt, at=AT, judges=(x, was))
    assert kept.tensors is tensors
    assert kept.told["adapted"] == 0
    assert kept.told["adapt_gain"] < 0
    copy = adapted(net, Speaker(tensors), x, Adapt(loss="im", epochs=20, lr=0.01), at=AT)
    net.load_state_dict(copy.tensors)
    then = net(x)[1].argmax(-1)
    taken = adapted(net, Speaker(tensors), x, adapt, at=AT, judges=(x, then))
    assert taken.told["adapted"] == 1


def test_a_run_speaks_by_the_copy_and_trains_on_with_its_own(tmp_path: Path) -> None:
    more: dict[str, Any] = {"clients__adapt": {"loss": "im"}, "rounds": 1}
    plain: dict[str, Any] = {"rounds": 1}
    for name, given in {"plain": plain, "adapted": more}.items():
        fedkt.simulate(scenario(**given), out=tmp_path / name, observer=Silent())
    taught = [
        tensors["teacher/values"] for tensors in (_last(tmp_path / name) for name in ("plain", "adapted"))
    ]
    assert not torch.equal(*taught)
    few = {
        "clients__adapt": {"loss": "im", "few": 1},
        "data__public": {"from": "train", "size": 40},
        "rounds": 1,
    }
    run = fedkt.simulate(scenario(**few), out=tmp_path / "few", observer=Silent())
    assert set(run.clients["adapted"]) <= {0.0, 1.0}


def _last(folder: Path) -> dict[str, torch.Tensor]:
    state = DiskStore(folder / "checkpoint" / "clients").load("0", 99)
    assert state is not None
    return state.tensors


@pytest.mark.parametrize(
    ("adapt", "strategy", "told"),
    [
        ({"loss": "im", "few": 3}, "fedmd", "clients.adapt.few chooses by labelled rows of data.public"),
        ({"loss": "im", "budget": 3}, "fedmd", "clients.adapt.budget asks for labelled rows of data.public"),
        ({"loss": "statistics"}, "fedmd", "model 'mlp' has none; another loss must be named, such as im"),
        ({"loss": "statistics", "lr": 0.1}, "fedmd", "does not belong to loss 'statistics'; it belongs to"),
        ({"loss": "none", "trains": "input"}, "fedmd", "clients.adapt.trains has no effect with loss none"),
        ({"loss": "im"}, "fedproto", "clients of strategy 'fedproto' say nothing of transfer rows"),
        ({"loss": "none", "epochs": 3}, "fedmd", "clients.adapt.epochs has no effect with loss none"),
        ({"loss": "entropy", "prior": [1.0]}, "fedmd", "does not belong to loss 'entropy'; it belongs to im"),
        ({"loss": "im", "prior": [0.6, 0.6]}, "fedmd", "adds up to 1.2; shares of classes add up to 1"),
    ],
)
def test_what_cannot_be_adapted_is_told(adapt: dict[str, Any], strategy: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        checked_world(from_dict(scenario(clients__adapt=adapt, strategy={"name": strategy})))
    assert any(told in problem for problem in error.value.problems), error.value.problems


def test_a_mix_of_classes_has_one_share_per_class() -> None:
    with pytest.raises(InputError, match=r"clients\.adapt\.prior has 2 shares, but there are 10 classes"):
        checked_world(from_dict(scenario(clients__adapt={"loss": "im", "prior": [0.5, 0.5]})))


def test_what_is_undecided_and_rare_is_worth_a_label() -> None:
    before = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.9, 0.0], [0.5, 0.5, 0.0]])
    now = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.8, 0.0], [0.9, 0.05, 0.05]])
    # (.497, .3, .203): .197; (.203, .797, 0): .594; (.912, .0365, .0515): .8605
    assert margins(now, before).tolist() == pytest.approx([0.197, 0.594, 0.8605], abs=1e-6)
    # of the sure rows two are of class 0 and one of class 1
    expected = [0.197 / 0.8605 + 0.1, 0.594 / 0.8605 + 0.05, 1 + 0.1]
    assert worth(now, before).tolist() == pytest.approx(expected, abs=1e-4)


def test_labels_are_asked_for_round_by_round_and_never_more(tmp_path: Path) -> None:
    adapt = {"loss": "im", "few": 1, "budget": 5}
    given = scenario(clients__adapt=adapt, data__public={"from": "train", "size": 40}, rounds=3)
    run = fedkt.simulate(given, out=tmp_path / "run", observer=Silent())
    mine = run.clients[run.clients["client"].astype(str) == "0"]
    assert mine["labels_asked"].tolist() == [3.0, 5.0, 5.0]
    state = DiskStore(tmp_path / "run" / "checkpoint" / "clients").load("0", 99)
    assert state is not None
    asked = state.note["asked"]
    assert len(set(asked)) == 5
    world = checked_world(from_dict(given))
    public = world.holding("0").public
    assert public is not None
    assert not first_of(public[1], 1)[asked].any()  # those of `few` judge, and teach nothing


def test_a_copy_learns_what_was_labelled() -> None:
    world = checked_world(from_dict(scenario()))
    net, x = world.net("0"), world.holding("0").transfer
    assert x is not None
    own = Speaker({name: tensor.clone() for name, tensor in net.state_dict().items()})
    y, adapt = torch.full((len(x),), 3), Adapt(loss="entropy", epochs=20, lr=0.01)
    right = [
        float(adapted(net, own, x, adapt, at=AT, taught=taught).says(net, x)[:, 3].mean())
        for taught in (None, (x, y))
    ]
    assert right[1] > right[0] + 0.3


def test_an_input_layer_stands_before_a_model_that_stays_as_it_is() -> None:
    world = checked_world(from_dict(scenario()))
    net, x = world.net("0"), world.holding("0").transfer
    assert x is not None
    own = Speaker({name: tensor.clone() for name, tensor in net.state_dict().items()})
    before = own.says(net, x)
    found = adapted(net, own, x, Adapt(loss="im", trains="input", epochs=20, lr=0.05), at=AT)
    assert all(torch.equal(tensor, own.tensors[name]) for name, tensor in found.tensors.items())
    after = found.says(net, x)
    assert information(after) < information(before)
    inputs = torch.cat([x, x])  # transfer rows come first, and private ones are of the client's own sensor
    seen = found.sees(inputs)
    assert not torch.equal(seen[: len(x)], x)
    assert torch.equal(seen[len(x) :], x)
    assert own.sees(inputs) is inputs


def test_statistics_move_by_shares_that_fade() -> None:
    norm = torch.nn.BatchNorm1d(1)
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), norm)
    move_statistics(net, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [5.0]])])
    # 0 -> .1 x 2 -> .906 x .2 + .094 x 5; variance 1 -> .9 + .1 x 2 -> .906 x 1.1
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.running_mean.item() == pytest.approx(0.906 * 0.2 + 0.094 * 5)
    assert norm.running_var.item() == pytest.approx(0.906 * 1.1)
    assert norm.momentum == 0.1
    assert not norm.training


def normed(input: Any, classes: int) -> torch.nn.Module:
    """Return a net with BatchNorm."""
    net = torch.nn.Module()
    size = input.shape[0] * input.shape[1] * input.shape[2]
    net.features = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, 6), torch.nn.BatchNorm1d(6))
    net.head = torch.nn.Linear(6, classes)
    return net


@pytest.mark.parametrize("loss", ["statistics", "im"])
def test_statistics_of_a_net_that_has_them_move_and_the_own_ones_stay(loss: Any) -> None:
    world = checked_world(from_dict(scenario(clients__models=[f"{__name__}:normed"])))
    net, x = world.net("0"), world.holding("0").transfer
    assert x is not None
    own = Speaker({name: tensor.clone() for name, tensor in net.state_dict().items()})
    found = adapted(net, own, x + 1, Adapt(loss=loss), at=AT)
    moved = {name for name, tensor in found.tensors.items() if not torch.equal(tensor, own.tensors[name])}
    statistics = {f"features.2.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    assert statistics <= moved
    assert (moved == statistics) == (loss == "statistics")


def measured() -> tuple[Any, Any]:
    """Return a table of two classes."""
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


def test_what_a_budget_and_an_input_layer_need_is_told() -> None:
    small: dict[str, Any] = {"data__public": {"from": "train", "size": 10}}
    with pytest.raises(InputError) as error:
        checked_world(from_dict(scenario(clients__adapt={"loss": "im", "budget": 11}, **small)))
    assert "clients.adapt.budget is 11, but data.public has 10 rows" in error.value.problems[0]
    table = {
        "dataset": f"{__name__}:measured",
        "partition": {"kind": "iid", "clients": 2},
        "transfer": {"from": "train", "size": 9},
    }
    with pytest.raises(InputError) as error:
        checked_world(from_dict(scenario(clients__adapt={"loss": "im", "trains": "input"}, data=table)))
    assert any("but rows are tabular; it must be features" in told for told in error.value.problems)
    forest = {"name": "sklearn", "estimator": "LogisticRegression"}
    with pytest.raises(InputError) as error:
        checked_world(from_dict(scenario(clients__adapt={"loss": "im"}, clients__models=[forest])))
    assert any("has none that can be trained" in told for told in error.value.problems)
