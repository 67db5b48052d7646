"""What KT-pFL, COMET and FedTGP make of contributions, against numbers worked out by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.knowledge import Dims
from fedkt.scenario import from_dict
from fedkt.strategies.comet import Comet, CometConfig, centroids, closest
from fedkt.strategies.fedtgp import FedTGP, FedTGPConfig, contrastive, margin
from fedkt.strategies.ktpfl import KTpFL, KTpFLConfig, auto_rate, gradient
from fedkt.strategy import Contributions, Fused, Setting, mix

CLASSES, WIDTH = 3, 8


def begin(kind: Any, config: Any, clients: int = 2) -> Any:
    """Make a strategy for clients 0, 1, ..."""
    described = from_dict({"name": "more", "data": {"transfer": {"size": 1}}})
    dims = {str(i): Dims(1, 1, CLASSES, WIDTH) for i in range(clients)}
    return kind(config, Setting(described, "run", dims, "", SimpleNamespace()))  # type: ignore[arg-type]


def told(names: str, values: Tensor, **more: Tensor) -> Contributions:
    return Contributions(tuple(names), {"values": values, **more})


# ---- KT-pFL

# One row, two classes: the first client is sure of class 0, the second of neither.
SURE = torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]], dtype=torch.float64)
EVEN = torch.full((2, 2), 0.5, dtype=torch.float64)


def test_ktpfl_gradient() -> None:
    # Both mixes are (.75, .25); minus the own prediction: (-.25, .25) and (.25, -.25).
    # 2/size = 1, so d/dc_ij is their product with p_j: (-.25, 0) and (.25, 0). At 1/N rho adds nothing.
    assert gradient(EVEN, SURE, 0.7).tolist() == [[-0.25, 0.0], [0.25, 0.0]]
    # At c_1 = (.8, .2) the mix is (.9, .1), minus p_1: (-.1, .1), so (-.1, 0);
    # rho adds 2 * .7/2 * (.3, -.3) = (.21, -.21).
    c = torch.tensor([[0.8, 0.2], [0.5, 0.5]], dtype=torch.float64)
    assert gradient(c, SURE, 0.7)[0].tolist() == pytest.approx([0.11, -0.21])
    assert gradient(c, SURE, 0.0)[0].tolist() == pytest.approx([-0.1, 0.0])


def test_ktpfl_gradient_agrees_with_autograd() -> None:
    torch.manual_seed(0)
    knowledge = torch.rand(4, 5, 3, dtype=torch.float64)
    c = torch.rand(4, 4, dtype=torch.float64, requires_grad=True)
    for i in range(4):
        own = torch.nn.functional.mse_loss(mix(c, knowledge)[i], knowledge[i])
        even = torch.nn.functional.mse_loss(c[i], torch.full((4,), 0.25, dtype=torch.float64))
        (expected,) = torch.autograd.grad(own + 0.7 * even, c)
        assert torch.allclose(gradient(c.detach(), knowledge, 0.7)[i], expected[i])


def test_ktpfl_rate() -> None:
    # Mean 0.3: 0.3/25 = 0.012 just exceeds 0.01. Mean 0.001: times 25. Exactly none: the largest power.
    slope = torch.tensor([[0.5, -0.1], [0.001, 0.001], [0.0, 0.0], [1e9, 1e9]], dtype=torch.float64)
    assert auto_rate(slope)[:, 0].tolist() == pytest.approx([1 / 25, 25, 3125, 1 / 3125])


def test_ktpfl_step() -> None:
    # lr 0.4: (.5, .5) - .4 (-.25, 0) = (.6, .5) and (.4, .5). softmax(5 c): 1/(1 + exp(-.5)) = .62246.
    strategy = begin(KTpFL, KTpFLConfig(lr=0.4))
    fused = strategy.fuse(told("01", SURE.float()))
    weights = [pytest.approx([0.62246, 0.37754], abs=1e-5), pytest.approx([0.37754, 0.62246], abs=1e-5)]
    assert fused.report == {"clients": ["0", "1"], "weights": weights}
    # .62246 (1, 0) + .37754 (.5, .5)
    assert fused.personal
    assert fused.arrays["values"][0, 0].tolist() == pytest.approx([0.81123, 0.18877], abs=1e-5)
    assert fused.arrays["values"][1, 0].tolist() == pytest.approx([0.68877, 0.31123], abs=1e-5)
    assert fused.arrays["values"].dtype == torch.float32
    # They are where the next step starts.
    assert strategy.extra_state()[0]["coefficients"].tolist() == weights


def test_ktpfl_without_a_client() -> None:
    """Clients 0 and 2 share out 2/3 of their rows as two clients do; the rest is as it was."""
    strategy = begin(KTpFL, KTpFLConfig(lr=0.4), clients=3)
    fused = strategy.fuse(told("02", SURE.float()))
    assert fused.arrays["values"][0, 0].tolist() == pytest.approx([0.81123, 0.18877], abs=1e-5)
    # 2/3 * .62246 and 2/3 * .37754
    third = pytest.approx(1 / 3)
    found = strategy.extra_state()[0]["coefficients"].tolist()
    assert found[0] == [pytest.approx(0.41497, abs=1e-5), third, pytest.approx(0.25169, abs=1e-5)]
    assert found[1] == [third, third, third]
    assert found[2] == [pytest.approx(0.25169, abs=1e-5), third, pytest.approx(0.41497, abs=1e-5)]


def test_ktpfl_finds_who_is_alike() -> None:
    alike = torch.tensor([[[0.9, 0.1]], [[0.8, 0.2]], [[0.1, 0.9]]])
    strategy = begin(KTpFL, KTpFLConfig(), clients=3)
    for _ in range(5):
        weights = strategy.fuse(told("012", alike)).report["weights"]
    assert weights[0][0] > weights[0][2]
    assert weights[0][1] > weights[0][2]
    assert weights[2][2] > max(weights[2][:2])


# ---- COMET

# Four clients, one row, two classes: 0 and 2 say class 0, 1 and 3 class 1.
FOUR = torch.tensor([[[4.0, 0.0]], [[0.0, 3.0]], [[2.0, 0.0]], [[0.0, 5.0]]])


def test_comet_of_two_obvious_clusters() -> None:
    fused = begin(Comet, CometConfig(), clients=4).fuse(told("0123", FOUR))
    # ((4 + 2)/2, 0) for clients 0 and 2; (0, (3 + 5)/2) for 1 and 3.
    assert fused.arrays["values"].tolist() == [[[3.0, 0.0]], [[0.0, 4.0]], [[3.0, 0.0]], [[0.0, 4.0]]]
    assert fused.personal
    a, b, c, d = fused.report["cluster"]
    assert a == c != b == d


def test_comet_of_one_cluster_is_the_mean() -> None:
    fused = begin(Comet, CometConfig(clusters=1), clients=4).fuse(told("0123", FOUR))
    assert fused.arrays["values"].tolist() == [[[1.5, 2.0]]] * 4


def test_comet_makes_no_more_clusters_than_there_are_different_clients() -> None:
    assert centroids(FOUR[:1], 2, 0).tolist() == [[[4.0, 0.0]]]
    assert centroids(FOUR[[0, 0, 0]], 2, 0).tolist() == [[[4.0, 0.0]]]
    each = centroids(FOUR, 9, 0)
    assert torch.equal(each[closest(FOUR, each)], FOUR)


def test_comet_takes_the_closest() -> None:
    # From (4, 0): 9 + 0 < 16 + 16; from (0, 3): 9 + 9 > 0 + 1.
    assert closest(FOUR[:2], torch.tensor([[[0.0, 4.0]], [[1.0, 0.0]]])).tolist() == [1, 0]


def test_comet_refuses_more_clusters_than_clients() -> None:
    partition = {"kind": "dirichlet", "clients": 4, "samples_per_client": 30}
    described = {"name": "x", "data": {"partition": partition, "transfer": {"size": 50}}}
    with pytest.raises(InputError) as raised:
        checked_world(from_dict({**described, "strategy": {"name": "comet", "clusters": 5}}))
    assert raised.value.problems == (
        "strategy.clusters is 5, but there are 4 clients; it must be at most their number.",
    )
    checked_world(from_dict({**described, "strategy": {"name": "comet", "clusters": 4}}))


# ---- FedTGP


def test_fedtgp_margin() -> None:
    """Class 0 at (0, 0) and (2, 0), so (1, 0) on average; class 1 at (1, 3); class 2 at (1, 7); 3 unknown."""
    prototypes = torch.zeros(2, 4, 2)
    prototypes[1, 0] = torch.tensor([2.0, 0.0])
    prototypes[0, 1] = torch.tensor([1.0, 3.0])
    prototypes[1, 2] = torch.tensor([1.0, 7.0])
    held = torch.tensor([[True, True, False, False], [True, False, True, False]])
    # Nearest others: 3 for class 0 and 1, 4 for class 2.
    assert margin(prototypes, held, 100.0) == pytest.approx(4.0)
    assert margin(prototypes, held, 3.5) == 3.5
    assert margin(prototypes[:, :1], held[:, :1], 100.0) == 100.0


def test_fedtgp_loss() -> None:
    # Distances of (0, 0) to (3, 4) and (0, 1): 5 and 1; 2 more for its own class 1: scores -5 and -3.
    # -ln(e^-3/(e^-5 + e^-3)) = ln(1 + e^-2) = .126928
    made = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    loss = contrastive(torch.zeros(1, 2), torch.tensor([1]), made, 2.0)
    assert loss.item() == pytest.approx(0.126928, abs=1e-6)


def test_fedtgp_slope_is_finite_at_a_prototype() -> None:
    made = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    contrastive(torch.zeros(1, 2), torch.tensor([1]), made, 2.0).backward()
    assert made.grad is not None
    assert made.grad.isfinite().all()


def held_prototypes(seed: int = 0) -> Contributions:
    """Two clients around three distant class means; nobody holds class 2 but the second."""
    generator = torch.Generator().manual_seed(seed)
    means = 3 * torch.eye(CLASSES, WIDTH)
    values = means + 0.1 * torch.randn(2, CLASSES, WIDTH, generator=generator)
    counts = torch.tensor([[4, 2, 0], [1, 3, 5]], dtype=torch.int32)
    return told("01", values * (counts > 0).unsqueeze(-1), counts=counts)


def test_fedtgp_prototypes_are_nearest_to_those_of_their_class() -> None:
    fused: Fused = begin(FedTGP, FedTGPConfig(epochs=1000)).fuse(given := held_prototypes())
    values, held = given.values, given.arrays["counts"] > 0
    nearest = torch.cdist(values[held], fused.arrays["values"]).argmin(-1)
    assert nearest.tolist() == held.nonzero()[:, 1].tolist()
    assert fused.arrays["counts"].tolist() == [1, 1, 1]
    assert not fused.personal
    # Means are about 3 sqrt(2) = 4.24 apart.
    assert fused.report["margin"] == pytest.approx(4.24, abs=0.3)


def test_fedtgp_does_not_teach_what_nobody_has_held() -> None:
    strategy, all_held = begin(FedTGP, FedTGPConfig(epochs=1)), held_prototypes()
    counts = all_held.arrays["counts"].clone()
    counts[:, 2] = 0
    fused = strategy.fuse(told("01", all_held.values, counts=counts))
    assert fused.arrays["counts"].tolist() == [1, 1, 0]
    assert fused.arrays["values"][2].abs().max() == 0
    assert strategy.fuse(all_held).arrays["counts"].tolist() == [1, 1, 1]
    # It is remembered while its holder is away.
    assert strategy.fuse(told("01", all_held.values, counts=counts)).arrays["counts"].tolist() == [1, 1, 1]


# ---- all


@pytest.mark.parametrize(
    ("kind", "config"),
    [(KTpFL, KTpFLConfig()), (Comet, CometConfig()), (FedTGP, FedTGPConfig(epochs=3))],
)
def test_a_resumed_strategy_goes_on_as_the_uninterrupted_one(kind: Any, config: Any) -> None:
    def given(number: int) -> Contributions:
        held = held_prototypes(number)
        return held if kind is FedTGP else told("01", held.values.softmax(-1))

    straight, before, after = (begin(kind, config) for _ in range(3))
    for number in range(4):
        expected = straight.fuse(given(number))
        if number < 2:
            before.fuse(given(number))
        if number == 1:
            after.load_extra(*before.extra_state())
        if number >= 2:
            found = after.fuse(given(number))
            assert all(torch.equal(found.arrays[name], tensor) for name, tensor in expected.arrays.items())
    tensors, note = after.extra_state()
    assert note == straight.extra_state()[1]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in straight.extra_state()[0].items())


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        (KTpFLConfig, {"rho": -1}),
        (KTpFLConfig, {"lr": 0}),
        (KTpFLConfig, {"temperature": np.inf}),
        (CometConfig, {"clusters": 0}),
        (CometConfig, {"exchange": "votes"}),
        (FedTGPConfig, {"epochs": 0}),
        (FedTGPConfig, {"tau": -1}),
    ],
)
def test_settings_out_of_range_are_refused(config: Any, setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**setting)
