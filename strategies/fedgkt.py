"""FedGKT, for contrast: clients send features of their private rows; the server trains a larger net on them
and sends its logits of each row back.

He et al. 2020, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge", NeurIPS 2020,
arXiv 2007.14513, equations 5 and 6.

What differs from the paper: features are vectors, what a client's head takes, so the server's net is a
model for tables of them, where the paper cuts a ResNet after its first maps. Temperature and loss are those
of ``clients.distill``. What is measured is the client's own small model; the paper measures the server's net
on the client's features, for which those of test rows leave too. Here the net can be sent to the client, by
``whole``, which is what a client needs to predict with it.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from fedkt import registry
from fedkt.client import Fit, Steps, tutored
from fedkt.client import shared_weights as weights
from fedkt.errors import InputError
from fedkt.knowledge import LIMIT
from fedkt.knowledge.contrast import ServerLogits
from fedkt.models.feature_nets import on_features
from fedkt.rng import seed_of
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig
from fedkt.strategy.fusing.server_model import Trained

if TYPE_CHECKING:
    from fedkt.scenario import Scenario


class FedGKTConfig(StrategyConfig):
    """Settings of FedGKT."""

    rows: int = Field(1000, ge=1, le=100_000)
    """Private rows that each client shares, its first ones; a client with fewer fills up with zeros."""
    alpha: float = Field(1.0, ge=0)
    """Weight of distillation, on both sides."""
    model: str | dict[str, Any] = Field(
        default_factory=lambda: {"name": "mlp", "hidden": [256], "width": 128}
    )
    """The server's net, as in ``clients.models``: one that takes rows of a table."""
    whole: bool = False
    """Whether the server's net is sent to the clients, which then report ``whole_personal`` as well."""
    lr: float = Field(0.001, gt=0)
    """Learning rate of the server (Adam)."""
    epochs: int = Field(2, ge=1)
    """Passes of the server over all clients' rows in each round."""
    batch_size: int = Field(64, ge=1)
    """Rows per batch of the server."""


class FedGKT(Strategy):
    """Give each client the server's logits of its own rows."""

    one_class = "its server learns classes of features"
    shares = ("features",)
    client = "features"
    reads_distill = frozenset({"loss", "temperature"})
    one_width = True
    takes_mean = False
    Config = FedGKTConfig
    config: FedGKTConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        assert isinstance(config, FedGKTConfig)
        dims = next(iter(setting.dims.values()))
        seed = seed_of(setting.seed, "model", "server")
        self._server = Trained(on_features(config.model, dims.width, dims.classes, seed), "server")
        super().__init__(config, setting)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how many rows it shares, how much the server's logits count, what comes back."""
        return {"rows": config.rows, "alpha": config.alpha, "model": config.model, "whole": config.whole}

    @classmethod
    def problems(cls, config: Any, scenario: "Scenario", clients: int) -> list[str]:
        """Refuse a net that does not take features."""
        try:
            on_features(config.model, width=1, classes=2, seed=0)
        except InputError as error:
            return [f"strategy.model: {problem}" for problem in error.problems]
        return []

    def newcomer(self) -> None:
        """Teach nobody what speaks of other clients' rows."""

    def fuse(self, contributions: Contributions) -> Fused:
        """Train on all rows; predict each client's."""
        held = contributions.by_name().arrays
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
        features, there = contributions.arrays["features"], contributions.arrays["labels"] >= 0
        logits = self._server.predict(features.flatten(0, 1)).view(*features.shape[:2], -1)
        arrays = {"values": logits.clamp(-LIMIT, LIMIT) * there.unsqueeze(-1)}
        if config.whole:
            net = weights.parameters(weights.teacher(self._server.module))
            arrays |= {f"{ServerLogits.NET}{n}": p.expand(len(features), *p.shape) for n, p in net.items()}
        return Fused(arrays, personal=True)

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the server's net."""
        return self._server.state(), {}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore the server's net."""
        self._server.load(tensors)
