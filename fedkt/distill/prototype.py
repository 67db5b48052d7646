"""Losses that pull features towards class prototypes: supervised, so for labelled rows (``fedkt.losses``).

Shapes are the same everywhere: ``features`` [B, d], ``prototypes`` [K, d] with one row per class, ``known``
bool [K], true for the classes that have a prototype, and ``y`` int64 [B]. All return one value per row [B],
which depends on that row alone and is 0 for a class without a prototype (such a row still counts in the
mean that the engine takes); what the row of such a prototype holds is never read into a loss, as long as
it is a finite number.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_NORM = 1e-8


class PrototypeLoss(Protocol):
    """A loss of features [B, d] against prototypes [K, d] at the rows' classes: one value per row [B]."""

    def __call__(
        self, features: Tensor, prototypes: Tensor, y: Tensor, /, *, known: Tensor | None
    ) -> Tensor: ...


def prototype_mse(features: Tensor, prototypes: Tensor, y: Tensor, *, known: Tensor | None = None) -> Tensor:
    """Mean over dimensions of (feature - prototype of its class)²; its weight, λ, is outside.

    Tan et al. 2022, "FedProto", arXiv:2105.00243. Its formula has the local class means in place of the
    features; its code has single rows, as here, and also leaves classes without a prototype at 0.
    """
    terms: Tensor = (features - prototypes[y]).square().mean(-1)
    return terms if known is None else terms * known[y]


def nd(
    features: Tensor,
    prototypes: Tensor,
    y: Tensor,
    *,
    teacher_norm: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Norm and direction: 1 - s·e / max(|s|, n), with s the feature and e the unit prototype of its class.

    In [0, 2]; 0 if s has e's direction and is at least n long. ``teacher_norm`` [B] is n, the length of the
    teacher's feature of each row; None, as where only prototypes are shared, takes the length of the
    class's prototype (never longer than the mean length of the features it is the mean of). A prototype of
    length 0 has no direction: its rows add 0, as those of unknown classes do.

    Wang et al. 2023, "Improving Knowledge Distillation via Regularizing Feature Norm and Direction" (KD++),
    arXiv:2305.17007; the weight in the total loss, 1 to 4 there, is outside.
    """
    target = prototypes[y]
    length = target.norm(dim=-1)
    # Its square root is clamped, not the norm: the gradient of the norm at 0 is not a number.
    student = features.square().sum(-1).clamp(min=LEAST_NORM**2).sqrt()
    least = length if teacher_norm is None else teacher_norm
    along = (features * target).sum(-1) / length.clamp(min=LEAST_NORM)
    counts = length > LEAST_NORM
    if known is not None:
        counts = counts & known[y]
    terms: Tensor = (1 - along / torch.maximum(student, least)) * counts
    return terms


def supervised_contrastive(
    features: Tensor,
    prototypes: Tensor,
    y: Tensor,
    temperature: float = 0.07,
    *,
    known: Tensor | None = None,
) -> Tensor:
    """-log softmax over classes of cos(feature, prototype)/temperature, at the row's own class; at least 0.

    ``temperature`` > 0. ``known`` None: all classes have a prototype.

    Tan et al. 2022, "Federated Learning from Pre-Trained Models: A Contrastive Learning Approach" (FedPCL),
    arXiv:2209.10083: supervised contrastive loss (Khosla et al., arXiv:2004.11362) with prototypes for
    the other samples. The own class is in the denominator, as there.
    """
    cosine = F.normalize(features, dim=-1) @ F.normalize(prototypes, dim=-1).T
    scores = cosine / temperature
    if known is not None:
        scores = scores.masked_fill(~known, torch.finfo(scores.dtype).min / 4)
    own = torch.arange(len(prototypes), device=y.device) == y.unsqueeze(-1)
    terms = -F.log_softmax(scores, -1).masked_fill(~own, 0).sum(-1)
    if known is not None:
        terms = terms.masked_fill(~known[y], 0)
    return terms


def hardness(prototypes: Tensor, known: Tensor, temperature: float) -> Tensor:
    """Return how much each class counts as a negative of each other one [classes, classes].

    Proportional to exp(cosine of their prototypes / temperature) over the other known classes, adding up to
    their number: the nearer, the more. An infinite temperature weighs all alike.
    """
    unit = F.normalize(prototypes, dim=-1)
    others = known & ~torch.eye(len(prototypes), dtype=torch.bool, device=prototypes.device)
    lowest = torch.finfo(unit.dtype).min / 4
    shares = (unit @ unit.T / temperature).masked_fill(~others, lowest).softmax(-1)
    return torch.where(others, shares * others.sum(-1, keepdim=True), 0)


def hard_contrastive(
    features: Tensor,
    prototypes: Tensor,
    y: Tensor,
    temperature: float = 0.07,
    *,
    known: Tensor | None = None,
    hard: float = 0.5,
    others: Tensor | None = None,
) -> Tensor:
    """:func:`supervised_contrastive` whose negatives count by how near they are to the row's class.

    ``hard`` > 0: temperature of that, see :func:`hardness`. ``others`` [m, width]: features of unlabelled
    rows, such as made ones, that are m further negatives, debiased: one in so many of them as there are known
    classes may be of the row's own class, so that share of its own term is taken from theirs, down to a
    least value.

    Robinson et al. 2021, "Contrastive learning with hard negative samples", arXiv:2010.04592 (weights and
    bound); Chuang et al. 2020, "Debiased contrastive learning", arXiv:2007.00224.
    """
    there = torch.ones(len(prototypes), dtype=torch.bool, device=y.device) if known is None else known
    unit = F.normalize(features, dim=-1)
    scores = unit @ F.normalize(prototypes, dim=-1).T / temperature
    own = torch.arange(len(prototypes), device=y.device) == y.unsqueeze(-1)
    positive = torch.where(own, scores, 0).sum(-1)
    # Relative to the own class, so that nothing overflows where cosines are far apart.
    apart = torch.where(there, scores - positive.unsqueeze(-1), 0).exp()
    negative = (hardness(prototypes, there, hard)[y] * apart).sum(-1)
    if others is not None:
        ratio = (unit @ F.normalize(others, dim=-1).T / temperature - positive.unsqueeze(-1)).exp().mean(-1)
        prior = 1.0 / there.sum().clamp(min=2)
        least = (-1.0 / temperature - positive).exp()
        negative = negative + len(others) * torch.maximum((ratio - prior) / (1.0 - prior), least)
    return torch.log1p(negative) * there[y]


def nearest(features: Tensor, prototypes: Tensor, known: Tensor) -> Tensor:
    """Return scores [n, classes]: minus the distance to each prototype, the lowest where it is unknown."""
    lowest = torch.finfo(features.dtype).min
    # Not by a matrix product, which cdist takes from 26 rows on: far from zero it cannot tell classes apart.
    apart = torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    return (-apart).masked_fill(~known, lowest)
