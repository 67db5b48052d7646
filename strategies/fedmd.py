"""FedMD: average the clients' logits on the transfer set, distil, train again.

Li, Wang 2019, "FedMD: Heterogenous Federated Learning via Model Distillation", arXiv 1910.03581.

What differs from the paper: the digestion's loss is the scenario's (the official code uses mean absolute
error on logits, which is this strategy's default).
"""

from typing import Any

from torch import Tensor

from fedkt.strategy import Contributions, Fused, Strategy


class FedMD(Strategy):
    """Give every client the mean logits of all."""

    client = "logits"
    needs_transfer = True
    default_loss = "mae"

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange raw logits."""
        return {"form": "logits"}

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over clients."""
        return Fused({"values": mean_logits(contributions.values)})


def mean_logits(logits: Tensor) -> Tensor:
    """Return the mean [rows, classes] of logits [clients, rows, classes]."""
    return logits.mean(0)
