"""Training on private rows that rehearses what the newest teacher taught (``clients.distill.together``).

Each step takes a batch of private rows, with the loss of training, and some transfer rows, with that of
distillation to the teacher; the objective is the sum of both, as in Hinton, Vinyals, Dean 2015, "Distilling
the Knowledge in a Neural Network", arXiv 1503.02531, section 2, where both are of the same rows. A model that
trains on its own rows alone forgets the classes it does not hold (rehearsal against it: Robins 1995,
"Catastrophic forgetting, rehearsal and pseudorehearsal", Connection Science 7), and the next teacher is made
of what such models say. A weight on the loss of a phase of its own does nothing under Adam.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedkt.client.behaviour import (
    Arrays,
    Asked,
    Fit,
    Forward,
    Holding,
    Others,
    RowLoss,
    Steps,
    classification,
    distillation,
)
from fedkt.distill.losses import ce, kl

if TYPE_CHECKING:
    from fedkt.scenario.about_data import Transfer


def untaught(training: Fit, holding: Holding, transfer: "Transfer | None") -> Fit:
    """Return the training of a client that nobody has taught yet: no fewer steps than distillation takes.

    The first teacher is made of what such models say, and one of models that have hardly been trained pulls
    everybody back to the uniform prediction.
    """
    rows = 0 if holding.transfer is None else len(holding.transfer)
    most = 0 if transfer is None else transfer.asked
    steps = holding.distill.count(min(rows, most or rows))
    return (
        training
        if steps <= training.count
        else replace(training, steps=replace(training.steps, batches=steps))
    )


def joined(training: Fit, digestion: Fit, project: float | None = None, weight: float = 1.0) -> Fit:
    """Return the phase that does both: as ``training``, with the rows of ``digestion`` in every batch.

    Steps are as many as training takes by itself. A batch has min(batch size, rows) private rows and beside
    them as many transfer rows as a batch of distillation, but at most half a batch of private rows: more
    take longer, and models were no better for it (docs/results/fusion.md). Where distillation compares rows
    with one another, it is a whole batch of it. The mean over a batch is the mean loss of its private rows
    plus ``weight`` times the mean loss of its transfer rows. The optimiser is that of training. ``project``:
    see :class:`~fedkt.client.Fit`. ``training`` itself where there is nothing to digest. Raises ValueError
    where one of them cannot be joined with another.
    """
    if not digestion.size:
        return training
    if digestion.private or training.others or training.constants or digestion.constants or training.coupled:
        raise ValueError("these phases cannot be joined")
    beside = digestion.steps.batch_size
    if not digestion.coupled:
        beside = min(beside, max(1, training.steps.batch_size // 2))
    own, other = min(training.steps.batch_size, training.size), min(beside, digestion.size)
    rows = _beside(training.rows, digestion.rows, training.size, digestion.size)
    private = torch.arange(training.size + digestion.size, device=rows["x"].device) < training.size
    rows["own"] = private * ((own + other) / max(own, 1))
    rows["other"] = ~private * (weight * (own + other) / other)
    other_loss = partial(among_themselves, loss=digestion.loss) if digestion.coupled else digestion.loss
    loss: RowLoss = partial(jointly, own=training.loss, other=other_loss)
    divergence = _towards(digestion.loss)
    if training.loss is classification and divergence is not None:
        rows, loss = _in_one_form(rows, divergence), at_once
    return replace(
        training,
        rows=rows,
        loss=loss,
        coupled=digestion.coupled,
        first=_filled(training.first, 0, digestion.size) + _filled(digestion.first, training.size, 0),
        others=Others(digestion.size, beside),
        project=project,
    )


def _towards(loss: RowLoss) -> bool | None:
    """Say of a cross entropy to a teacher's softmax whether its least is taken off; None of other losses."""
    if not isinstance(loss, partial) or loss.func is not distillation or loss.keywords["temperature"] != 1:
        return None
    return {kl: True, ce: False}.get(loss.keywords["loss"])


def _in_one_form(rows: Mapping[str, Tensor], divergence: bool) -> dict[str, Tensor]:
    """Return what :func:`at_once` reads of rows with labels ``y`` and a teacher's logits ``target``."""
    said = rows["target"].log_softmax(-1)
    label = one_hot(rows["y"], said.shape[-1]).to(said.dtype)
    told = rows["other"].unsqueeze(-1) * said.exp()
    least = (told * said).sum(-1) if divergence else torch.zeros_like(rows["other"])
    return {"x": rows["x"], "towards": rows["own"].unsqueeze(-1) * label + told, "least": least}


def at_once(net: Forward, batch: Arrays, constants: Arrays) -> Tensor:
    """Return what :func:`jointly` does of classification and distillation, both as one cross entropy [B].

    ``batch['towards']`` [B, classes]: a label or a teacher's distribution, times what the row counts;
    ``batch['least']`` [B]: what is taken off, with its sign. Two losses, each of all rows, take a quarter of
    a small model's step.
    """
    _, logits = net(batch["x"])
    return batch["least"] - (batch["towards"] * logits.log_softmax(-1)).sum(-1)


def _filled(first: tuple[Asked, ...], ahead: int, behind: int) -> tuple[Asked, ...]:
    """Return what is asked of rows of one kind for both: zeros for ``ahead`` and ``behind`` of the other."""

    def filled(features: Tensor, logits: Tensor, asked: Asked) -> Arrays:
        made = asked.rows(features, logits)
        padded = {name: [t.new_zeros(n, *t.shape[1:]) for n in (ahead, behind)] for name, t in made.items()}
        return {name: torch.cat([padded[name][0], t, padded[name][1]]) for name, t in made.items()}

    return tuple(Asked(one.x, partial(filled, asked=one)) for one in first)


def jointly(net: Forward, batch: Arrays, constants: Arrays, *, own: RowLoss, other: RowLoss) -> Tensor:
    """Return ``batch['own']`` times the one loss plus ``batch['other']`` times the other, per row [B].

    The first is 0 for transfer rows, the second for private ones.
    """
    once = _Once(net)
    return batch["own"] * own(once, batch, constants) + batch["other"] * other(once, batch, constants)


def among_themselves(net: Forward, batch: Arrays, constants: Arrays, *, loss: RowLoss) -> Tensor:
    """Return a loss that compares rows with one another [B], of transfer rows alone; 0 for private ones."""
    them = (batch["other"] > 0).nonzero().flatten()
    found = loss(_Some(net, batch["x"], them), {name: rows[them] for name, rows in batch.items()}, constants)
    return found.new_zeros(len(batch["other"])).index_copy(0, them, found)


class _Once:
    """A model that is asked about the same rows by two losses and computes them once."""

    def __init__(self, net: Forward) -> None:
        self._net = net
        self._asked: Tensor | None = None
        self.params: Arrays = net.params

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x is not self._asked:
            self._asked, self._said = x, self._net(x)
        return self._said

    def head(self, z: Tensor) -> Tensor:
        return self._net.head(z)


class _Some:
    """What a model says of all rows of a batch, of which a loss sees some."""

    def __init__(self, net: Forward, x: Tensor, which: Tensor) -> None:
        features, logits = net(x)
        self._said = features[which], logits[which]
        self.params: Arrays = net.params
        self.head = net.head

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._said


def _beside(
    own: Mapping[str, Tensor], other: Mapping[str, Tensor], many: int, others: int
) -> dict[str, Tensor]:
    """Put rows of two kinds behind each other, with zeros for what the one has and the other has not."""
    found = {}
    for name in {**own, **other}:
        like = own.get(name, other.get(name))
        assert like is not None
        first, last = (
            part[name] if name in part else like.new_zeros(size, *like.shape[1:])
            for part, size in ((own, many), (other, others))
        )
        wide = max(first.shape[1:2], last.shape[1:2])
        found[name] = torch.cat([_widened(first, wide), _widened(last, wide)])
    return found


def _widened(rows: Tensor, wide: tuple[int, ...]) -> Tensor:
    """Put zeros behind rows [n, d] that are narrower than ``wide``: of the others more is asked."""
    if rows.ndim != 2 or rows.shape[1:] == wide:
        return rows
    return torch.nn.functional.pad(rows, (0, wide[0] - rows.shape[1]))


def beside(
    x: Tensor, y: Tensor, other_x: Tensor, other_y: Tensor, steps: Steps
) -> tuple[dict[str, Tensor], Steps]:
    """Return rows of a phase on private rows and others beside them, and its steps.

    ``y`` int64, -1 where there is no label. Beside ``x`` and ``y`` come ``source``, 1 for private rows, else
    0, and ``scale``, by which each kind of rows has a mean of its own in the mean over all. A batch is as
    many private rows as ever and others in proportion, so steps stay as many.

    >>> x, y, none = torch.zeros(2, 5), torch.tensor([0, 1]), torch.tensor([-1, -1, -1, -1])
    >>> rows, steps = beside(x, y, torch.ones(4, 5), none, Steps(1, batch_size=10, optimizer="sgd", lr=0.1))
    >>> rows["source"].tolist(), rows["scale"].tolist(), steps.batch_size
    ([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 1.5, 1.5, 1.5, 1.5], 30)
    """
    own, other = len(y), len(other_y)
    total = own + other
    parts = [torch.full((n,), value, device=x.device) for n, value in ((own, 1.0), (other, 0.0))]
    scale = [torch.full((n,), total / max(n, 1), device=x.device) for n in (own, other)]
    rows = {"x": torch.cat([x, other_x]), "y": torch.cat([y, other_y])}
    rows |= {"source": torch.cat(parts), "scale": torch.cat(scale)}
    return rows, replace(steps, batch_size=round(steps.batch_size * total / max(own, 1)))
