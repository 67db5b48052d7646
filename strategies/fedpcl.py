"""FedPCL: clients share prototypes of a trained projection and contrast with every client's prototypes.

Tan et al. 2022, "Federated Learning from Pre-Trained Models: A Contrastive Learning Approach", NeurIPS 2022,
arXiv 2209.10083.

Everybody gets all clients' prototype sets; a class that a client lacks is filled with the mean of those who
hold it. The loss is the supervised contrast to each set, summed; there is no cross entropy.

What differs from the paper:

1. Its backbones are pre-trained on large image sets; here clients of one architecture start from the same
   weights, each trains them on the scenario's labelled public rows and then freezes all but the last layer
   of features. Between architectures prototypes have no common space, so one for all is best.
2. There are no two augmented views of a row: it is contrasted with prototypes alone.
3. With ``hard``, negatives count by how near their class is, and transfer rows can be negatives too (Robinson
   et al. 2021, arXiv:2010.04592).
4. Predictions are those of the nearest mean prototype; who has got none yet uses the pre-trained head.
"""

from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field

from fedkt.errors import InputError
from fedkt.models.net import projection
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig, client_order, idle

if TYPE_CHECKING:
    from fedkt.models import Net


class FedPCLConfig(StrategyConfig):
    """Settings of FedPCL."""

    pretrain: int = Field(20, ge=1)
    """Epochs on the public rows before the first round."""
    tau: float = Field(0.07, gt=0)
    """Temperature of the contrast; the official code's 0.07."""
    hard: float | None = Field(None, gt=0)
    """Temperature of how much near classes count among the negatives, such as 0.5; null: all alike."""
    negatives: int = Field(0, ge=0)
    """Transfer rows that are negatives too, without their labels; only with ``hard``."""


class FedPCL(Strategy):
    """Give every client everybody's prototypes."""

    one_class = "it shares what is known per class"
    client = "contrastive"
    reads_distill = frozenset()
    needs_public = True
    one_width = True
    same_start = True
    Config = FedPCLConfig
    config: FedPCLConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        if any(dims.clients != len(setting.dims) for dims in setting.dims.values()):
            raise InputError(
                "strategy 'fedpcl' sends everybody's prototypes, and sites do not know how many they are; "
                "it runs in a simulation only."
            )
        super().__init__(config, setting)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how long it learns from the public rows, and how sharp the contrast is."""
        return {
            "pretrain": config.pretrain,
            "tau": config.tau,
            "hard": config.hard,
            "negatives": config.negatives,
        }

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse rows that nothing makes negatives of, and more of them than there are."""
        transfer, wanted = scenario.data.transfer, config.negatives
        if config.hard is None:
            return idle(config, "without strategy.hard", "negatives")
        if wanted and (transfer is None or wanted > transfer.size):
            held = (
                "data.transfer is not set" if transfer is None else f"data.transfer.size is {transfer.size}"
            )
            return [f"strategy.negatives is {wanted}, but {held}; there must be as many transfer rows."]
        return []

    @classmethod
    def no_model(cls, net: "Net") -> str | None:
        """Refuse a model without a layer that can be pre-trained and frozen."""
        names = [name for name, _ in net.named_parameters()]
        if projection(names) != {name for name in names if name.startswith("features.")}:
            return None
        return "its features are one layer, so no extractor is left to be frozen below the projection"

    def fuse(self, contributions: Contributions) -> Fused:
        """Collect the prototypes of those who are there, and fill what they lack."""
        names = sorted(self.setting.dims, key=client_order)
        counts = contributions.arrays["counts"]
        there = [names.index(client) for client in contributions.clients]
        values = torch.zeros(len(names), *contributions.values.shape[1:])
        held = torch.zeros(len(names), counts.shape[1], dtype=torch.int32)
        mean = self.centre(contributions.values, counts > 0)
        values[there] = torch.where((counts > 0).unsqueeze(-1), contributions.values, mean)
        held[there] = counts
        return Fused({"values": values, "counts": held})
