"""FedProto: exchange mean features per class; clients keep their features near the mean of all.

Tan et al. 2022, "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022,
arXiv 2105.00243, equation 6.

The paper weights a client's prototype by its rows of the class; the official code averages without
weights, which is the setting ``weighted: false``, and what ``robust`` takes in any case.
"""

from typing import Any

from pydantic import Field

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig


class FedProtoConfig(StrategyConfig):
    """Settings of FedProto."""

    weight: float = Field(1.0, ge=0)
    """The paper's lambda: weight of the distance to the prototype."""
    loss: str = "prototype_mse"
    """What pulls features towards prototypes: a loss of features (the paper's is ``prototype_mse``)."""
    weighted: bool = True
    """Whether prototypes are averaged by rows (the paper) or equally (the official code)."""


class FedProto(Strategy):
    """Give every client the mean prototype of each class."""

    client = "prototypes"
    reads_distill = frozenset()
    one_width = True
    distils = "features"
    Config = FedProtoConfig
    config: FedProtoConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how strongly prototypes pull."""
        return {"weight": config.weight, "loss": config.loss}

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over the clients that hold the class."""
        counts = contributions.arrays["counts"]
        held = counts > 0
        # Counts are claims: a hostile client would claim the most, so they do not weigh where it is feared.
        weighted = self.config.weighted and not self.robust.active
        values = self.centre(contributions.values, counts if weighted else held)
        return Fused({"values": values, "counts": held.sum(0).int()})
