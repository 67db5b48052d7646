"""FedKA, knowledge only: label the target domain by votes, and bring all features to one embedding.

Sun, Chong, Ochiai 2022, "Feature Distribution Matching for Federated Domain Generalization" (FedKA), ACML
2022, arXiv 2203.11635. Each client holds one labelled domain; the transfer set is the unlabelled target one.

1. A client sends mean embeddings of its private and of the transfer rows' features (their squared distance
   estimates MK-MMD), and its votes on the transfer rows.
2. The reference is the mean of the clients' transfer embeddings; a row's label is the class with the most
   votes, -1 where its share is below ``threshold`` or several classes have as many.
3. A client trains on private rows, voted rows and, for both, |mean embedding - reference|²; before it votes
   again, on private rows alone.

What differs from the paper (``fedka_weights`` has its own algorithm): no weights are shared, so each client
keeps its encoder, and the global model that pseudo-labels teach there is the server's own here, if there is
one. The paper compares the embedding of source rows with that of the global encoder's target rows, here both
are compared with the mean of all clients' target embeddings. There is no adversarial disentangler, whose two
domain heads would have to be shared. Hard majorities of few weak voters can harm (``voting: majority`` is the
paper's), so probabilities are averaged here, each client's divided by its own mean first: a model in a new
domain favours a few classes, and labels that do so confirm it. And matching counts the more rows find a
consensus, since means can be matched whatever the classes: votes that are few say that these do not fit yet.
"""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt.client import Fit, classification
from fedkt.distill.embedding import Kind
from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig, idle
from fedkt.strategy.fusing.server_model import steps_of
from fedkt.strategy.fusing.voting import voted, votes


class FedKAConfig(StrategyConfig):
    """Settings of the knowledge-only FedKA."""

    voting: Literal["majority", "confidence", "mean", "aligned", "off"] = "aligned"
    """What counts as a vote: 1 for the likeliest class, its probability, or all classes' probabilities, as
    they are or, ``aligned``, divided by their mean over rows (see :func:`aligned`)."""
    threshold: float = Field(0.7, ge=0, le=1)
    """Least share of all votes that the winning class of a row needs."""
    matching: bool = True
    """Whether embeddings are exchanged and matched."""
    weight: float = Field(10.0, ge=0)
    """Of the matching beside the cross entropy of a row."""
    by_consensus: bool = True
    """Whether that is times the share of rows that have a voted label, which is a ramp-up by itself."""
    warm_up: int = Field(0, ge=0)
    """Rounds in which clients only train, before the first teacher."""
    embedding: Kind = "fourier"
    """What is matched: kernel mean embeddings, or means and covariances of features."""
    numbers: int = Field(256, ge=2, multiple_of=2)
    """Numbers per bandwidth of a Fourier embedding."""
    bandwidths: tuple[Annotated[float, Field(gt=0)], ...] = Field((0.625, 1.25, 2.5), min_length=1)
    """Of the Gaussian kernels, in lengths of a normalised feature."""


class FedKA(Strategy):
    """Give every client the reference embedding and the voted labels."""

    one_class = "its clients vote on classes"
    client = "adaptation"
    reads_distill = frozenset({"steps"})
    needs_transfer = True
    one_width = True
    Config = FedKAConfig
    config: FedKAConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client what to send and how strongly to match."""
        names = ("voting", "matching", "weight", "by_consensus", "embedding", "numbers", "bandwidths")
        return {name: getattr(config, name) for name in names}

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse a run in which nothing is exchanged, or the server's model has nothing to learn."""
        found = []
        if config.voting == "off" and not config.matching:
            found.append(
                "strategy.voting is off and strategy.matching false, so nothing would be exchanged; one of "
                "them must be on (strategy 'local' trains alone)."
            )
        if config.voting == "off" and scenario.server_model is not None:
            found.append(
                "strategy.voting is off, but server_model learns from voted rows; one of them must change."
            )
        transfer = scenario.data.transfer
        named = transfer is not None and transfer.policy is not None
        if config.voting == "off" and transfer is not None and named and transfer.rule.utility != "random":
            found.append(
                f"data.transfer.policy chooses by {transfer.rule.utility} what is said of rows, but "
                "strategy.voting is off, so nothing is said; one of them must change."
            )
        if not config.matching:
            names = ("weight", "by_consensus", "embedding", "numbers", "bandwidths")
            found += idle(config, "while strategy.matching is false", *names)
        elif config.embedding != "fourier":
            found += idle(config, f"with strategy.embedding {config.embedding}", "numbers", "bandwidths")
        if config.voting == "off":
            found += idle(config, "while strategy.voting is off", "threshold", "by_consensus")
        return found

    def fuse(self, contributions: Contributions) -> Fused | None:
        """Vote, and average the embeddings of the target rows."""
        if 1 <= self.round <= self.config.warm_up:
            return None
        arrays, config = contributions.arrays, self.config
        taught: dict[str, Tensor] = {}
        report: dict[str, Any] = {"clients": list(contributions.clients)}
        shares = None
        if config.matching:
            taught["reference"] = within_unit_ball(self.centre(arrays["target"]))
            report["mmd"] = mmd(arrays["source"], arrays["target"]).tolist()
        if config.voting != "off":
            classes = next(iter(self.setting.dims.values())).classes
            cast = arrays.get("values")
            if cast is None:
                cast = votes(classes, arrays["labels"], arrays.get("confidence"))
            elif config.voting == "aligned":
                cast = aligned(cast)
            shares = self.centre(cast)
            taught["labels"] = voted(shares, config.threshold)
            report["voted"] = (taught["labels"] >= 0).float().mean().item()
        return Fused(taught, report=report, beliefs=shares)

    def server_lesson(self, fused: Fused) -> Fit:
        """Let the server's own model learn the voted rows."""
        x, labels = self.setting.transfer_x(self.round), fused.arrays["labels"]
        x = x if self.rows is None else x[torch.from_numpy(self.rows).long()]
        kept = labels >= 0
        rows = {"x": x[kept], "y": labels[kept].long()}
        return Fit("distill", rows, classification, steps_of(self.setting.scenario))


def aligned(values: Tensor) -> Tensor:
    """Divide each client's probabilities [clients, rows, classes] by their mean over rows, to sum 1 again.

    Distribution alignment, to classes that are equally frequent: Berthelot et al. 2020, "ReMixMatch",
    arXiv 1911.09785, section 3.1.
    """
    flat = values / values.mean(1, keepdim=True).clamp(min=1e-6)
    shares: Tensor = flat / flat.sum(-1, keepdim=True)
    return shares


def mmd(source: Tensor, target: Tensor) -> Tensor:
    """Return |source - target|² [clients] of embeddings [clients, size]: each client's squared MK-MMD."""
    return (source - target).square().sum(-1)


def within_unit_ball(embedding: Tensor) -> Tensor:
    """Return an embedding [size] scaled down to length 1 where it is longer, as a robust centre can be."""
    within: Tensor = embedding / embedding.norm().clamp(min=1)
    return within
