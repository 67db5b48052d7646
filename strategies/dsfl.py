"""DS-FL: average the clients' probabilities and sharpen them (entropy reduction aggregation, ERA).

Itahara et al. 2021, "Distillation-Based Semi-Supervised Federated Learning for Communication-Efficient
Collaborative Training with Non-IID Private Data", IEEE TMC, arXiv 2008.06180, equation 8.

The temperature is applied to probabilities, not to logits: they lie in [0, 1], so two classes differ by
a factor of at most exp(1/T) after it, and T = 1 makes the average flatter instead of sharper.
"""

from typing import Any

from pydantic import Field
from torch import Tensor

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig


class DSFLConfig(StrategyConfig):
    """Settings of DS-FL."""

    era_temperature: float = Field(0.1, gt=0)
    """T of the sharpening; the paper's 0.1."""


class DSFL(Strategy):
    """Give every client the sharpened mean probabilities of all."""

    client = "logits"
    needs_transfer = True
    fuses_mean = True
    default_loss = "ce"
    Config = DSFLConfig
    config: DSFLConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities."""
        return {"form": "probabilities"}

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over clients and sharpen."""
        return Fused({"values": era(self.centre(contributions.values), self.config.era_temperature)})


def era(mean: Tensor, temperature: float) -> Tensor:
    """Return softmax(mean / temperature) of mean probabilities [rows, classes]."""
    return (mean / temperature).softmax(-1)
