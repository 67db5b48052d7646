"""Fusion that a minority of hostile clients cannot move far: centres, and filters that drop contributions.

Pure functions on values [clients, n, d]: n points per client, such as the predictions about n transfer rows
or the prototypes of n classes. ``weights`` are at least 0, [clients] or [clients, n]; where a weight is 0 the
client has nothing to say about the point. Weights must come from the server: what clients claim of
themselves, such as numbers of rows, a hostile one claims too.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.rng import numpy_stream
from fedkt.strategy.fusing.knowers import among_knowers

if TYPE_CHECKING:
    from fedkt.scenario import Robust

_HALF = 0.5
_SLACK = 1e-9
"""Cumulated shares this close to a half are a half: sums of shares are not exact."""
IN_CACHE = 2**19
"""So many values are weighed at a time: products of more have to be fetched from memory again."""
STEPS = 100
"""Most steps of the geometric median; it stops when a step moves no point by more than TOLERANCE."""
TOLERANCE = 1e-7
SMALLEST = 1e-8
"""Distances are at least this, so that a client that sits on the centre does not divide by zero."""


def centre(
    values: Tensor,
    weights: Tensor | None,
    robust: "Robust",
    *,
    simplex: bool = False,
    by_class: bool = False,
) -> Tensor:
    """Return the centre [n, d] that the scenario names; rows are divided by their sum with ``simplex``.

    ``by_class``: the mean of each class over those who know it. Values may have further dimensions after the
    clients'; weights may have the leading ones of the values.
    """
    if by_class:
        return among_knowers(values, weights)
    if robust.centre == "mean":
        return weighted_mean(values, weights)
    if robust.centre == "median":
        found = median(values, weights)
    elif robust.centre == "trimmed-mean":
        found = trimmed_mean(values, weights, robust.hostile)
    else:
        found = geometric_median(values, weights)
    if simplex:
        found = found.clamp_min(0)
        total = found.sum(-1, keepdim=True)
        found = found / torch.where(total > 0, total, torch.ones_like(total))
    return found


def weighted_mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the weighted mean over clients; zeros where all weights are zero."""
    if weights is None:
        return values.mean(0)
    some = min(len(values), max(1, IN_CACHE // max(values[0].numel(), 1)))
    found, room = torch.zeros_like(values[0]), torch.empty_like(values[:some])
    weights = weights.to(values.dtype)
    wide, total = _wide(weights, values), _wide(weights.sum(0, keepdim=True), values)[0]
    for weight, part in zip(wide.split(some), values.split(some), strict=True):
        found += torch.mul(weight, part, out=room[: len(part)]).sum(0)
    return found.div_(torch.where(total > 0, total, torch.ones_like(total)))


def median(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the weighted median of each coordinate; between two middle values lies their mean.

    Yin et al. 2018, arXiv 1803.01498, definition 1. No minority of the weight moves it out of the others'
    range.
    """
    ordered, cumulated = _ordered(values, weights)
    lower = (cumulated < _HALF - _SLACK).sum(0, keepdim=True).clamp_max(len(values) - 1)
    upper = (cumulated <= _HALF + _SLACK).sum(0, keepdim=True).clamp_max(len(values) - 1)
    middle = (ordered.gather(0, lower) + ordered.gather(0, upper)).squeeze(0) / 2
    return _known(middle, weights, values)


def trimmed_mean(values: Tensor, weights: Tensor | None, hostile: float) -> Tensor:
    """Return the weighted mean of each coordinate without its largest and smallest values.

    Yin et al. 2018, arXiv 1803.01498, definition 2. At each end goes the weight of :func:`most_hostile` of
    those that have a weight there.
    """
    ordered, cumulated = _ordered(values, weights)
    there = torch.ones_like(values) if weights is None else (_wide(weights, values) > 0).expand_as(values)
    count = there.sum(0)
    cut = torch.ceil(hostile * count - _SLACK).minimum(((count - 1) / 2).floor()).clamp_min(0)
    share = cut.double() / count.clamp_min(1)  # in double: no rest of a cut value may count
    before = cumulated.roll(1, 0)
    before[0] = 0
    # Each value occupies an interval of the cumulated weight; what lies within [share, 1 - share] counts.
    kept = (cumulated.minimum(1 - share) - before.maximum(share)).clamp_min(0)
    mean = (kept * ordered).sum(0) / kept.sum(0).clamp_min(SMALLEST)
    return _known(mean, weights, values)


def geometric_median(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the points with the least weighted sum of distances to the clients' points (last dimension).

    Weiszfeld's algorithm as in RFA: Pillutla et al. 2022, arXiv 1912.13445, algorithm 2.
    """
    points = values.double()
    share = points.new_full((len(values), *[1] * (values.dim() - 1)), 1 / len(values))
    if weights is not None:
        share = _shares(weights, points)
    found = (share * points).sum(0)
    for _ in range(STEPS):
        pull = share / (points - found).norm(dim=-1, keepdim=True).clamp_min(SMALLEST)
        total = pull.sum(0)
        better = (pull * points).sum(0) / torch.where(total > 0, total, torch.ones_like(total))
        moved = (better - found).abs().max() if better.numel() else 0.0
        found = better
        if moved <= TOLERANCE:
            break
    return found.to(values.dtype)


def kept(values: Tensor, held: Tensor | None, robust: "Robust", *, simplex: bool = False) -> list[int]:
    """Return the clients whose contributions ``krum``, ``multi-krum`` or ``cosine`` leaves.

    ``held`` bool [clients, n]: which points a client has something to say about (None: all).
    """
    hostile = most_hostile(len(values), robust.hostile)
    if robust.filter == "krum":
        return krum(values, held, hostile, 1)
    if robust.filter == "multi-krum":
        return krum(values, held, hostile, len(values) - hostile)
    return at_least(similarity(values, held, simplex=simplex), robust.least or 0.0)


def agreeing(values: Tensor, labels: Tensor, least: float) -> list[int]:
    """Return the clients who agree with the labels at least ``least`` times as often as the median client."""
    if not len(labels):
        return list(range(len(values)))
    scores = agreement(values, labels)
    return at_least(scores, least * float(median(scores.unsqueeze(-1))))


def most_hostile(clients: int, hostile: float) -> int:
    """Return how many of this many clients the share ``hostile`` is at most; always a minority."""
    return max(0, min(math.ceil(hostile * clients - _SLACK), (clients - 1) // 2))


def krum(values: Tensor, held: Tensor | None, hostile: int, keep: int) -> list[int]:
    """Return the ``keep`` clients closest to their n - hostile - 2 nearest others, in their order.

    Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", NeurIPS:
    Krum keeps one, multi-Krum several. ``held`` bool [clients, n]: two clients are compared on what both
    hold, and are infinitely far from each other where that is nothing.
    """
    n = len(values)
    points = values.double()
    mask = torch.ones(values.shape[:2], dtype=torch.bool) if held is None else held
    both = mask.unsqueeze(1) & mask.unsqueeze(0)
    square = (points.unsqueeze(1) - points.unsqueeze(0)).square().sum(-1)
    shared = both.sum(-1)
    distance = (square * both).sum(-1) / shared.clamp_min(1) * values.shape[1]
    distance = distance.masked_fill(shared == 0, torch.inf)
    distance.fill_diagonal_(torch.inf)
    nearest = max(1, n - hostile - 2)
    scores = distance.sort(-1).values[:, :nearest].sum(-1)
    return sorted(torch.sort(scores, stable=True).indices[:keep].tolist())


def similarity(values: Tensor, held: Tensor | None, *, simplex: bool = False) -> Tensor:
    """Return the cosine [clients] of each client's values with the coordinate-wise median of all.

    It sees directions only: values that are scaled up are as similar as before. Probabilities (``simplex``)
    are compared as differences from the uniform distribution, so that opposite ones point opposite ways.
    """
    points = values.double()
    if simplex:
        points = points - 1 / values.shape[-1]
    middle = median(points, held)
    mask = torch.ones(*values.shape[:2], 1) if held is None else held.unsqueeze(-1)
    product = (points * middle * mask).flatten(1).sum(-1)
    norms = (points * mask).flatten(1).norm(dim=-1) * (middle * mask).flatten(1).norm(dim=-1)
    cosine: Tensor = product / norms.clamp_min(SMALLEST)
    return cosine


def agreement(values: Tensor, labels: Tensor) -> Tensor:
    """Return the share [clients] of points whose largest value is at the label, ``labels`` int64 [n]."""
    return (values.argmax(-1) == labels).double().mean(-1)


def at_least(scores: Tensor, bound: float) -> list[int]:
    """Return the clients whose score reaches the bound, the best one where none does."""
    kept: list[int] = (scores >= bound - _SLACK).nonzero().flatten().tolist()
    return kept or [int(scores.argmax())]


@dataclass(frozen=True)
class Probe:
    """Labels of transfer rows that the server keeps to itself: ``rows`` int64 [n], ``labels`` int64 [n]."""

    rows: Tensor
    labels: Tensor

    @classmethod
    def drawn(cls, labels: NDArray[np.int64], size: int, seed: int) -> "Probe":
        """Draw ``size`` of the transfer rows, by the labels of all of them (below 0: unknown)."""
        known = np.flatnonzero(labels >= 0)
        rows = np.sort(numpy_stream(seed, "probe").permutation(known)[:size])
        return cls(torch.from_numpy(rows), torch.from_numpy(labels[rows]))

    def among(self, asked: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the places of these rows among those that were asked for (None: all), and their labels."""
        if asked is None:
            return self.rows, self.labels
        match = self.rows.unsqueeze(-1) == asked.long().unsqueeze(0)
        there = match.any(-1)
        return match[there].int().argmax(-1), self.labels[there]


def _wide(weights: Tensor, values: Tensor) -> Tensor:
    """Give weights the trailing dimensions that they lack."""
    return weights.reshape(*weights.shape, *[1] * (values.dim() - weights.dim()))


def _shares(weights: Tensor, values: Tensor) -> Tensor:
    """Return weights divided by their sum over clients, zeros where that is zero, as wide as the values."""
    weights = weights.to(values.dtype)
    total = weights.sum(0)
    return _wide(weights / torch.where(total > 0, total, torch.ones_like(total)), values)


def _ordered(values: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return values in ascending order over clients and the cumulated shares of weight, float64."""
    ordered, order = values.sort(0)
    if weights is None:
        steps = torch.arange(1, len(values) + 1, dtype=torch.float64) / len(values)
        return ordered, _wide(steps, values).expand_as(values).clone()
    shares = _shares(weights.double(), values.double()).expand_as(values)
    return ordered, shares.gather(0, order).cumsum(0)


def _known(found: Tensor, weights: Tensor | None, values: Tensor) -> Tensor:
    """Put zeros where no client has a weight."""
    if weights is not None:
        found = found * (_wide(weights, values).sum(0) > 0)
    return found.to(values.dtype)
