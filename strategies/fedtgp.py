"""FedTGP: the server trains prototypes that lie close to the clients' and far from each other.

Zhang et al. 2024, "FedTGP: Trainable Global Prototypes with Adaptive-Margin-Enhanced Contrastive Learning
for Data and Model Heterogeneity in Federated Learning", AAAI 2024, arXiv 2401.03230.

A generator (class embedding, two layers) makes one prototype per class. Each client's prototype P of a
class is classified by its distances to the generated ones, its own being made longer by the margin.

What differs from the paper: nothing in the formulas. As in the official code the hidden layer is as wide
as a feature, the margin comes from the equal-weighted mean prototypes and SGD takes batches of 10. The
generator makes a prototype for classes, too, that nobody has held so far; these are not taught here.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fedkt.client import Arrays, Fit, Forward, Steps
from fedkt.client.training import seeded
from fedkt.rng import seed_of
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig
from fedkt.strategy.fusing.server_model import Trained


class FedTGPConfig(StrategyConfig):
    """Settings of FedTGP."""

    weight: float = Field(10.0, ge=0)
    """The paper's lambda: weight of the distance to the prototype in a client's loss."""
    loss: str = "prototype_mse"
    """What pulls features towards prototypes: a loss of features (the paper's is ``prototype_mse``)."""
    tau: float = Field(100.0, ge=0)
    """Largest margin, a distance between features."""
    lr: float = Field(0.01, gt=0)
    """Learning rate of the generator (SGD)."""
    epochs: int = Field(100, ge=1)
    """Passes of the generator over the clients' prototypes in each round; the paper takes 100 to 1000."""
    batch_size: int = Field(10, ge=1)
    """Prototypes per step of the generator."""


class FedTGP(Strategy):
    """Give every client the trained prototype of each class."""

    one_class = "it shares what is known per class"
    client = "prototypes"
    reads_distill = frozenset()
    one_width = True
    distils = "features"
    takes_mean = False
    Config = FedTGPConfig
    config: FedTGPConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        dims = next(iter(setting.dims.values()))
        with seeded(seed_of(setting.seed, "model", "tgp")):
            self._generator = Trained(Generator(dims.classes, dims.width), "tgp")
        self._known = torch.zeros(dims.classes, dtype=torch.bool)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how strongly prototypes pull."""
        return {"weight": config.weight, "loss": config.loss}

    def fuse(self, contributions: Contributions) -> Fused:
        """Train the generator on what the clients hold and let it make each class's prototype."""
        config, ordered = self.config, contributions.by_name()
        prototypes, held = ordered.values, ordered.arrays["counts"] > 0
        gap = margin(prototypes, held, config.tau)
        rows = {"x": prototypes[held], "y": held.nonzero()[:, 1]}
        steps = Steps(config.epochs, config.batch_size, "sgd", config.lr)
        every = torch.arange(len(self._known))
        phase = Fit("prototypes", rows, partial(separated, margin=gap), steps, {"classes": every})
        self._generator.fit(phase, self.setting.seed, self.round)
        made = self._generator.predict(every)
        self._known |= held.any(0)
        values = made * self._known.unsqueeze(-1)
        return Fused({"values": values, "counts": self._known.int()}, report={"margin": gap})

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the generator and the classes that somebody has held."""
        return self._generator.state() | {"known": self._known.clone()}, {}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore the generator."""
        self._generator.load(tensors)
        self._known = tensors["known"].clone()


class Generator(nn.Module):
    """From class numbers [n] to prototypes [n, width], which are its features and its output alike."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Embedding(classes, width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        made = self.layers(y)
        return made, made


def separated(net: Forward, batch: Arrays, constants: Arrays, *, margin: float) -> Tensor:
    """Return the loss [B] of the generator ``net`` on prototypes ``x`` [B, width] of the classes ``y`` [B].

    ``constants``: ``classes``, all their numbers.
    """
    made, _ = net(constants["classes"])
    return contrastive(batch["x"], batch["y"], made, margin)


def margin(prototypes: Tensor, held: Tensor, tau: float) -> float:
    """Return min(tau, the largest distance of a class's mean prototype to the nearest other one).

    ``prototypes`` [clients, classes, width]; ``held`` bool [clients, classes]. Classes that nobody holds
    do not count; with fewer than two classes there is no distance, and the margin is ``tau``.
    """
    there = held.any(0)
    if there.sum() < 2:
        return tau
    total = (prototypes * held.unsqueeze(-1)).sum(0)[there]
    mean = (total / held.sum(0)[there].unsqueeze(-1)).double()
    apart = distances(mean, mean).fill_diagonal_(torch.inf)
    return min(tau, apart.amin(-1).max().item())


def contrastive(prototypes: Tensor, y: Tensor, made: Tensor, margin: float) -> Tensor:
    """Return the cross entropy [n] of -(distance + margin at the own class).

    ``prototypes`` [n, width] of the classes ``y`` int64 [n]; ``made`` [classes, width] by the generator.
    """
    own = nn.functional.one_hot(y, len(made))
    scores = -(distances(prototypes, made) + margin * own)
    return nn.functional.cross_entropy(scores, y, reduction="none")


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distances [n, m] of ``a`` [n, width] and ``b`` [m, width]; slope 0 at 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
