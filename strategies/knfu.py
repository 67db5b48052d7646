"""KnFu: each client learns from the peers whose knowledge is effective for it.

Seyedmohammadi et al. 2024, "KnFu: Effective Knowledge Fusion", arXiv 2403.11892.

What differs from the paper: its full text could not be read here. Known are its four steps, that clients
are described by an estimated probability distribution (EPD) and that beta in equation 8 is 10. The rest
is reconstructed, and every open choice is a setting:

1. EPD_n: the mean of client n's softmax over the transfer set, or its label histogram (``epd``);
2. d[n, m] = KL(EPD_n || EPD_m), or the other direction (``direction``);
3. a[n, m] = exp(-beta d[n, m]) / sum over m of the same, with or without m = n (``include_self``);
4. teacher_n = sum over m of a[n, m] K_m, for client n only.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig, temperature_of
from fedkt.strategy.fusing.fusion import weights_report
from fedkt.tasks import CLASSIFICATION, EVERY, Task, task_of


class KnFuConfig(StrategyConfig):
    """Settings of KnFu."""

    beta: float = Field(10.0, ge=0)
    """Sharpness, per nat: 0 gives everyone the same mean, infinity leaves each client its own knowledge."""
    epd: Literal["predictions", "labels"] = "predictions"
    """What describes a client: its mean prediction (nothing more is sent) or its label histogram."""
    direction: Literal["forward", "reverse"] = "forward"
    """KL(EPD_n || EPD_m) or KL(EPD_m || EPD_n), n being the client that learns."""
    include_self: bool = True
    """Whether a client's own knowledge is part of its teacher."""
    temperature: float | None = Field(None, gt=0)
    """Of the softmax that is exchanged and distilled; null: ``clients.distill.temperature``, else 1."""


class KnFu(Strategy):
    """Give each client the knowledge of its semantic neighbours."""

    tasks = EVERY
    client = "logits"
    needs_transfer = True
    Config = KnFuConfig
    config: KnFuConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities, and the label histogram where it is the EPD."""
        return {"form": "probabilities", "label_share": config.epd == "labels", **temperature_of(config)}

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse histograms of numbers."""
        task = task_of(scenario.data)
        if config.epd == "predictions" or task.bounded:
            return []
        return [f"strategy.epd is labels, of which data.task {task.name} has none; it must be predictions."]

    def fuse(self, contributions: Contributions) -> Fused:
        """Weigh the clients for each client and mix their predictions."""
        config, knowledge = self.config, contributions.values
        task = self.task
        epd = contributions.arrays["label_share"] if config.epd == "labels" else task.described(knowledge)
        how = (config.beta, config.direction)
        weights = effectiveness(epd, *how, include_self=config.include_self, task=task)
        report = weights_report(contributions.clients, weights)
        return Fused({"values": self.mixed(weights, knowledge)}, personal=True, report=report)


def effectiveness(
    epd: Tensor,
    beta: float,
    direction: str = "forward",
    *,
    include_self: bool = True,
    task: Task = CLASSIFICATION,
) -> Tensor:
    """Return a [clients, clients]: how much of client m's knowledge client n takes; rows sum to one.

    ``epd`` [clients, d] are distributions, as the task describes clients; ``beta`` per nat.
    """
    distance = task.divergence(epd)
    if direction == "reverse":
        distance = distance.T
    scores = -beta * distance
    if not include_self and len(epd) > 1:
        scores = scores.masked_fill(torch.eye(len(epd), dtype=torch.bool), float("-inf"))
    return scores.softmax(-1).to(epd.dtype)
