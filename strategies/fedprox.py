"""FedProx, for contrast: FedAvg whose clients stay near the server's weights while they train.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks", arXiv 1812.06127, equation 2.
"""

from typing import Any

from pydantic import Field

from fedkt.strategy import StrategyConfig
from fedkt.strategy.averaging import WeightAveraging
from fedkt.tasks import EVERY


class FedProxConfig(StrategyConfig):
    """Settings of FedProx."""

    mu: float = Field(0.1, ge=0)
    """Weight of the proximal term; 0 is FedAvg."""


class FedProx(WeightAveraging):
    """Average weights; clients are pulled back to the server's by a proximal term."""

    tasks = EVERY
    Config = FedProxConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the clients how strongly they are pulled back."""
        return {"trains": True, "proximal": config.mu}
