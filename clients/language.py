"""A client with a language model: says what it believes about places of public text, learns from a teacher of
it.

The client half for text of every method that exchanges predictions (FedMD, DS-FL, KnFu, DWC), and of training
alone. Text that is public is nobody's secret, so whoever has a model trains on it as on its own; what a
method adds is what the others believe about it.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt import registry
from fedkt.client import Alone, Arrays, Client, Fit, Forward, Holding, transfer_rows
from fedkt.client.behaviour import Asked
from fedkt.client.placing import outgoing
from fedkt.data.columns.tokens import text_of
from fedkt.distill import reads
from fedkt.distill.swing import laplace
from fedkt.knowledge import Dims, Expected, Knowledge, TopLogits, Votes
from fedkt.knowledge.kinds import MOST_DENSE
from fedkt.language.compared import Compared, compared_by
from fedkt.language.topk import BYTES

COUNTED = 10.0
"""Bytes whose mean log-probability says how well a client knows a passage: its log density, to a factor."""


class LanguageClient(Client):
    """Trains on its own and on public text, sends beliefs about the next byte, distils from the teacher's.

    Settings: ``top`` and ``places``: how much is said of a passage; ``compare``: by what
    (:mod:`fedkt.language.compared`); ``form``: ``votes`` for the likeliest byte of each place, all else for
    beliefs; ``loss``: a registered distillation loss, of each place; ``temperature``; ``density``: also send
    how well it knows each passage, ten times the mean log-probability of a byte; ``public_text``: whether it
    trains on public text beside its own.
    """

    sends = TopLogits
    accepts = TopLogits
    distils_transfer_rows = True
    can_vote = True

    def __init__(self, holding: Holding) -> None:
        super().__init__(holding)
        if holding.settings["form"] == "votes":
            vars(self).update(sends=Votes)

    @staticmethod
    def reads_private_rows(settings: Mapping[str, Any]) -> bool:
        """What is said comes from the model and public text."""
        return False

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return the arrays of beliefs, or the votes [passages · places]."""
        if settings["form"] == "votes":
            places = dims.rows * settings["places"]
            return Votes.expected(Dims(places, places, BYTES, dims.width))
        return _expected(dims, settings, density="density" in settings)

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return the arrays of beliefs, and the ids of the passages where they are not all."""
        return _expected(dims, settings, with_rows=with_rows)

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on its own text, and on public text."""
        return reading(self.holding)

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Predict the passages asked for, at their places."""
        return self._asked(transfer_rows(self.holding, rows))

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send beliefs about the places, those of passages that are shorter left empty."""
        settings, way = self.holding.settings, compared_by(self.holding.settings)
        believed = way.believed(answers(logits, way))
        beliefs = believed["values"]
        there = way.spoken(beliefs)
        if settings["form"] == "votes":
            return Votes(outgoing(beliefs.argmax(-1).flatten().to(torch.int16)))
        spoken = self.holding.task.said(beliefs, settings["form"], settings["temperature"]) * there[..., None]
        arrays = {name: outgoing(its) for name, its in way.said({**believed, "values": spoken}).items()}
        if "density" in settings:
            per_byte = -logits[:, 0] / self._bytes.clamp(min=1)
            density = (COUNTED * per_byte).clamp(-MOST_DENSE, MOST_DENSE).float()
            arrays["density"] = outgoing(density)
        return TopLogits(**arrays)

    def digest(self, teacher: Arrays) -> Fit:
        """Distil at the places that the teacher speaks about."""
        holding, settings = self.holding, self.holding.settings
        way, passages = compared_by(settings), transfer_rows(holding, teacher.get("rows"))
        said = way.heard(teacher)
        x = self._asked(passages, said.get("strings"))
        target = holding.task.heard(said["values"], settings["form"], settings["temperature"])
        asked = x[:, passages.shape[1] :][:, : way.places] != 0
        known = (asked & (said["values"].sum(-1) > 0)).float()
        rows = {"x": x, "target": target, "known": known}
        if "strings" in said:
            rows["strings"] = said["strings"]
        loss = registry.find("losses", settings["loss"])
        wanted = reads(loss)
        if "noise" in wanted:
            rows["noise"] = laplace(*target.shape).to(target)
        first: tuple[Asked, ...] = ()
        if "before" in wanted and len(x):
            first = (Asked(x, lambda features, out: {"before": way.believed(answers(out, way))["values"]}),)
        of_rows = partial(compared, loss=loss, way=way, temperature=settings["temperature"], wanted=wanted)
        return Fit("digest", rows, of_rows, holding.distill, first=first)

    def _asked(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """Return passages [n, L] with what is asked about them behind [n, L + ...]; ``told``: the strings of
        which a teacher speaks."""
        self._bytes = (x > 0).sum(1)
        texts = [text_of(row) for row in x.cpu().numpy()]
        asked = compared_by(self.holding.settings).asked(texts, None if told is None else told.cpu())
        return torch.cat([x, asked.to(x.device)], 1)


def _expected(dims: Dims, settings: Mapping[str, Any], **more: bool) -> Expected:
    way = compared_by(settings)
    return TopLogits.expected(dims, top=way.top, places=way.places, strings=way.named, **more)


def answers(out: Tensor, way: Compared) -> Tensor:
    """Return what a model answers about the places [n, places, ...], of all that it says [n, 2 + ...]."""
    found: Tensor = out[:, 2:].unflatten(1, (way.places, -1))
    return found


def compared(
    net: Forward,
    batch: Arrays,
    constants: Arrays,
    *,
    loss: Any,
    way: Compared,
    temperature: float,
    wanted: Sequence[str] = (),
) -> Tensor:
    """Return a distillation loss [B], the mean over the places of each passage.

    ``batch['target']`` [B, places, D]: logits of the teacher, and of cells its ``strings`` [B, places, K];
    ``batch['known']`` [B, places]: 1 where it says something; ``way``: what is compared; ``wanted``: what
    else of the batch the loss reads, as the target.
    """
    beliefs = way.believed(answers(net(batch["x"])[1], way))["values"]
    target, known = way.fitted(batch["target"], batch["known"], batch, beliefs, temperature)
    more = {name: batch[name].flatten(0, 1) for name in wanted}
    each: Tensor = loss(beliefs.flatten(0, 1), target.flatten(0, 1), temperature, **more).view(known.shape)
    found: Tensor = (each * known).sum(1) / known.sum(1).clamp(min=1)
    return found


def reading(holding: Holding) -> Fit:
    """Return training on a client's own text, and on public text where that is no part of private
    training."""
    x, y = holding.x, holding.y
    if holding.transfer is not None and holding.settings["public_text"]:
        public = holding.transfer
        lengths = torch.from_numpy(holding.task.of_rows(public.cpu().numpy())).to(y)
        x, y = torch.cat([x, public]), torch.cat([y, lengths])
    return Fit("train", {"x": x, "y": y}, holding.training, holding.local, private=True)


class LanguageAlone(Alone):
    """Trains on its own and on public text; nothing leaves, nothing comes in."""

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on its own text, and on public text."""
        return reading(self.holding)
