"""Transferability: a client learns as much as its peers are like it, most from those most like it.

After Zhong, Ding, Liu, Du, Tao 2024, "PANDA: Prompt Transfer Meets Knowledge Distillation for Efficient
Model Adaptation", IEEE TKDE, arXiv 2208.10160: a source task's prompt teaches the target's, the more the
better it is predicted to transfer (a cosine of task embeddings).

What differs from the paper: the full formula of its metric is in neither the paper's text that was read nor
its code, so this is a reconstruction for clients. A client's embedding is its predictions on transfer rows
less the uniform one; the amount is mixed into the teacher, teacher = (1 - lambda) own + lambda peers, since
a weight on the loss of a phase of its own does nothing under Adam.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig
from fedkt.strategy.fusing.fusion import weights_report

SMALLEST = 1e-6
"""Predictions that are no farther from uniform ones have no direction."""


class TransferabilityConfig(StrategyConfig):
    """Settings of transferability."""

    metric: Literal["prediction", "agreement", "epd"] = "prediction"
    """Cosine of predictions, share of rows with the same likeliest class, or cosine of mean predictions."""
    top: float = Field(1.0, ge=0, le=1)
    """Weight of the peers where all are exactly like the client."""
    control: Literal["both", "amount", "weights"] = "both"
    """What likeness decides: how much is taken, from whom, or both."""


class Transferability(Strategy):
    """Give each client a mixture of its own and its peers' predictions, by likeness."""

    one_class = "it takes directions away from the uniform prediction"
    client = "logits"
    needs_transfer = True
    joint = True
    Config = TransferabilityConfig
    config: TransferabilityConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities."""
        return {"form": "probabilities"}

    def fuse(self, contributions: Contributions) -> Fused:
        """Mix the predictions by how much alike they are."""
        config, values = self.config, contributions.values
        weights = mixture(likeness(values, config.metric), config.top, config.control)
        report = weights_report(contributions.clients, weights)
        return Fused(
            {"values": self.mixed(weights, values)}, personal=True, report=report, beliefs=values.mean(0)
        )


def likeness(values: Tensor, metric: str = "prediction") -> Tensor:
    """Return how alike clients are, [clients, clients] in [0, 1], of ``values`` [clients, rows, classes].

    Cosines below 0 are 0, and so are those with a client whose predictions are uniform.
    """
    if metric == "agreement":
        winners = values.argmax(-1)
        return (winners.unsqueeze(1) == winners).to(values.dtype).mean(-1)
    if metric == "epd":
        values = values.mean(1, keepdim=True)
    points = (values.double() - 1 / values.shape[-1]).flatten(1)
    length = points.norm(dim=1, keepdim=True)
    points = torch.where(length > SMALLEST, points / length.clamp_min(SMALLEST), 0.0)
    cosines: Tensor = (points @ points.T).clamp(0, 1).to(values.dtype)
    return cosines


def mixture(like: Tensor, top: float, control: str = "both") -> Tensor:
    """Return the weights of all clients in each one's teacher [clients, clients]; rows sum to one.

    Of ``like`` [clients, clients]: lambda_n = top times the mean over m != n, and of this each peer has its
    share by likeness; where nobody is like it, a client keeps its own knowledge.
    """
    n = len(like)
    peers = ~torch.eye(n, dtype=torch.bool)
    like = like * peers
    total = like.sum(1, keepdim=True)
    shares = like / total.clamp_min(1e-12)
    if control == "amount":
        shares = peers.to(like.dtype) / max(n - 1, 1)
    amount = top * (total / max(n - 1, 1) if control != "weights" else (total > 0).to(like.dtype))
    return torch.diag((1 - amount).flatten()) + amount * shares
