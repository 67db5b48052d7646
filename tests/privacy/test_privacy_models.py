"""Models that private training must clip rightly or refuse before anything is paid, and what noise costs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt.client import Fit, Steps, classification
from fedkt.client.training import ModuleForward
from fedkt.data.sets.dataset import InputSpec
from fedkt.engine.checks.checked import checked_world
from fedkt.errors import InputError
from fedkt.models.net import Net
from fedkt.privacy import clipping
from fedkt.privacy.dpsgd import Dpsgd, fit_privately
from fedkt.rng import torch_stream
from fedkt.scenario import Scenario, from_dict

CLASSES, VOCABULARY, LENGTH, WIDTH = 3, 12, 6, 4
TOKENS = "tests.privacy.test_privacy_models:tokens"


def tokens() -> tuple[Any, Any]:
    """Return 200 rows of token ids, two of them padding, and three classes."""
    stream = torch_stream(0, "tokens")
    x = torch.randint(1, VOCABULARY, (200, LENGTH), generator=stream)
    x[:, -2:] = 0
    return x.numpy(), torch.arange(200).numpy() % CLASSES


class Part(nn.Module):
    """Features that look tokens up in a table; what else they do, subclasses say."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH, **settings)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.table(x).mean(1)
        return z


class Layered(Part):
    """With a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)


class Tied(Layered):
    """The table is used a second time, as a matrix, outside of its layer."""

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return torch.tanh(self.layer(z + 0.3 * z @ self.table.weight.T @ self.table.weight))


class Functional(Layered):
    """A layer's weight is used, and the layer is never called."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(F.linear(super().forward(x), self.layer.weight, self.layer.bias))


class Twice(Layered):
    """One layer is called twice."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(torch.tanh(self.layer(super().forward(x)))))


class Bag(nn.Module):
    """Opacus knows this layer with offsets only."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(VOCABULARY, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.table(x)
        return z


class Remembering(Part):
    """A running mean of all rows that were seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        self.mean: Tensor = 0.9 * self.get_buffer("mean") + 0.1 * z.detach().mean(0)
        return z


def two_places() -> nn.Module:
    """Return features with one layer at two places in a list."""
    layer = nn.Linear(WIDTH, WIDTH)
    return nn.Sequential(Part(), layer, nn.Tanh(), layer)


FEATURES = {
    "tied": Tied,
    "functional": Functional,
    "twice": Twice,
    "bag": Bag,
    "two places": two_places,
    "padded": lambda: Part(padding_idx=0),
    "plain": lambda: nn.Sequential(nn.Embedding(VOCABULARY, WIDTH), nn.Flatten(), nn.Linear(24, WIDTH)),
}
PLAIN = {"plain", "padded"}


def model(input: InputSpec, classes: int, features: str = "tied") -> nn.Module:
    """A model of a scenario."""
    more = {"remembering": Remembering, "rescaled": lambda: Part(max_norm=0.1)}
    module = nn.Module()
    module.features = {**FEATURES, **more}[features]()
    module.head = nn.Linear(WIDTH, classes)
    return module


def made(name: str) -> Net:
    torch.manual_seed(0)
    return Net(FEATURES[name](), nn.Linear(WIDTH, CLASSES), WIDTH)


def some_rows() -> dict[str, Tensor]:
    x, y = tokens()
    return {"x": torch.from_numpy(x[:5]), "y": torch.from_numpy(y[:5])}


def one_by_one(net: nn.Module, clip: float) -> list[Tensor]:
    """Return the sum of clipped row gradients by the definition: a backward pass per row."""
    params, total = list(net.parameters()), [torch.zeros_like(p) for p in net.parameters()]
    for i in range(5):
        row = {name: tensor[i : i + 1] for name, tensor in some_rows().items()}
        loss = classification(ModuleForward(net), row, {}).sum()
        found = torch.autograd.grad(loss, params, allow_unused=True)
        own = [torch.zeros_like(p) if g is None else g for g, p in zip(found, params, strict=True)]
        length = float(torch.cat([g.flatten() for g in own]).norm())
        total = [t + g * min(1.0, clip / length) for t, g in zip(total, own, strict=True)]
    return total


@pytest.mark.parametrize("name", FEATURES)
def test_clipping_is_that_of_rows_one_by_one(name: str) -> None:
    """By the way that is chosen; and the other way is chosen only where it is right."""
    net, clip = made(name), 0.1
    phase = Fit("train", some_rows(), classification, Steps(1, 5, "sgd", 0.1), private=True)
    plain = clipping.is_plain(net, phase)
    assert plain == (name in PLAIN)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    net.train()
    with (clipping.ghost if plain else clipping.by_row)(net, classification, {}, clip) as add:
        add(some_rows())
    for p, expected in zip(net.parameters(), one_by_one(net, clip), strict=True):
        assert p.grad is not None and torch.allclose(p.grad, expected, atol=1e-6)


def test_ghost_clipping_of_a_tied_table_would_exceed_the_clip() -> None:
    """Why it is tried: Opacus raises nothing, and one row moves the sum by more than noise is made for."""
    net = made("tied")
    longest = 0.0
    for i in range(5):
        with clipping.ghost(net, classification, {}, 0.1) as add:
            add({name: tensor[i : i + 1] for name, tensor in some_rows().items()})
        found = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        longest = max(longest, float(found.norm()))
    assert longest > 0.1005


@pytest.mark.parametrize("small", [clipping.SMALL, 0])
def test_the_row_of_padding_gets_noise_only(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise it does not move, whether row gradients are kept or made anew."""
    monkeypatch.setattr(clipping, "SMALL", small)
    net = made("padded")
    table = net.get_parameter("features.table.weight")
    before = table.detach().clone()
    phase = Fit("train", some_rows(), classification, Steps(3, 5, "sgd", 0.5), private=True)
    fit_privately(net, phase, {}, Dpsgd(0.0, 1.0), seed=0, client="0", round_=1)
    moved = (table - before).abs().sum(1) > 0
    assert not moved[0] and moved[1:].any()


def scenario(features: str) -> Scenario:
    return from_dict(
        {
            "name": "private-models",
            "data": {
                "dataset": TOKENS,
                "partition": {"kind": "iid", "clients": 2, "samples_per_client": 40},
                "transfer": {"size": 20},
            },
            "clients": {
                "models": [{"name": "tests.privacy.test_privacy_models:model", "features": features}],
                "local": {"epochs": 1, "batch_size": 20},
                "distill": {"epochs": 1},
            },
            "strategy": {"name": "knfu"},
            "privacy": {"mode": "dpsgd", "delta": 1e-5, "noise_multiplier": 2, "max_epsilon": 20},
            "engine": {"kind": "inline"},
            "rounds": 1,
        }
    )


@pytest.mark.parametrize(
    ("features", "what"), [("remembering", "features.mean"), ("rescaled", "features.table.weight")]
)
def test_a_layer_that_remembers_rows_is_refused(features: str, what: str) -> None:
    """Running means, and ``max_norm``, which rescales the table by which tokens are looked up."""
    with pytest.raises(InputError, match=f"'{what}' changes when rows are merely looked at"):
        checked_world(scenario(features))


def test_what_would_fail_in_the_first_private_round_fails_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no rule for\nthis layer.")

    monkeypatch.setattr("fedkt.engine.world.private.fit_privately", broken)
    with pytest.raises(InputError) as refused:
        checked_world(scenario("plain"))
    assert refused.value.problems == (
        "model 'tests.privacy.test_privacy_models:model' cannot be trained privately: a step on made rows "
        "ends in RuntimeError: no rule for this layer.",
    )


def test_models_that_failed_after_paying_are_trained(tmp_path: Path) -> None:
    """An EmbeddingBag and a table that is used twice, through a whole run."""
    from fedkt import simulate

    for features in ("bag", "tied"):
        found = simulate(scenario(features), out=tmp_path / features)
        assert found.summary["privacy"]["epsilon"] > 0
        assert found.summary["replies"]["accepted"] == 2
