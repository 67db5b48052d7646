"""FedGen, for contrast: besides averaging weights, the server trains a generator of features from the
clients' heads, without data; clients learn from what it makes.

Zhu et al. 2021, "Data-Free Knowledge Distillation for Heterogeneous Federated Learning", ICML 2021,
arXiv 2105.10056, equation 4 and algorithm 1; defaults are those of the authors' code for MNIST.

What differs from the paper: each private row is met with features that were drawn for it once per round, not
anew for each batch (the same where no row is seen twice in a round); the generator normalises by row, not by
batch, so that it makes the same feature whatever else is made; the optional adversarial student term, off in
the code, is left out.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fedkt.client import Arrays, Fit, Forward, Steps
from fedkt.client.training import seeded
from fedkt.knowledge.contrast import GeneratorWeights
from fedkt.models.feature_nets import generator, generator_input
from fedkt.rng import seed_of, torch_stream
from fedkt.strategy import Contributions, Fused, Setting, StrategyConfig
from fedkt.strategy.averaging import WeightAveraging
from fedkt.strategy.fusing.server_model import Trained


class FedGenConfig(StrategyConfig):
    """Settings of FedGen."""

    alpha: float = Field(10.0, ge=0)
    """Weight of the clients' cross entropy on made features; falls by ``decay`` each round."""
    beta: float = Field(10.0, ge=0)
    """Weight of the pull of predictions towards those of made features; falls by ``decay`` each round."""
    decay: float = Field(0.98, gt=0, le=1)
    """What alpha, beta and the generator's learning rate are multiplied by each round."""
    diversity: float = Field(1.0, ge=0)
    """The paper's eta: weight of the term that keeps made features apart."""
    noise: int = Field(32, ge=1)
    """Uniform random numbers that a feature is made of, beside its class."""
    hidden: int = Field(256, ge=1)
    """Units of the generator's hidden layer."""
    lr: float = Field(3e-4, gt=0)
    """Learning rate of the generator (Adam)."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of the generator."""
    steps: int = Field(50, ge=1)
    """Batches of the generator in each round."""
    batch_size: int = Field(32, ge=1)
    """Features per batch of the generator."""


class FedGen(WeightAveraging):
    """Give every client the mean model and a generator of features that all clients' heads agree on."""

    one_class = "it shares what is known per class"
    shares = ("weights", "knowledge")
    client = "fedgen"
    Config = FedGenConfig
    config: FedGenConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        assert isinstance(config, FedGenConfig)
        dims = next(iter(setting.dims.values()))
        with seeded(seed_of(setting.seed, "model", "generator")):
            net = generator(dims.classes, dims.width, config.noise, config.hidden)
        self._generator = Trained(net, "generator")
        self._known = torch.zeros(dims.classes, dtype=torch.bool)
        super().__init__(config, setting)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client the terms' weights and the generator's size."""
        return {name: getattr(config, name) for name in ("alpha", "beta", "decay", "noise", "hidden")}

    def initial(self) -> Fused:
        """Return one initial model, and a generator that is not used yet."""
        return self._with_generator(super().initial())

    def fuse(self, contributions: Contributions) -> Fused:
        """Average the weights; train the generator from the heads."""
        held = contributions.by_name()
        counts = held.arrays["counts"]
        self._known |= counts.sum(0) > 0
        heads = [self.net(c, held.of(c)).head.requires_grad_(False) for c in held.clients]
        loss = partial(agreed, heads=heads, share=class_share(counts), diversity=self.config.diversity)
        if counts.any():
            self._generator.fit(self._phase(counts, loss), self.setting.seed, self.round)
        return self._with_generator(super().fuse(contributions))

    def _phase(self, counts: Tensor, loss: Any) -> Fit:
        """Draw this round's noise, and classes that some client holds."""
        config, steps = self.config, self.config.steps
        stream, n = torch_stream(self.setting.seed, "noise", self.round), steps * config.batch_size
        held = (counts.sum(0) > 0).nonzero().flatten()
        y = held[torch.randint(len(held), (n,), generator=stream)]
        noise = torch.rand(n, config.noise, generator=stream)
        lr = config.lr * config.decay ** max(0, self.round - 1)
        how = Steps(1, config.batch_size, "adam", lr, weight_decay=config.weight_decay)
        rows = {"x": generator_input(noise, y, counts.shape[1]), "noise": noise, "y": y}
        return Fit("generator", rows, loss, how)

    def _with_generator(self, fused: Fused) -> Fused:
        module, prefix = self._generator.module, GeneratorWeights.GENERATOR
        arrays = {f"{prefix}{name}": p.detach().clone() for name, p in module.named_parameters()}
        arrays |= {"known": self._known.int(), "round": torch.tensor(self.round, dtype=torch.int32)}
        return Fused(dict(fused.arrays) | arrays)

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the generator and the classes that it was taught."""
        return self._generator.state() | {"known": self._known.clone()}, {}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore the generator."""
        self._generator.load(tensors)
        self._known = tensors["known"].clone()


def class_share(counts: Tensor) -> Tensor:
    """Return each client's share [clients, classes] of a class's rows, from ``counts`` [clients, classes].

    Columns add up to one, or are zeros where nobody holds the class.
    """
    return counts / counts.sum(0).clamp_min(1)


def agreed(
    net: Forward,
    batch: Arrays,
    constants: Arrays,
    *,
    heads: Sequence[nn.Module],
    share: Tensor,
    diversity: float,
) -> Tensor:
    """Return the generator's loss [B]: sum_k share_k(y) CE(h_k(made), y) + diversity * likeness."""
    made, _ = net(batch["x"])
    y = batch["y"]
    terms = [nn.functional.cross_entropy(head(made), y, reduction="none") for head in heads]
    return (share[:, y] * torch.stack(terms)).sum(0) + diversity * likeness(batch["noise"], made)


def likeness(noise: Tensor, made: Tensor) -> Tensor:
    """Return exp(-mean over pairs of d(noise) d(made)) [], in (0, 1].

    ``noise`` [B, n], by mean squared difference; ``made`` [B, width], by mean absolute difference.
    """
    apart = (noise.unsqueeze(0) - noise.unsqueeze(1)).square().mean(-1)
    return torch.exp(-(apart * (made.unsqueeze(0) - made.unsqueeze(1)).abs().mean(-1)).mean())
