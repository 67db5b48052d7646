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
from fedkt.language.spans import LEAST, both, words_of
from fedkt.language.topk import places_of
from fedkt.tasks.language import heard, said

BYTES = 256
COUNTED = 10.0
"""Bytes whose mean log-probability says how well a client knows a passage: its log density, to a factor."""


class LanguageClient(Client):
    """Trains on its own and on public text, sends beliefs about the next byte, distils from the teacher's.

    Settings: ``top`` and ``places``: how much is said of a passage; ``compare``: of its ``bytes``, or of
    ``spans``, its words; ``form``: ``votes`` for the likeliest byte of each place, all else for beliefs;
    ``loss``: a registered distillation loss, of each place; ``temperature``; ``density``: also send how well
    it knows each passage, ten times the mean log-probability of a byte; ``public_text``: whether it trains on
    public text beside its own.
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
        return TopLogits.expected(
            dims, top=settings["top"], places=settings["places"], density="density" in settings
        )

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return the arrays of beliefs, and the ids of the passages where they are not all."""
        return TopLogits.expected(dims, top=settings["top"], places=settings["places"], with_rows=with_rows)

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on its own text, and on public text."""
        return reading(self.holding)

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Predict the passages asked for, at their places."""
        return self._asked(transfer_rows(self.holding, rows))

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send beliefs about the places, those of passages that are shorter left empty."""
        settings = self.holding.settings
        beliefs = beliefs_of(logits, settings["places"], settings["compare"])
        there = spoken_of(beliefs)
        if settings["form"] == "votes":
            return Votes(outgoing(beliefs.argmax(-1).flatten().to(torch.int16)))
        spoken = self.holding.task.said(beliefs, settings["form"], settings["temperature"]) * there[..., None]
        tokens, codes = said(spoken, settings)
        density = None
        if "density" in settings:
            per_byte = -logits[:, 0] / self._bytes.clamp(min=1)
            density = outgoing((COUNTED * per_byte).clamp(-MOST_DENSE, MOST_DENSE).float())
        return TopLogits(outgoing(tokens), outgoing(codes), density=density)

    def digest(self, teacher: Arrays) -> Fit:
        """Distil at the places that the teacher speaks about."""
        holding, settings = self.holding, self.holding.settings
        x = self._asked(transfer_rows(holding, teacher.get("rows")))
        beliefs = heard(teacher["tokens"], teacher["codes"], settings)
        target = holding.task.heard(beliefs, settings["form"], settings["temperature"])
        known = (x[:, -settings["places"] :] != 0) & (beliefs.sum(-1) > 0)
        loss, form = registry.find("losses", settings["loss"]), (settings["places"], settings["compare"])
        rows, wanted = {"x": x, "target": target, "known": known.float()}, reads(loss)
        if "noise" in wanted:
            rows["noise"] = laplace(*target.shape).to(target)
        first: tuple[Asked, ...] = ()
        if "before" in wanted and len(x):
            first = (Asked(x, lambda features, out: {"before": beliefs_of(out, *form)}),)
        of_rows = partial(compared, loss=loss, form=form, temperature=settings["temperature"], wanted=wanted)
        return Fit("digest", rows, of_rows, holding.distill, first=first)

    def _asked(self, x: Tensor) -> Tensor:
        """Return passages [n, L] with the places that are spoken of behind them [n, L + places]: one more
        than a byte's number, minus one more than a word's, 0 for none."""
        settings = self.holding.settings
        self._bytes = (x > 0).sum(1)
        if settings["compare"] == "spans":
            words = torch.tensor([len(words_of(text_of(row))) for row in x.cpu().numpy()])
            asked = -1 - places_of(words, settings["places"])
        else:
            asked = 1 + places_of(self._bytes.cpu(), settings["places"])
        return torch.cat([x, asked.to(x.device)], 1)


def beliefs_of(out: Tensor, places: int, compare: str) -> Tensor:
    """Return log-probabilities [n, places, 256], of spans [n, places, 2], of what a model says [n, 2 + 256 ·
    places]."""
    found = out[:, 2:].unflatten(1, (places, BYTES))
    return both(found[..., 0]) if compare == "spans" else found


def spoken_of(beliefs: Tensor) -> Tensor:
    """Return at which places [n, places] a model says something: elsewhere log-probabilities are 0, and a
    span is certain."""
    return beliefs[..., 0] < -LEAST if beliefs.shape[-1] == 2 else beliefs.exp().sum(-1) < 2


def compared(
    net: Forward,
    batch: Arrays,
    constants: Arrays,
    *,
    loss: Any,
    form: tuple[int, str],
    temperature: float,
    wanted: Sequence[str] = (),
) -> Tensor:
    """Return a distillation loss [B], the mean over the places of each passage.

    ``batch['target']`` [B, places, 256], of spans [B, places, 2]: logits of the teacher; ``batch['known']``
    [B, places]: 1 where it says something; ``form``: places, and what of them is compared; ``wanted``: what
    else of the batch the loss reads, as the target.
    """
    _, out = net(batch["x"])
    target, known = batch["target"], batch["known"]
    beliefs = beliefs_of(out, *form)
    if form[1] == "spans":  # of which a model has no say where its tokens reach over an edge
        known = known * spoken_of(beliefs)
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
