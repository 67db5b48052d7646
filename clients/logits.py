"""A client that shares predictions on the transfer set and distils from a teacher about it.

The client half of every method that exchanges logits or probabilities (FedMD, DS-FL, KnFu, ...).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedkt.client import Arrays, Client, Fit, Holding, transfer_rows
from fedkt.client.density_ratio import familiar
from fedkt.client.digesting import digestion, self_training
from fedkt.client.familiarity import log_ratio
from fedkt.client.placing import outgoing
from fedkt.data.content.census import counts, groups_of
from fedkt.distill.alignment import align
from fedkt.knowledge import Dims, Expected, Knowledge, Logits, Votes
from fedkt.knowledge.kinds import MOST_DENSE


class LogitsClient(Client):
    """Trains on private labels, sends logits or probabilities, fits itself to the teacher's.

    Settings: ``form``: ``logits``, ``probabilities`` (softmax at ``temperature``) or ``votes`` (the
    likeliest class, of all rows; teachers are probabilities); ``loss``: a registered distillation loss;
    ``temperature``; ``label_share``: also send the label histogram; ``pretrain``: epochs on the public rows
    before the first round; ``selector``: settings of :func:`fedkt.client.density_ratio.familiar`, by which
    rows unlike the private ones are left out; ``density``: also send how familiar each row is, by a
    classifier with this ridge (:func:`fedkt.client.familiarity.log_ratio`); ``prior``: whether predictions
    of rows that are dealt as the client's own are add :meth:`prior`, which is measured beside the model's
    own in any case; ``census``: also send how many private rows are near which transfer rows
    (:mod:`fedkt.data.content.census`); ``align``: how probabilities are freed of their base rates before
    they leave (:class:`fedkt.distill.alignment.Alignment`).
    """

    sends = Logits
    distils_transfer_rows = True
    learns_unlabelled = True
    accepts = Logits
    can_vote = True

    def __init__(self, holding: Holding) -> None:
        super().__init__(holding)
        settings = holding.settings
        self.temperature: float = settings["temperature"]
        self.votes = settings["form"] == "votes"
        vars(self).update(sends=Votes if self.votes else holding.task.answers)
        self.probabilities = settings["form"] == "probabilities" or self.votes
        self.compares = "density" in settings and not self.votes
        if settings.get("prior", False):
            vars(self).update(decides_own="prior")

    @staticmethod
    def reads_private_rows(settings: Mapping[str, Any]) -> bool:
        """Predictions on transfer rows do not; likeness of rows to private ones and counts of labels do."""
        asked = {"selector", "density", "census"} & set(settings)
        return bool(asked) or bool(settings.get("label_share", False))

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return one array [rows, classes], and [classes] where the label histogram is asked for.

        With votes one array [rows].
        """
        if settings["form"] == "votes":
            return Votes.expected(dims)
        probabilities = settings["form"] == "probabilities"
        expected: Expected = dims.predictions.expected(
            dims,
            probabilities=probabilities,
            label_share=settings.get("label_share", False),
            density="density" in settings,
            selected="selector" in settings,
            census=groups_of(dims.transfer) if "census" in settings else 0,
        )
        return expected

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return one array [rows, classes], and the ids of the rows where they are not all."""
        expected: Expected = dims.predictions.expected(
            dims,
            probabilities=settings["form"] != "logits",
            with_rows=with_rows,
            selected="selector" in settings,
        )
        return expected

    def prepare(self) -> Fit | None:
        """Train on the labelled public rows, where the method says so."""
        public, epochs = self.holding.public, self.holding.settings.get("pretrain", 0)
        if public is None or not epochs:
            return None
        steps = replace(self.holding.local, epochs=epochs, batches=None)
        return Fit("prepare", {"x": public[0], "y": public[1]}, self.holding.training, steps)

    def train(self, teacher: Arrays | None) -> Fit | None:
        """Train on private rows; without labels by what the teacher makes believe."""
        holding = self.holding
        if not holding.labelled:
            return None if teacher is None else self._without_labels(teacher)
        return Fit("train", {"x": holding.x, "y": holding.y}, holding.training, holding.local, private=True)

    def _without_labels(self, teacher: Arrays) -> Fit:
        x, values = self._told(teacher)
        return self_training(self.holding, x, values if self.probabilities else values.softmax(-1))

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Predict the transfer rows asked for, and private ones where these are compared with them."""
        self._asked = transfer_rows(self.holding, rows)
        return torch.cat([self._asked, self.holding.x]) if self.compares else self._asked

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the predictions."""
        density = None
        if self.compares:
            asked = len(self._asked)
            ratio = log_ratio(features[:asked], features[asked:], self.holding.settings["density"])
            density = ratio.clamp(-MOST_DENSE, MOST_DENSE).cpu().numpy()
            logits = logits[:asked]
        held, values = self.holding, logits
        aligned = held.settings.get("align")
        if self.probabilities:
            values = held.task.said(logits, "probabilities", self.temperature)
            values = values if aligned is None else align(values, **aligned)
        if self.votes:
            return Votes(outgoing((logits if aligned is None else values).argmax(-1).to(torch.int16)))
        selector = held.settings.get("selector")
        if selector is not None:
            known = familiar(self._asked, held.x, held.y, held.seed, held.client, **selector)
            values = values * known.unsqueeze(-1)
        share = None
        if held.settings.get("label_share"):
            share = outgoing(held.task.share_told(held.label_share, self._asked, held.x, held.y))
        census = None
        if "census" in held.settings and held.transfer is not None:
            census = counts(held.x, held.transfer, held.seed).cpu().numpy()
        sent: Knowledge = held.task.answers(
            outgoing(values), label_share=share, density=density, census=census
        )
        return sent

    def prior(self) -> Tensor:
        """Return log(share of the class among private rows + 1/(2 rows)) [classes].

        A teacher that all clients share speaks of the classes as they are frequent in all data; with the
        client's own frequencies it speaks of the client's (logit adjustment: Menon et al. 2021, "Long-tail
        learning via logit adjustment", arXiv 2007.07314). Half a row stands for a class without any.
        """
        held = self.holding
        return (held.label_share + 0.5 / max(len(held.y), 1)).log()

    def predictors(self, features: Tensor, logits: Tensor, teacher: Arrays) -> dict[str, Tensor]:
        """Score with the client's prior beside the model's own scores."""
        return {"prior": logits + self.prior()} if self.holding.task.exclusive else {}

    def digest(self, teacher: Arrays) -> Fit:
        """Distil on the rows that the teacher speaks about."""
        x, values = self._told(teacher)
        if self.probabilities:
            values = self.holding.task.heard(values, "probabilities", self.temperature)
        return digestion(self.holding, x, values)

    def _told(self, teacher: Arrays) -> tuple[Tensor, Tensor]:
        """Return the rows that the teacher speaks about [n, ...], and what it says of them [n, classes]."""
        x, values = transfer_rows(self.holding, teacher.get("rows")), teacher["values"]
        if "selector" in self.holding.settings:
            known = values.sum(-1) > 0
            x, values = x[known], values[known]
        return x, values
