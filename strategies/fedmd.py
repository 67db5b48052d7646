"""FedMD: average the clients' logits on the transfer set, distil, train again.

Li, Wang 2019, "FedMD: Heterogenous Federated Learning via Model Distillation", arXiv 1910.03581.

What differs from the paper: the digestion's loss is the scenario's; the default is the official code's mean
absolute error on logits. Under strong label skew a few very sure clients dominate a mean of logits, so a
mean of probabilities can be exchanged instead (``average: probabilities``), which is KnFu at beta = 0.
"""

from typing import Any, Literal

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig


class FedMDConfig(StrategyConfig):
    """Settings of FedMD."""

    average: Literal["logits", "probabilities"] = "logits"
    """What is exchanged and averaged; the paper's are logits."""


class FedMD(Strategy):
    """Give every client the mean prediction of all."""

    client = "logits"
    needs_transfer = True
    default_loss = "mae"
    Config = FedMDConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client what to send."""
        return {"form": config.average}

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over clients."""
        return Fused({"values": self.centre(contributions.values)})
