"""A copy that is brought to the transfer rows before a client speaks of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fedkt
from fedkt.client.lessons.adapting import adapted, contrast, entropy, few_of, information
from fedkt.client.state import DiskStore
from fedkt.engine.world.checked import checked_world
from fedkt.errors import InputError
from fedkt.results.observer import Silent
from fedkt.scenario import from_dict
from fedkt.scenario.about_adversity import Adapt
from tests.client.test_lessons import scenario

P = torch.tensor([[0.8, 0.2], [0.6, 0.4]])


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
    x, y = few_of(torch.arange(6.0), torch.tensor([1, 1, 0, 1, 2, 0]), 2)
    assert (x.tolist(), y.tolist()) == ([0.0, 1.0, 2.0, 4.0, 5.0], [1, 1, 0, 2, 0])


@pytest.mark.parametrize("loss", ["entropy", "im", "snc"])
def test_a_copy_becomes_surer_and_the_model_stays(loss: Any) -> None:
    world = checked_world(from_dict(scenario()))
    net, x = world.net("0"), world.holding("0").transfer
    assert x is not None
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    first = {name: tensor.clone() for name, tensor in tensors.items()}
    adapt = Adapt(loss=loss, epochs=20, lr=0.01)
    found = adapted(net, tensors, x, adapt, few=None, seed=0, client="0", round_=1).tensors
    assert all(torch.equal(tensor, first[name]) for name, tensor in tensors.items())
    assert torch.equal(found["head.weight"], tensors["head.weight"])
    said = []
    for held in (tensors, found):
        net.load_state_dict(held)
        said.append(net(x)[1].softmax(-1).detach())
    assert entropy(said[1]).mean() < entropy(said[0]).mean()
    again = adapted(net, tensors, x, adapt, few=None, seed=0, client="0", round_=1).tensors
    assert all(torch.equal(tensor, again[name]) for name, tensor in found.items())


def test_few_labels_choose_the_better_one() -> None:
    world = checked_world(from_dict(scenario()))
    net, x = world.net("0"), world.holding("0").transfer
    assert x is not None
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    was = net(x)[1].argmax(-1)
    adapt = Adapt(loss="im", epochs=20, lr=0.01, few=3)
    kept = adapted(net, tensors, x, adapt, few=(x, was), seed=0, client="0", round_=1)
    assert kept.tensors is tensors
    assert kept.told["adapted"] == 0
    assert kept.told["adapt_gain"] < 0
    copy = adapted(
        net, tensors, x, Adapt(loss="im", epochs=20, lr=0.01), few=None, seed=0, client="0", round_=1
    )
    net.load_state_dict(copy.tensors)
    then = net(x)[1].argmax(-1)
    taken = adapted(net, tensors, x, adapt, few=(x, then), seed=0, client="0", round_=1)
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
