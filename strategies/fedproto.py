"""FedProto: exchange mean features per class; clients keep their features near the mean of all.

Tan et al. 2022, "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022,
arXiv 2105.00243, equation 6.

With ``space: relative`` prototypes are means of a row's similarities to transfer rows, so that clients of
any feature width share them; they are a predictor beside the client's own model, which trains by itself:
what is left of Zhao et al. 2023, "Talking Models: Distill Pre-trained Knowledge to Downstream Models via
Interactive Communication", arXiv 2310.03188, whose messages pass through the peer's layers in each step,
where nothing but knowledge is exchanged.

The paper weights a client's prototype by its rows of the class; the official code averages without
weights, which is the setting ``weighted: false``, and what ``robust`` takes in any case.
"""

from typing import Any, Literal

from pydantic import Field

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig
from fedkt.strategy.own_settings import idle


class FedProtoConfig(StrategyConfig):
    """Settings of FedProto."""

    weight: float = Field(1.0, ge=0)
    """The paper's lambda: weight of the distance to the prototype."""
    loss: str = "prototype_mse"
    """What pulls features towards prototypes: a loss of features (the paper's is ``prototype_mse``)."""
    weighted: bool = True
    """Whether prototypes are averaged by rows (the paper) or equally (the official code)."""
    space: Literal["features", "relative"] = "features"
    """``relative``: prototypes are means of similarities to transfer rows, for prediction alone."""
    anchors: int = Field(100, ge=2)
    """Of ``relative``: to how many transfer rows, the first of the set."""


class FedProto(Strategy):
    """Give every client the mean prototype of each class."""

    one_class = "it shares what is known per class"
    client = "prototypes"
    reads_distill = frozenset()
    one_width = True
    distils = "features"
    Config = FedProtoConfig
    config: FedProtoConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client how strongly prototypes pull."""
        more = {"anchors": config.anchors} if config.space == "relative" else {}
        return {"weight": config.weight, "loss": config.loss, **more}

    @classmethod
    def same_width(cls, config: Any) -> bool:
        """Features themselves have one width, similarities to the same rows have one in any case."""
        return bool(config.space == "features")

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse what has no effect in the one space, and what the other lacks."""
        if config.space == "features":
            return idle(config, "with strategy.space 'features'", "anchors")
        found = idle(config, "with strategy.space 'relative', where nothing is pulled", "weight", "loss")
        transfer, mode = scenario.data.transfer, scenario.privacy.mode
        if transfer is None:
            found.append(
                "strategy.space is relative, which compares rows with transfer rows, but data.transfer is "
                "not set; write for instance 'transfer: {from: train, size: 300}' under data."
            )
        elif transfer.size < config.anchors or transfer.fresh or transfer.audition:
            found.append(
                f"strategy.space is relative, which compares rows with the first {config.anchors} transfer "
                f"rows in every round, but data.transfer has {transfer.size} of them, or other ones in each "
                "round; it must be one set of at least strategy.anchors rows."
            )
        if mode == "proto_gauss":
            found.append(
                "privacy mode 'proto_gauss' adds noise to mean features, which strategy.space 'relative' "
                "does not send; use logit_gauss."
            )
        return found

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over the clients that hold the class."""
        counts = contributions.arrays["counts"]
        held = counts > 0
        # Counts are claims: a hostile client would claim the most, so they do not weigh where it is feared.
        weighted = self.config.weighted and not self.robust.active
        values = self.centre(contributions.values, counts if weighted else held)
        return Fused({"values": values, "counts": held.sum(0).int()})
