"""Selective-FD: clients speak only about rows like their own, the server only about rows on which they agree.

Shao, Wu, Zhang 2024, "Selective knowledge sharing for privacy-preserving federated distillation without a
good teacher", Nature Communications 15, arXiv 2304.01731.

A client estimates by KuLSIF, for each of its classes as in the official code, how much likelier a row is
among its own than among uniform noise, and predicts rows that are likelier than a quarter of its held-out
ones; the official code's linear system is solved here (see :mod:`fedkt.client.density_ratio`). The server
averages over the clients that kept a row and drops it where |onehot(largest) - mean|_1 reaches tau, which is
at most 2.

What differs from the paper: rows that are left out cross the wire as zeros, packed.
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig


class SelectiveFDConfig(StrategyConfig):
    """Settings of Selective-FD."""

    width: float = Field(5.0, gt=0)
    """Standard deviation of the Gaussian kernel, in units of a model's input. The official code's 5 is for
    MNIST's pixels at mean 0 and deviation 1 (data.normalise); in [0, 1] that would be about 1.5."""
    noise: int = Field(250, ge=1)
    """Rows of uniform noise; the ridge is one over its square root. The official code's 250."""
    quantile: float = Field(0.25, ge=0, le=1)
    """A row is kept whose ratio exceeds this quantile of held-out own rows; the official code's quarter."""
    tau: float = Field(2.0, gt=0, le=2)
    """The server drops rows at least this ambiguous; 2, as in the official code, drops none."""


class SelectiveFD(Strategy):
    """Give every client the mean prediction of those who know the row."""

    one_class = "a row that a client leaves out is told by zeros, which are an answer elsewhere"
    client = "logits"
    needs_transfer = True
    default_loss = "ce"
    Config = SelectiveFDConfig
    config: SelectiveFDConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities of the rows that a client knows."""
        selector = {"width": config.width, "noise": config.noise, "quantile": config.quantile}
        return {"form": "probabilities", "selector": selector}

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over the clients that kept a row."""
        held = contributions.values.sum(-1) > 0
        values = clear(self.centre(contributions.values, held), self.config.tau)
        report = {
            "clients": list(contributions.clients),
            "kept": held.float().mean(-1).tolist(),
            "taught": (values.sum(-1) > 0).float().mean().item(),
        }
        return Fused({"values": values}, report=report)


def clear(mean: Tensor, tau: float) -> Tensor:
    """Return means [rows, classes] with zeros where |onehot(largest) - mean|_1 is tau or more."""
    largest = torch.nn.functional.one_hot(mean.argmax(-1), mean.shape[-1])
    ambiguity = (largest - mean).abs().sum(-1, keepdim=True)
    return mean * (ambiguity < tau)
