"""FD with a learned ratio: how much of the others' opinion each row takes is learned on rows set aside.

Hu, Wu, Li, Ma, Chen, Yan, Wang, Liu 2024, "Less or More From Teacher: Exploiting Trilateral Geometry For
Knowledge Distillation" (TGeo-KD), ICLR, arXiv 2312.15112: a small net gives each row the share of its loss
that is distillation, from where student, teacher and truth lie to one another.

The published script learns nothing: the ratio is computed without a gradient, and the loss that its
optimiser follows does not depend on it, so the net stays as it was drawn. Here the bilevel step is taken as
it is meant, one step of the student looked ahead (Liu, Simonyan, Yang 2019, "DARTS", arXiv 1806.09055,
equation 6).

What differs from the paper: a row's teacher is the others' mean prediction of its class, as in ``fd``, which
is the paper's mean of the teacher's predictions too, so the state has 6 parts in place of 9; losses are cross
entropies; net and student take turns by rounds. With ``alpha`` the share is fixed.
"""

from typing import Any

from pydantic import Field

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig
from fedkt.strategy.fusing.fusion import leave_one_out
from fedkt.strategy.own_settings import idle


class FDRatioConfig(StrategyConfig):
    """Settings of FD with a learned ratio."""

    alpha: float | None = Field(None, ge=0, le=1)
    """The share of distillation in every row's loss; null: learned."""
    validation: float = Field(0.2, gt=0, le=0.5)
    """The share of its private rows on which a client learns the ratio, and with which it does not train."""
    steps: int = Field(10, ge=1)
    """Steps of the ratio's net in each round, each on all of these rows."""
    lr: float = Field(0.1, gt=0)
    """Its learning rate (Adam); the paper's."""
    weight_decay: float = Field(0.05, ge=0)
    """Its L2 penalty; the paper's."""
    ahead: float = Field(0.1, gt=0)
    """Length of the student's step that is looked ahead, in units of its gradient; the paper's rate."""


class FDRatio(Strategy):
    """Give each client the others' mean prediction per class; it learns how much of it to take."""

    client = "class_logits_ratio"
    reads_distill = frozenset()
    Config = FDRatioConfig
    config: FDRatioConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how the ratio is learned."""
        told: dict[str, Any] = config.model_dump()
        return told

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse what is about learning a share that is fixed."""
        learning = ("validation", "steps", "lr", "weight_decay", "ahead")
        return [] if config.alpha is None else idle(config, "where strategy.alpha is given", *learning)

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over the other clients."""
        values, others = leave_one_out(contributions.values, contributions.arrays["counts"], self.centre)
        return Fused({"values": values, "counts": others}, personal=True)
