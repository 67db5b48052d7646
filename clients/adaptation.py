"""A client that learns a new domain from votes and brings its features to a common embedding (FedKA).

The client half of the knowledge-only FedKA; the losses are of fedkt/distill.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt.client import Arrays, Client, Fit, Forward, Holding, beside, classification, transfer_rows
from fedkt.client.placing import outgoing
from fedkt.distill.embedding import Embedding, distance
from fedkt.knowledge import Alignment, Dims, Expected, Knowledge

VOTES = {
    "majority": ("labels",),
    "confidence": ("labels", "confidence"),
    "mean": ("values",),
    "aligned": ("values",),
    "off": (),
}
"""The arrays that each kind of vote is made of."""


class AdaptationClient(Client):
    """Trains on private rows; digests on them and voted transfer rows together, both matched to a reference.

    So what it sends comes from a model that its own labels had the last word on: votes of one that had just
    learned from votes would confirm themselves.

    Settings: ``voting`` (a key of :data:`VOTES`); ``matching``; ``weight`` of the matching; ``by_consensus``:
    whether that is times the share of transfer rows that have a voted label; ``embedding``, ``numbers``,
    ``bandwidths``: see :class:`~fedkt.distill.embedding.Embedding`.
    """

    sends = Alignment
    accepts = Alignment
    digests_private_rows = True

    def __init__(self, holding: Holding) -> None:
        super().__init__(holding)
        settings = holding.settings
        self.voting: str = settings["voting"]
        self.embed = _embedding(settings, holding.dims) if settings["matching"] else None
        self.weight: float = settings["weight"]
        self.by_consensus: bool = settings["by_consensus"] and self.voting != "off"

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return the mean embeddings of private and of transfer rows, and the votes on transfer rows."""
        return Alignment.expected(
            dims,
            size=_embedding(settings, dims).size,
            embeddings=("source", "target") if settings["matching"] else (),
            votes=VOTES[settings["voting"]],
        )

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return the reference embedding, the voted labels, and the ids of the rows if not all."""
        return Alignment.expected(
            dims,
            size=_embedding(settings, dims).size,
            embeddings=("reference",) if settings["matching"] else (),
            votes=("labels",) if settings["voting"] != "off" else (),
            abstain=True,
            with_rows=with_rows,
        )

    @staticmethod
    def reads_private_rows(settings: Mapping[str, Any]) -> bool:
        """The mean embedding of private rows is made of them; votes are not."""
        return bool(settings["matching"])

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows."""
        holding = self.holding
        return Fit("train", {"x": holding.x, "y": holding.y}, classification, holding.local, private=True)

    def digest(self, teacher: Arrays) -> Fit:
        """Train on private rows with transfer rows beside them: learn the voted ones, match the reference.

        A batch is as many private rows as ``distill`` says and transfer rows in proportion. Without private
        rows nothing would hold the classes apart while means are matched.
        """
        holding = self.holding
        x = transfer_rows(holding, teacher.get("rows"))
        nobody = torch.full((len(x),), -1, device=x.device)
        voted = teacher.get("labels", nobody).long()
        rows, steps = beside(holding.x, holding.y, x, voted, holding.distill)
        if self.embed is None:
            return Fit("digest", rows, partial(adaptation, embed=None), steps, private=True)
        share = (voted >= 0).float().mean() if self.by_consensus else torch.ones((), device=x.device)
        constants = {"reference": teacher["reference"], "weight": self.weight * share}
        loss = partial(adaptation, embed=self.embed)
        return Fit("digest", rows, loss, steps, constants, private=True, coupled=True)

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Predict the transfer rows that were asked for, and the private ones where their mean is sent."""
        asked = transfer_rows(self.holding, rows)
        return asked if self.embed is None else torch.cat([asked, self.holding.x])

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the mean embeddings and the votes."""
        held: dict[str, Tensor] = {}
        asked = len(features)
        if self.embed is not None:
            asked -= len(self.holding.y)
            held["target"] = self.embed(features[:asked]).mean(0)
            held["source"] = self.embed(features[asked:]).mean(0)
        confidence, labels = logits[:asked].softmax(-1).max(-1)
        votes = {
            "labels": labels.to(torch.int16),
            "confidence": confidence,
            "values": logits[:asked].softmax(-1),
        }
        held |= {name: votes[name] for name in VOTES[self.voting]}
        return Alignment(**{name: outgoing(tensor) for name, tensor in held.items()})


def adaptation(net: Forward, batch: Arrays, constants: Arrays, *, embed: Embedding | None) -> Tensor:
    """Return the loss of FedKA per row [B]; with an embedding the mean over the batch is what counts.

    Cross entropy times ``scale`` [B] where there is a label, plus the constant ``weight`` [] times
    |mean embedding - reference|² [], once for the batch's private and once for its transfer rows. ``batch``:
    ``x``, ``y`` int64 [B] (-1: no label), ``source`` [B], 1 for private rows, else 0.
    """
    features, logits = net(batch["x"])
    y, source = batch["y"], batch["source"]
    own = torch.nn.functional.cross_entropy(logits, y.clamp(min=0), reduction="none")
    loss = own * batch["scale"] * (y >= 0)
    if embed is None:
        return loss
    embedded, reference = embed(features), constants["reference"]
    gap = distance(embedded, source, reference) + distance(embedded, 1 - source, reference)
    return loss + constants["weight"] * gap


def _embedding(settings: Mapping[str, Any], dims: Dims) -> Embedding:
    return Embedding(dims.width, settings["embedding"], settings["numbers"], tuple(settings["bandwidths"]))
