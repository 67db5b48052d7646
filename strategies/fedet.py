"""Fed-ET, for contrast: small models of several architectures teach a larger one on the server.

Cho et al. 2022, "Heterogeneous Ensemble Knowledge Transfer for Training Large Models in Federated Learning",
IJCAI 2022, arXiv 2204.12703.

A model's say on a transfer row is the variance of its logits over classes, its confidence. The server's
model learns the label of the weighted consensus and, by ``diversity``, the weighted logits of the models that
disagree with that label. The representation layer that all share is the last one: it starts as the mean of
the clients', is trained with the server's model and goes back into every small model.

What differs from the paper: its full text could not be read here; the formulas are known from summaries and a
third party's code. Small models of one architecture are averaged by rows. The optimiser is Adam, which goes
on from round to round.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fedkt import models
from fedkt.client import Arrays, Fit, Forward, Steps
from fedkt.client import shared_weights as weights
from fedkt.distill.losses import kl
from fedkt.errors import InputError
from fedkt.knowledge import Weights
from fedkt.models.build import named
from fedkt.rng import seed_of
from fedkt.strategy import Contributions, Fused, Setting, StrategyConfig
from fedkt.strategy.averaging import WeightAveraging
from fedkt.strategy.fusing.server_model import Trained

SMALLEST = 1e-12


class FedETConfig(StrategyConfig):
    """Settings of Fed-ET."""

    model: str | dict[str, Any] = Field(default_factory=lambda: {"name": "mlp", "hidden": [256]})
    """The server's model, as in ``clients.models``; its feature width is that of the clients'."""
    diversity: float = Field(0.05, ge=0)
    """The paper's lambda: weight of the models that disagree."""
    lr: float = Field(0.001, gt=0)
    """Learning rate of the server (Adam)."""
    steps: int = Field(200, ge=1)
    """Batches per round."""
    batch_size: int = Field(64, ge=1)
    """Transfer rows per batch."""


class FedET(WeightAveraging):
    """Give every client the mean model of its architecture with the server's last layer."""

    one_class = "a model's say is how its logits vary over classes"
    one_model = False
    one_width = True
    server_transfer = True
    Config = FedETConfig
    config: FedETConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        assert isinstance(config, FedETConfig)
        dims = next(iter(setting.dims.values()))
        name, told = named(config.model)
        seed = seed_of(setting.seed, "model", "large")
        net = models.build((name, {"width": dims.width} | told), setting.input, dims.classes, seed)
        if net.width != dims.width:
            raise InputError(
                f"strategy.model has feature width {net.width}, but clients.models have {dims.width}; "
                "it must have theirs."
            )
        self._server = Trained(net, "server")
        super().__init__(config, setting)

    def fuse(self, contributions: Contributions) -> Fused:
        """Teach the server's model by the small ones; average these and give them its last layer."""
        x, config = self.setting.transfer_x(self.round), self.config
        net = self._server.module
        held = contributions.by_name().arrays
        shared = {n: t.mean(0) for n, t in weights.parameters(held).items() if n.startswith("head.")}
        net.load_state_dict(shared, strict=False)
        logits = torch.stack(list(self.predictions(contributions, x).values()))
        labels = consensus(logits)
        others, differ = dissent(logits, labels)
        rows = {"x": x, "y": labels, "others": others, "differ": differ}
        steps = Steps(0, config.batch_size, "adam", config.lr, batches=config.steps)
        phase = Fit("server", rows, partial(agreeing, diversity=config.diversity), steps)
        self._server.fit(phase, self.setting.seed, self.round)
        trained = {n: t for n, t in weights.teacher(net).items() if n.startswith(f"{Weights.PREFIX}head.")}
        means = {name: mean | trained for name, mean in self.averages(contributions).items()}
        return replace(self.taught(means), report={"disagree": differ.mean().item()})

    def serve(self, x: Tensor) -> Tensor:
        """Return the logits [n, classes] of the server's model."""
        return self._server.predict(x)

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the server's model."""
        return self._server.state(), {}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore the server's model."""
        self._server.load(tensors)


def confidence(logits: Tensor) -> Tensor:
    """Return each model's weight on each row [clients, rows]: its share of the variances over classes.

    ``logits`` [clients, rows, classes]. Columns add up to one, or are zeros where no model prefers a class.
    """
    variance = logits.var(-1, correction=0)
    return variance / variance.sum(0).clamp_min(SMALLEST)


def consensus(logits: Tensor) -> Tensor:
    """Return the label int64 [rows] of the confident mean of ``logits`` [clients, rows, classes]."""
    return (confidence(logits).unsqueeze(-1) * logits).sum(0).argmax(-1)


def dissent(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean logits [rows, classes] of the models that contradict ``labels`` [rows], by confidence.

    And where there are some: 1, else 0 [rows].
    """
    differ = (logits.argmax(-1) != labels).to(logits.dtype)
    weight = confidence(logits) * differ
    weight = weight / weight.sum(0).clamp_min(SMALLEST)
    return (weight.unsqueeze(-1) * logits).sum(0), differ.amax(0)


def agreeing(net: Forward, batch: Arrays, constants: Arrays, *, diversity: float) -> Tensor:
    """Return CE(f(x), y) + diversity KL(others || f(x)) per row [B]; the second where some differ."""
    _, logits = net(batch["x"])
    own = torch.nn.functional.cross_entropy(logits, batch["y"], reduction="none")
    return own + diversity * batch["differ"] * kl(logits, batch["others"])
