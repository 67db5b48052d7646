"""FedKA with weights: its losses and what the server makes of votes, against numbers worked out by hand."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fedkt
from fedkt.client import Steps, beside
from fedkt.client.training import ModuleForward
from fedkt.clients.adversarial import AdversarialClient, adversarial
from fedkt.distill.domains import mk_mmd, reverse, two_domains
from fedkt.errors import InputError
from fedkt.models.net import Net
from fedkt.strategies.fedka_weights import adaptation


def test_reversal_keeps_values_and_turns_gradients_round() -> None:
    z = torch.tensor([[1.0, 2.0]], requires_grad=True)
    turned = reverse(z, torch.tensor(0.5))
    assert turned.tolist() == [[1.0, 2.0]]
    (turned * torch.tensor([[3.0, 4.0]])).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [[-1.5, -2.0]]


def test_mk_mmd_of_two_rows() -> None:
    """Rows 0 and 2: |a - b|² = 4 = m, kernels exp(-4/(4 2^i/4)) = exp(-4), exp(-2), exp(-1), ..."""
    k = sum(math.exp(-4 / 2**i) for i in range(5))
    features = torch.tensor([[0.0], [2.0]])
    # mean k(s, s) = mean k(t, t) = 5.
    assert mk_mmd(features, torch.tensor([1.0, 0.0])).item() == pytest.approx(10 - 2 * k, rel=1e-5)
    assert mk_mmd(features, torch.tensor([1.0, 1.0])).item() == 0.0


def test_mk_mmd_of_equal_samples_is_0_and_has_a_gradient() -> None:
    features = torch.tensor([[0.0], [1.0], [0.0], [1.0]], requires_grad=True)
    value = mk_mmd(features, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    value.backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_the_domain_classifier_scores_the_target() -> None:
    scores = torch.tensor([0.0, math.log(3)])  # target with probability 1/2, 3/4
    assert two_domains(scores, torch.tensor([1.0, 0.0])).tolist() == pytest.approx(
        [math.log(2), math.log(4 / 3)]
    )


def test_adaptation_sets_in_over_the_rounds() -> None:
    assert adaptation(0.0, 5.0) == 0.0
    assert adaptation(0.5, 2.0) == pytest.approx(2 / (1 + math.exp(-1)) - 1)
    assert adaptation(1.0, 50.0) == pytest.approx(1.0)


def test_rows_beside_private_ones() -> None:
    steps = Steps(1, 10, "sgd", 0.1)
    x, y = torch.zeros(2, 3), torch.tensor([4, 5])
    rows, more = beside(x, y, torch.ones(6, 3), torch.full((6,), -1), steps)
    assert rows["y"].tolist() == [4, 5] + [-1] * 6
    assert rows["source"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert rows["scale"].tolist() == pytest.approx([4, 4] + [8 / 6] * 6)
    assert more.batch_size == 40  # 10 private rows and 30 others


def net() -> Net:
    """Features are the inputs, logits the features; the domain classifier says 0 for everything."""
    module = Net(nn.Identity(), nn.Linear(2, 2, bias=False), 2)
    AdversarialClient.attach(module, 2)
    with torch.no_grad():
        module.get_parameter("head.weight").copy_(torch.eye(2))
        for name, tensor in module.named_parameters():
            if name.startswith("domain"):
                tensor.zero_()
    return module


@pytest.mark.parametrize("disentangler", [True, False])
@pytest.mark.parametrize("matching", [True, False])
def test_the_loss_of_a_client(disentangler: bool, matching: bool) -> None:
    module = net()
    x = torch.tensor([[math.log(3), 0.0], [2.0 + math.log(3), 0.0]])
    batch = {
        "x": x,
        "y": torch.tensor([0, -1]),
        "source": torch.tensor([1.0, 0.0]),
        "scale": torch.tensor([2.0, 2.0]),
    }
    constants: dict[str, Tensor] = {n: p.detach() for n, p in module.named_parameters()}
    constants["progress"] = torch.tensor(0.5)
    found = adversarial(ModuleForward(module), batch, constants, disentangler=disentangler, matching=matching)
    # Classification: p = (3/4, 1/4). Domains: score 0, so ln 2 each. MK-MMD as above, half of it.
    expected = torch.tensor([2 * math.log(4 / 3), 0.0])
    if disentangler:
        expected = expected + 2 * math.log(2)
    if matching:
        expected = expected + 0.5 * (10 - 2 * sum(math.exp(-4 / 2**i) for i in range(5)))
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_reference_is_the_servers_model_and_has_no_gradient() -> None:
    module = Net(nn.Linear(1, 1, bias=False), nn.Linear(1, 2), 1)
    AdversarialClient.attach(module, 1)
    constants = {n: torch.full_like(p, 7.0) for n, p in module.named_parameters()}
    constants["progress"] = torch.tensor(1.0)
    batch = {
        "x": torch.tensor([[1.0]]),
        "y": torch.tensor([-1]),
        "source": torch.tensor([0.0]),
        "scale": torch.tensor([1.0]),
    }
    forward = ModuleForward(module)
    assert forward.at({n: t for n, t in constants.items() if n != "progress"}, batch["x"])[0].tolist() == [
        [7.0]
    ]
    adversarial(forward, batch, constants, disentangler=False, matching=True).sum().backward()
    grad = module.get_parameter("features.weight").grad
    assert grad is None or grad.abs().sum() == 0


SETUP = [
    "data.partition={kind: iid, clients: 3, samples_per_client: 60}",
    "data.transfer={from: train, size: 40}",
    "clients.models=[{name: mlp, width: 16}]",
    "clients.local.epochs=1",
    "engine.kind=inline",
    "rounds=2",
]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["allow=[]", "strategy={name: fedka_weights}"], "write 'allow: [weights]' to run it"),
        (["allow=[weights]", "strategy={name: fedka_weights, threshold: 2}"], "strategy.threshold is 2"),
        (["allow=[weights]", "strategy={name: fedka_weights}", "data.transfer=null"], "transfer set"),
    ],
)
def test_bad_settings(more: list[str], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        fedkt.simulate("quickstart", [*SETUP, *more], out=tmp_path / "run")
    assert problem in str(raised.value)


def test_the_group_effect_is_the_mean_model_minus_the_clients_own(tmp_path: Path) -> None:
    more = ["allow=[weights]", "strategy={name: fedka_weights, steps: 4}"]
    fedkt.simulate("quickstart", [*SETUP, *more], out=tmp_path / "run")
    clients: list[dict[str, Any]] = [
        json.loads(line) for line in (tmp_path / "run" / "clients.jsonl").read_text().splitlines()
    ]
    last = [row for row in clients if row["round"] == 2]
    assert len({row["global"] for row in last}) == 1  # one model for all
    round_ = json.loads((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()[-1])
    own = sum(row["before_digest"] for row in last) / 3
    assert round_["group_effect"] == pytest.approx(last[0]["global"] - own)
    assert 0 < round_["report"]["voted"] <= 1


def test_an_exported_model_has_no_domain_classifier(tmp_path: Path) -> None:
    more = ["allow=[weights]", "strategy={name: fedka_weights, steps: 1}", "rounds=1"]
    fedkt.simulate("quickstart", [*SETUP, *more], out=tmp_path / "run")
    from fedkt.results.export import export

    export(tmp_path / "run", "0", tmp_path / "model")
    names = fedkt.load_model(tmp_path / "model").state_dict()
    assert names
    assert not any(name.startswith("domain") for name in names)
