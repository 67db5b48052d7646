"""FD: exchange the mean prediction per true class; each client learns from the mean of the others.

Jeong et al. 2018, "Communication-Efficient On-Device Machine Learning: Federated Distillation and
Augmentation under Non-IID Private Data", arXiv 1811.11479.

What differs from the paper: the leave-one-out mean of a class divides by the number of *other clients
that hold the class*, not by all but one, so clients without it do not pull the mean to zero; a class that
nobody else holds has no teacher. Predictions are averaged, not logits.
"""

from typing import Any

from pydantic import Field
from torch import Tensor

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig


class FDConfig(StrategyConfig):
    """Settings of FD."""

    gamma: float = Field(1.0, ge=0)
    """Weight of the distillation term."""


class FD(Strategy):
    """Give each client the others' mean prediction per class."""

    client = "class_logits"
    Config = FDConfig
    config: FDConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how much the teacher counts."""
        return {"gamma": config.gamma}

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over the other clients."""
        values, others = leave_one_out(contributions.values, contributions.arrays["counts"])
        return Fused({"values": values, "counts": others}, personal=True)


def leave_one_out(values: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return each client's mean over the other clients that hold the class, and how many they are.

    ``values`` [clients, classes, d], ``counts`` int [clients, classes] (0: the client does not hold the
    class). Returns [clients, classes, d], zeros where nobody else holds it, and int32 [clients, classes].
    """
    held = (counts > 0).to(values.dtype).unsqueeze(-1)
    others = held.sum(0) - held
    total = (values.double() * held).sum(0) - values.double() * held
    mean = (total / others.clamp_min(1)).clamp_min(0) * (others > 0)
    return mean.to(values.dtype), others.squeeze(-1).int()
