"""FedDF, for contrast: average weights per architecture, then distil the ensemble of all into each mean.

Lin et al. 2020, "Ensemble Distillation for Robust Model Fusion in Federated Learning", NeurIPS 2020,
arXiv 2006.07242, algorithms 1 and 3 (several architectures).

The server predicts the unlabelled transfer set with every model it received and averages their logits; each
architecture's mean model starts from the weighted average and learns softmax(mean logits / T).

What differs from the paper: a fixed number of steps at a constant rate. There the rate falls by a cosine
over 10^4 steps, and training ends earlier by the accuracy on a labelled validation set, which the server
does not have here; nor are weak clients dropped by it, or gradients clipped.
"""

from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fedkt import registry
from fedkt.client import Fit, Steps, distillation
from fedkt.client import shared_weights as weights
from fedkt.strategy import Contributions, Fused, StrategyConfig
from fedkt.strategy.averaging import WeightAveraging
from fedkt.strategy.fusing.server_model import Trained
from fedkt.tasks import EVERY


class FedDFConfig(StrategyConfig):
    """Settings of FedDF: how the server distils (Adam); temperature and loss are ``clients.distill``'s."""

    lr: float = Field(0.001, gt=0)
    """Learning rate."""
    steps: int = Field(500, ge=0)
    """Batches per round and architecture; 0 is FedAvg. The paper's end about 1000 after the best."""
    batch_size: int = Field(128, ge=1)
    """Transfer rows per batch."""


class FedDF(WeightAveraging):
    """Give every client the mean model of its architecture, taught by the ensemble of all."""

    tasks = EVERY
    one_model = False
    server_transfer = True
    reads_distill = frozenset({"loss", "temperature"})
    Config = FedDFConfig
    config: FedDFConfig

    def fuse(self, contributions: Contributions) -> Fused:
        """Average, then distil."""
        x, told, config = self.setting.transfer_x(self.round), self.client_settings, self.config
        target = ensemble(torch.stack(list(self.predictions(contributions, x).values())))
        kind = registry.find("losses", told["loss"])
        loss = partial(distillation, loss=kind, temperature=told["temperature"])
        steps = Steps(0, config.batch_size, "adam", config.lr, batches=config.steps)
        phase = Fit("ensemble", {"x": x, "target": target}, loss, steps)
        teachers: dict[str, Any] = {}
        for name, mean in self.averages(contributions).items():
            net = self.net(self.alike(contributions.clients)[name][0], mean)
            Trained(net, f"student {name}").fit(phase, self.setting.seed, self.round)
            teachers[name] = weights.teacher(net, int(mean["examples"]))
        return self.taught(teachers)


def ensemble(logits: Tensor) -> Tensor:
    """Return the teacher's logits [rows, classes]: the mean of all models' [clients, rows, classes]."""
    return logits.mean(0)
