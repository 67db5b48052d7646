"""FD: exchange the mean prediction per true class; each client learns from the mean of the others.

Jeong et al. 2018, "Communication-Efficient On-Device Machine Learning: Federated Distillation and
Augmentation under Non-IID Private Data", arXiv 1811.11479.

What differs from the paper: the leave-one-out mean of a class divides by the number of *other clients
that hold the class*, not by all but one, so clients without it do not pull the mean to zero; a class that
nobody else holds has no teacher. Predictions are averaged, not logits.
"""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig
from fedkt.strategy.fusing.robust import weighted_mean


class FDConfig(StrategyConfig):
    """Settings of FD."""

    gamma: float = Field(1.0, ge=0)
    """Weight of the distillation term."""


class FD(Strategy):
    """Give each client the others' mean prediction per class."""

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


def leave_one_out(
    values: Tensor, counts: Tensor, centre: Callable[[Tensor, Tensor], Tensor] = weighted_mean
) -> tuple[Tensor, Tensor]:
    """Return each client's mean (or ``centre``) over the other clients that hold the class, and their number.

    ``values`` [clients, classes, d], ``counts`` int [clients, classes] (0: the client does not hold the
    class). Returns [clients, classes, d], zeros where nobody else holds it, and int32 [clients, classes].
    """
    held = (counts > 0).int()
    not_self = 1 - torch.eye(len(values), dtype=torch.int32)
    means = [centre(values.double(), held * mask.unsqueeze(-1)) for mask in not_self]
    return torch.stack(means).to(values.dtype), (held.sum(0) - held).int()
