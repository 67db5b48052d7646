"""FedHKD, for contrast: besides weights, clients share each class's mean feature and mean soft prediction.

Chen et al. 2023, "The Best of Both Worlds: Accurate Global and Personalized Models through Federated
Learning with Data-Free Hyper-Knowledge Distillation", ICLR 2023, arXiv 2301.08968.

What differs from the paper: the full text could not be read here; losses and defaults follow summaries of it
and of public code, and a class's means are sent however few rows a client has of it. Clipping and noise of
the mean features (there 1.1 and 2) are off by default: since the weights leave without noise, noise on the
means protects nothing, and no guarantee is stated for it. Means are averaged by rows over the clients that
hold the class; one public fork keeps the last client's instead, a defect that is not offered.
"""

from typing import Any

import torch
from pydantic import Field

from fedkt.strategy import Contributions, Fused, StrategyConfig
from fedkt.strategy.averaging import WeightAveraging
from fedkt.strategy.fusing.robust import weighted_mean


class FedHKDConfig(StrategyConfig):
    """Settings of FedHKD."""

    soft_weight: float = Field(0.05, ge=0)
    """The paper's lambda: weight of the distance of the head's soft predictions to everybody's."""
    feature_weight: float = Field(0.05, ge=0)
    """The paper's gamma: weight of the distance of features to their class's mean."""
    softness: float = Field(0.5, gt=0)
    """Temperature of the shared predictions."""
    clip: float | None = Field(None, gt=0)
    """Longest feature before the mean is taken; null: any."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of the noise on each coordinate of a mean feature; drawn anew in each run."""


class FedHKD(WeightAveraging):
    """Give every client the mean model and everybody's mean features and predictions per class."""

    one_class = "it shares what is known per class"
    shares = ("weights", "knowledge")
    client = "fedhkd"
    Config = FedHKDConfig
    config: FedHKDConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client its settings, which are all there are."""
        return dict(config.model_dump())

    def initial(self) -> Fused:
        """Return one initial model and no class means."""
        dims = next(iter(self.setting.dims.values()))
        nothing = {
            "features": torch.zeros(dims.classes, dims.width),
            "predictions": torch.zeros(dims.classes, dims.classes),
            "counts": torch.zeros(dims.classes, dtype=torch.int32),
        }
        return Fused(dict(super().initial().arrays) | nothing)

    def fuse(self, contributions: Contributions) -> Fused:
        """Average the weights, and the means of each class by rows."""
        counts = contributions.arrays["counts"]
        means = {
            name: weighted_mean(contributions.arrays[name].double(), counts).float()
            for name in ("features", "predictions")
        }
        holders = (counts > 0).sum(0).int()
        return Fused(dict(super().fuse(contributions).arrays) | means | {"counts": holders})
