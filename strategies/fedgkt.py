"""FedGKT, for contrast: clients send features of their private rows; the server trains a larger net on them
and sends its logits of each row back.

He et al. 2020, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge", NeurIPS 2020,
arXiv 2007.14513, equations 5 and 6.

What differs from the paper: features are vectors, what a client's head takes, so the server's net is a
multilayer perceptron on them, where the paper cuts a ResNet after its first maps. Temperature and loss are
the scenario's (``clients.distill``). What is measured is the client's own small model; the paper measures
the server's net on its features, for which those of test rows would have to leave as well.
"""

from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fedkt import registry
from fedkt.client import Fit, Steps, tutored
from fedkt.knowledge import LIMIT
from fedkt.models import Net
from fedkt.rng import seed_of
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig, client_order
from fedkt.trained import Trained
from fedkt.training import one_thread, predict, seeded


class FedGKTConfig(StrategyConfig):
    """Settings of FedGKT."""

    rows: int = Field(1000, ge=1, le=100_000)
    """Private rows that each client shares, its first ones; a client with fewer fills up with zeros."""
    alpha: float = Field(1.0, ge=0)
    """Weight of distillation, on both sides."""
    hidden: tuple[int, ...] = (256, 128)
    """Units of the layers of the server's net."""
    lr: float = Field(0.001, gt=0)
    """Learning rate of the server (Adam)."""
    epochs: int = Field(2, ge=1)
    """Passes of the server over all clients' rows in each round."""
    batch_size: int = Field(64, ge=1)
    """Rows per batch of the server."""


class FedGKT(Strategy):
    """Give each client the server's logits of its own rows."""

    shares = ("features",)
    client = "features"
    one_width = True
    Config = FedGKTConfig
    config: FedGKTConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        assert isinstance(config, FedGKTConfig)
        dims = next(iter(setting.dims.values()))
        with seeded(seed_of(setting.seed, "model", "server")):
            self._server = Trained(on_features(dims.width, config.hidden, dims.classes), "server")
        super().__init__(config, setting)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how many rows it shares and how much the server's logits count."""
        return {"rows": config.rows, "alpha": config.alpha}

    def fuse(self, contributions: Contributions) -> Fused:
        """Train on all rows; predict each client's."""
        # In the order of names, so that batches are the same however the clients are listed.
        held = contributions.among(sorted(contributions.clients, key=client_order)).arrays
        there = held["labels"] >= 0
        rows = {
            "x": held["features"][there],
            "y": held["labels"][there].long(),
            "target": held["logits"][there],
            "known": torch.ones(int(there.sum())),
        }
        told, config = self.client_settings, self.config
        kind = registry.find("losses", told["loss"])
        loss = partial(tutored, alpha=config.alpha, loss=kind, temperature=told["temperature"])
        steps = Steps(config.epochs, config.batch_size, "adam", config.lr)
        self._server.fit(Fit("server", rows, loss, steps), self.setting.seed, self.round)
        features = contributions.arrays["features"]
        with one_thread():
            _, logits = predict(self._server.module, features.flatten(0, 1))
        values = logits.view(*features.shape[:2], -1).clamp(-LIMIT, LIMIT)
        return Fused({"values": values * (contributions.arrays["labels"] >= 0).unsqueeze(-1)}, personal=True)

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the server's net."""
        return self._server.state(), {}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore the server's net."""
        self._server.load(tensors)


def on_features(width: int, hidden: tuple[int, ...], classes: int) -> Net:
    """Return a perceptron from features [B, width] to logits [B, classes]."""
    units = [width, *hidden]
    layers = [layer for a, b in pairwise(units) for layer in (nn.Linear(a, b), nn.ReLU())]
    return Net(nn.Sequential(*layers), nn.Linear(units[-1], classes), units[-1])
