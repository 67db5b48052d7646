"""FD: exchange the mean prediction per true class; each client learns from the mean of the others.

Jeong et al. 2018, "Communication-Efficient On-Device Machine Learning: Federated Distillation and
Augmentation under Non-IID Private Data", arXiv 1811.11479.

What differs from the paper: the leave-one-out mean of a class divides by the number of *other clients
that hold the class*, not by all but one, so clients without it do not pull the mean to zero; a class that
nobody else holds has no teacher. Predictions are averaged, not logits.
"""

from typing import Any

from pydantic import Field

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig
from fedkt.strategy.fusing.fusion import leave_one_out


class FDConfig(StrategyConfig):
    """Settings of FD."""

    gamma: float = Field(1.0, ge=0)
    """Weight of the distillation term."""


class FD(Strategy):
    """Give each client the others' mean prediction per class."""

    one_class = "it shares what is known per class"
    client = "class_logits"
    reads_distill = frozenset()
    Config = FDConfig
    config: FDConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how much the teacher counts."""
        return {"gamma": config.gamma}

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over the other clients."""
        values, others = leave_one_out(contributions.values, contributions.arrays["counts"], self.centre)
        return Fused({"values": values, "counts": others}, personal=True)
