"""A client's model brought to the transfer rows before it speaks of them (``clients.adapt``), on a copy.

Sites whose rows are of another domain than the transfer rows answer about rows that they have not seen the
like of. Without any label the features can be moved until the (fixed) head is sure of each row and undecided
between them:

========== ===========================================================================================
entropy    mean H(p_i): Wang et al. 2021, "Tent", arXiv 2006.10726
im         mean H(p_i) - H(mean p), with a known mix of classes pi in place of the second KL(mean p || pi):
           Liang, Hu, Feng 2020, "Do We Really Need to Access the Source Data?" (SHOT), arXiv 2002.08546
snc        -(p_i . q_j) over the 5 nearest rows j, + (1 + 10t)^-beta (p_i . p_j)^2 over the batch, t from 0 to
           1: Hwang et al. 2024, "SF(DA)²", arXiv 2403.10834, without its feature augmentation
statistics none is trained: BatchNorm's statistics move to the rows' (:mod:`fedkt.client.lessons.sensing`)
========== ===========================================================================================

What differs: no augmentation and no pseudo-labels; all rows of the transfer set are seen, no private one is.
In place of the features an input layer of the client's own can be trained (``trains: input``). Where the
classes of the transfer rows are far from even, `im` harms, and nobody sees that without labels: the
candidates can be compared on a few labelled rows (``few``), and the copy can learn those that are worth a
label (``budget``, :mod:`fedkt.client.lessons.labelling`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Arrays, Holding, Steps, transfer_rows
from fedkt.client.lessons.labelling import due, worth
from fedkt.client.lessons.sensing import lens_of, move_statistics, seen
from fedkt.client.training import batch_order, predict, seeded, tensors_of, unending
from fedkt.rng import numpy_stream, seed_of
from fedkt.scenario.about_adversity import Adapt

NEIGHBOURS = 5
TINY = 1e-12
Labelled = tuple[Tensor, Tensor]
"""Rows [n, ...] and their labels int64 [n]."""


@dataclass(frozen=True)
class Speaker:
    """Who speaks of the transfer rows: a model's tensors, and what it sees them through (None: nothing).

    ``rows``: how many of them it is asked about; ``told``: what the choice between copy and model was made
    by, and how many labels were asked for; ``asked``: the numbers of the public rows whose labels were, in
    all rounds so far, which a client's state keeps.
    """

    tensors: Arrays = field(default_factory=dict)
    lens: nn.Module | None = None
    rows: int = 0
    told: Mapping[str, float] = field(default_factory=dict)
    asked: tuple[int, ...] = ()

    @classmethod
    def read(cls, note: Mapping[str, Any]) -> "Speaker":
        """Read from a state what was asked for."""
        return cls(asked=tuple(note.get("asked", ())))

    def note(self) -> dict[str, list[int]]:
        """Return what a state keeps."""
        return {"asked": list(self.asked)} if self.asked else {}

    def of(self, tensors: Arrays) -> "Speaker":
        """Return a client's own model as the speaker, with the labels that it asked for."""
        return Speaker(tensors, asked=self.asked)

    def sees(self, inputs: Tensor) -> Tensor:
        """Return inputs [n, ...], of which transfer rows come first, as the model gets them."""
        if self.lens is None:
            return inputs
        return torch.cat([seen(self.lens, inputs[: self.rows]), inputs[self.rows :]])

    def says(self, net: nn.Module, x: Tensor) -> Tensor:
        """Return the probabilities [n, classes] of rows like the transfer rows; ``net`` takes its tensors."""
        net.load_state_dict(self.tensors)
        return predict(net, x if self.lens is None else seen(self.lens, x))[1].softmax(-1)


def speaker(
    net: nn.Module, own: Speaker, holding: Holding, rows: Tensor | None, adapt: Adapt, when: tuple[int, int]
) -> Speaker:
    """Return who speaks of the transfer rows asked for.

    ``net``: a module of its architecture; ``own``: the client's own model, which stays as it is, and the
    labels that it asked for; ``rows`` int [n], None for all; ``when``: the round, and the last one.
    """
    if adapt.loss == "none" or holding.transfer is None:
        return own
    x, at = transfer_rows(holding, rows), (holding.seed, holding.client, when[0])
    if holding.public is None or (adapt.few is None and adapt.budget is None):
        return adapted(net, own, x, adapt, at=at)
    public, labels = holding.public
    judge, known = first_of(labels, adapt.few or 0), list(own.asked)
    judges = (public[judge], labels[judge]) if adapt.few is not None else None
    taught = (public[known], labels[known]) if known else None
    found = adapted(net, own, x, adapt, at=at, judges=judges, taught=taught)
    if adapt.budget is None:
        return found
    judge[known] = True  # or asked for already
    free = (~judge).nonzero().flatten()
    more = due(adapt.budget, *when) - len(known)
    if more > 0 and len(free):
        now, before = (who.says(net, public[free]) for who in (found, own))
        known += free[worth(now, before).argsort(stable=True)[:more]].tolist()
    told = {**found.told, "labels_asked": float(len(known))}
    return replace(found, asked=tuple(known), told=told)


def adapted(
    net: nn.Module,
    own: Speaker,
    x: Tensor,
    adapt: Adapt,
    *,
    at: tuple[int, str, int],
    judges: Labelled | None = None,
    taught: Labelled | None = None,
) -> Speaker:
    """Return a client's model fitted to rows without labels, or the model itself where that is no better.

    ``net``: a module of its architecture; ``x`` [n, ...]; ``judges``: labelled rows to choose by, None: the
    copy is taken; ``taught``: labelled rows that the copy learns beside; ``at``: seed, client and round.
    """
    net.load_state_dict(own.tensors)
    lens = fit_to(net, x, adapt, at=at, taught=taught)
    copy = replace(own, tensors=tensors_of(net), lens=lens, rows=len(x))
    if judges is None:
        return copy
    after, before = (right(who.says(net, judges[0]), judges[1], adapt.prior) for who in (copy, own))
    told = {"adapted": float(after > before), "adapt_gain": after - before}
    return replace(copy if after > before else own, told=told)


def fit_to(
    net: nn.Module, x: Tensor, adapt: Adapt, *, at: tuple[int, str, int], taught: Labelled | None = None
) -> nn.Module | None:
    """Train the features of a model on rows without labels, in place, or return an input layer that is."""
    seed, client, round_ = at
    steps = Steps(adapt.epochs, adapt.batch_size, "adam", adapt.lr)
    order = batch_order(len(x), steps, numpy_stream(seed, "adapt", client, round_), pairs=True)
    batches = (torch.from_numpy(rows).to(x.device) for rows in order)
    if adapt.loss == "statistics":
        move_statistics(net, (x[rows] for rows in batches))
        return None
    lens = lens_of(x.shape[1], x.device) if adapt.trains == "input" else None
    features = [p for name, p in net.named_parameters() if name.startswith("features.") and p.requires_grad]
    trained = features if lens is None else list(lens.parameters())
    optimiser = torch.optim.Adam(trained, lr=adapt.lr)
    bank = Bank(*predict(net, x)) if adapt.loss == "snc" else None
    known = None if taught is None else _repeated(taught, adapt.batch_size, at)
    total = steps.count(len(x))
    net.train(lens is None)  # ahead of a model that stays as it is, none of it changes
    with seeded(seed_of(seed, "adapt", client, round_)):
        for step, here in enumerate(batches):
            features_, logits = net(x[here] if lens is None else lens(x[here]))
            p = logits.softmax(-1)
            if adapt.loss == "entropy":
                loss = entropy(p).mean()
            elif bank is None:
                prior = None if adapt.prior is None else torch.tensor(adapt.prior, device=x.device)
                loss = information(p, prior)
            else:
                neighbours = bank.renew(here, features_.detach(), p.detach())
                loss = contrast(p, neighbours, (1 + 10 * step / max(total - 1, 1)) ** -adapt.beta)
            if known is not None:
                rows, labels = next(known)
                said = net(rows if lens is None else lens(rows))[1]
                loss = loss + nn.functional.cross_entropy(said, labels)
            for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                parameter.grad = gradient
            optimiser.step()
    return lens


def _repeated(rows: Labelled, size: int, at: tuple[int, str, int]) -> Iterator[Labelled]:
    """Yield batches of labelled rows for ever."""
    seed, client, round_ = at
    for batch in unending(len(rows[1]), size, numpy_stream(seed, "adapt to labels", client, round_)):
        here = torch.from_numpy(batch).to(rows[1].device)
        yield rows[0][here], rows[1][here]


class Bank:
    """Unit features and predictions of all rows, renewed batch by batch."""

    def __init__(self, features: Tensor, logits: Tensor) -> None:
        self._features = nn.functional.normalize(features, dim=-1)
        self._said = logits.softmax(-1)

    def renew(self, rows: Tensor, features: Tensor, said: Tensor) -> Tensor:
        """Take in a batch; return the predictions of each row's nearest others [B, 5, classes]."""
        self._features[rows] = nn.functional.normalize(features, dim=-1)
        self._said[rows] = said
        like = self._features[rows] @ self._features.T
        like[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        found: Tensor = self._said[like.topk(NEIGHBOURS, dim=-1).indices]
        return found


def entropy(p: Tensor) -> Tensor:
    """Return the entropy in nats of distributions [..., K].

    >>> entropy(torch.tensor([[0.8, 0.2], [0.6, 0.4]]))
    tensor([0.5004, 0.6730])
    """
    found: Tensor = -(p * p.clamp_min(TINY).log()).sum(-1)
    return found


def information(p: Tensor, prior: Tensor | None = None) -> Tensor:
    """Return mean H(p_i) - H(mean p) of [B, K], or with a known mix of classes mean H(p_i) + KL(mean p ||
    mix).

    >>> p = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
    >>> round(information(p).item(), 4), round(information(p, torch.tensor([0.7, 0.3])).item(), 4)
    (-0.0242, 0.5867)
    """
    mean = p.mean(0)
    if prior is None:
        return entropy(p).mean() - entropy(mean)
    return entropy(p).mean() + (mean * (mean.clamp_min(TINY) / prior.clamp_min(TINY)).log()).sum()


def contrast(p: Tensor, neighbours: Tensor, weight: float) -> Tensor:
    """Return the spectral neighbour loss of a batch.

    ``p`` [B, K]; ``neighbours`` [B, k, K]: what is said of each row's nearest ones; ``weight``: of the
    repulsion of the batch's other rows.

    >>> p = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
    >>> q = torch.tensor([[[0.9, 0.1], [0.7, 0.3]], [[0.5, 0.5], [0.4, 0.6]]])
    >>> round(contrast(p, q, 0.0).item(), 4), round((contrast(p, q, 1.0) - contrast(p, q, 0.0)).item(), 4)
    (-1.17, 0.3136)
    """
    attraction = -(p.unsqueeze(1) * neighbours).sum((1, 2)).mean()
    overlap = p @ p.T
    others = overlap.square().sum(-1) - overlap.diagonal().square()
    return attraction + weight * others.mean()


def right(said: Tensor, y: Tensor, prior: Sequence[float] | None = None) -> float:
    """Return the accuracy of probabilities [n, classes] on labels [n], of rows of this mix where it is known.

    >>> right(torch.eye(2)[[0, 1, 1]], torch.tensor([0, 0, 1]), (0.2, 0.8))
    0.9
    """
    hit = (said.argmax(-1) == y.to(said.device)).double()
    if prior is None:
        return float(hit.mean())
    shares = {label: prior[label] for label in y.unique().tolist()}
    by_class = sum(share * float(hit[y == label].mean()) for label, share in shares.items())
    return float(by_class / sum(shares.values()))


def first_of(y: Tensor, each: int) -> Tensor:
    """Return which rows are the first of their class, as many of each, bool [n].

    >>> first_of(torch.tensor([0, 0, 1, 0, 1]), 2)
    tensor([ True,  True,  True, False,  True])
    """
    ranks = torch.zeros_like(y)
    for label in y.unique():
        its = y == label
        ranks[its] = torch.arange(int(its.sum()), device=y.device)
    return ranks < each
