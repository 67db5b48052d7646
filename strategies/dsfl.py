"""DS-FL: average the clients' probabilities and sharpen them (entropy reduction aggregation, ERA).

Itahara et al. 2021, "Distillation-Based Semi-Supervised Federated Learning for Communication-Efficient
Collaborative Training with Non-IID Private Data", IEEE TMC, arXiv 2008.06180, equation 8.

The temperature is applied to probabilities, not to logits: they lie in [0, 1], so two classes differ by
a factor of at most exp(1/T) after it, and T = 1 makes the average flatter instead of sharper. So does any T
where there are many classes: a probability of 1/2 beside K - 1 equal ones is only sharpened by a T below
(1/2 - 1/2/(K - 1)) / ln(K - 1), which is 0.1, the paper's T for 10 classes, at 144 classes. ``fedkt show``
and the run say where that is passed. ``align``, ``prior`` and ``abstain`` are not the paper's.
"""

import math
from functools import partial
from typing import Any

from pydantic import Field
from torch import Tensor

from fedkt.strategy import Contributions, Fused
from fedkt.strategy.common_teacher import CommonTeacher, CommonTeacherConfig


class DSFLConfig(CommonTeacherConfig):
    """Settings of DS-FL."""

    era_temperature: float = Field(0.1, gt=0)
    """T of the sharpening; the paper's 0.1, which flattens where there are 145 classes or more."""


class DSFL(CommonTeacher):
    """Give every client the sharpened mean probabilities of all."""

    tasks = frozenset({"classification", "multilabel", "language"})
    one_class = "a number has no distribution to sharpen; fedmd is the same without"
    fuses_by_class = True
    default_loss = "ce"
    Config = DSFLConfig
    config: DSFLConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities."""
        return {"form": "probabilities", **super().settings(config)}

    @classmethod
    def notes(cls, config: Any, classes: int) -> list[str]:
        """Say where a majority would be made less sure, contrary to what the method is for."""
        limit = sharpens_below(classes)
        if config.era_temperature < limit:
            return []
        return [
            f"strategy.era_temperature is {config.era_temperature:g}, which makes a mean prediction of 0.5 "
            f"flatter, not sharper, where there are {classes} classes; below {limit:.3g} it is sharpened."
        ]

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over clients and sharpen."""
        sharper = partial(era, temperature=self.config.era_temperature)
        return Fused({"values": self.task.each_distribution(self.mean(contributions.values), sharper)})


def sharpens_below(classes: int) -> float:
    """Return the T below which a probability of 1/2 beside equal other ones grows; infinity for 2 classes."""
    if classes < 3:
        return math.inf
    return (0.5 - 0.5 / (classes - 1)) / math.log(classes - 1)


def era(mean: Tensor, temperature: float) -> Tensor:
    """Return softmax(mean / temperature) of mean probabilities [..., classes]."""
    return (mean / temperature).softmax(-1)
