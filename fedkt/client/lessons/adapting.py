"""A client's model brought to the transfer rows before it speaks of them (``clients.adapt``), on a copy.

Sites whose rows are of another domain than the transfer rows answer about rows that they have not seen the
like of. Without any label the features can be moved until the (fixed) head is sure of each row and undecided
between them:

======= ==============================================================================================
entropy mean H(p_i): Wang et al. 2021, "Tent", arXiv 2006.10726
im      mean H(p_i) - H(mean p), with a known mix of classes pi in place of the second KL(mean p || pi):
Liang,
        Hu, Feng 2020, "Do We Really Need to Access the Source Data?" (SHOT), arXiv 2002.08546
snc     -(p_i . q_j) over the 5 nearest rows j, + (1 + 10t)^-beta (p_i . p_j)^2 over the batch, t from 0 to 1:
        Hwang et al. 2024, "SF(DA)²", arXiv 2403.10834, without its feature augmentation
======= ==============================================================================================

What differs: no augmentation and no pseudo-labels; all rows of the transfer set are seen, no private one is.
Where the classes of the transfer rows are far from even, `im` harms, and nobody sees that without labels: the
candidates can be compared on a few labelled rows (``few``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Arrays, Holding, Steps, transfer_rows
from fedkt.client.training import batch_order, predict, seeded, tensors_of
from fedkt.rng import numpy_stream, seed_of
from fedkt.scenario.about_adversity import Adapt

NEIGHBOURS = 5
TINY = 1e-12


@dataclass(frozen=True)
class Adapted:
    """A copy's tensors, and what the choice between it and the model was made by (empty: there was none)."""

    tensors: Arrays
    told: Mapping[str, float]


def speaker(
    net: nn.Module, tensors: Arrays, holding: Holding, rows: Tensor | None, adapt: Adapt, round_: int
) -> tuple[Arrays, Mapping[str, float]]:
    """Return the tensors of the model that speaks of the transfer rows asked for, and what is told of it.

    ``net``: a module of its architecture; ``tensors``: the client's own, which stay as they are; ``rows`` int
    [n], None for all.
    """
    if adapt.loss == "none" or holding.transfer is None:
        return tensors, {}
    few = None if adapt.few is None or holding.public is None else few_of(*holding.public, adapt.few)
    x, seed, client = transfer_rows(holding, rows), holding.seed, holding.client
    found = adapted(net, tensors, x, adapt, few=few, seed=seed, client=client, round_=round_)
    return found.tensors, found.told


def adapted(
    net: nn.Module,
    tensors: Arrays,
    x: Tensor,
    adapt: Adapt,
    *,
    few: tuple[Tensor, Tensor] | None,
    seed: int,
    client: str,
    round_: int,
) -> Adapted:
    """Return a client's model fitted to rows without labels, or the model itself where that is no better.

    ``net``: a module of its architecture; ``tensors``: its state dict, which stays as it is; ``x`` [n, ...];
    ``few``: labelled rows to choose by, None: the copy is taken.
    """
    net.load_state_dict(tensors)
    before = None if few is None else _right(net, few)
    fit_to(net, x, adapt, seed=seed, client=client, round_=round_)
    copy = tensors_of(net)
    if few is None or before is None:
        return Adapted(copy, {})
    gain = _right(net, few) - before
    told = {"adapted": float(gain > 0), "adapt_gain": gain}
    return Adapted(copy if gain > 0 else tensors, told)


def fit_to(net: nn.Module, x: Tensor, adapt: Adapt, *, seed: int, client: str, round_: int) -> None:
    """Train the features of a model on rows without labels, in place."""
    trained = [p for name, p in net.named_parameters() if name.startswith("features.") and p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=adapt.lr)
    bank = Bank(*predict(net, x)) if adapt.loss == "snc" else None
    steps = Steps(adapt.epochs, adapt.batch_size, "adam", adapt.lr)
    prior = None if adapt.prior is None else torch.tensor(adapt.prior, device=x.device)
    stream = numpy_stream(seed, "adapt", client, round_)
    total = steps.count(len(x))
    net.train()
    with seeded(seed_of(seed, "adapt", client, round_)):
        for step, rows in enumerate(batch_order(len(x), steps, stream, pairs=True)):
            here = torch.from_numpy(rows).to(x.device)
            features, logits = net(x[here])
            p = logits.softmax(-1)
            if adapt.loss == "entropy":
                loss = entropy(p).mean()
            elif bank is None:
                loss = information(p, prior)
            else:
                neighbours = bank.renew(here, features.detach(), p.detach())
                loss = contrast(p, neighbours, (1 + 10 * step / max(total - 1, 1)) ** -adapt.beta)
            for parameter in trained:
                parameter.grad = None
            loss.backward()
            optimiser.step()


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


def _right(net: nn.Module, few: tuple[Tensor, Tensor]) -> float:
    _, logits = predict(net, few[0])
    return float((logits.argmax(-1) == few[1].to(logits.device)).double().mean())


def few_of(x: Tensor, y: Tensor, each: int) -> tuple[Tensor, Tensor]:
    """Return the first rows of each class, as many of each.

    >>> few_of(torch.arange(5.0), torch.tensor([0, 0, 1, 0, 1]), 2)[0]
    tensor([0., 1., 2., 4.])
    """
    ranks = torch.zeros_like(y)
    for label in y.unique():
        its = y == label
        ranks[its] = torch.arange(int(its.sum()), device=y.device)
    kept = ranks < each
    return x[kept], y[kept]
