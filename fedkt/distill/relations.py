"""Distillation of how answers relate, in a row or between the rows of a batch: entry points ``fedkt.losses``.

They have the signature of :mod:`fedkt.distill.losses`, and the mean of what they return is the published
value. Those marked :func:`coupled` compare the rows of a batch with one another, so their batches are neither
padded nor taken apart; what is compared are logits, since features do not cross the wire, and a batch of 16
rows or more is wanted: of two, correlations are 1 or -1 whatever the values. All are 0 where student and
teacher say the same, and for a single row where there is nothing to relate.
"""

import inspect
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

SMALL = 1e-7
F_ = TypeVar("F_", bound=Callable[..., Tensor])


def coupled(loss: F_) -> F_:
    """Mark a loss whose value for a row depends on the other rows of its batch.

    >>> is_coupled(coupled(lambda student, teacher, temperature: student.sum(-1)))
    True
    """
    loss.__dict__["coupled"] = True
    return loss


def is_coupled(loss: Callable[..., Tensor]) -> bool:
    """Say whether a loss is marked so."""
    return bool(getattr(loss, "coupled", False))


def looks_back(loss: Callable[..., Tensor]) -> bool:
    """Say whether a loss also reads what the model said before the phase: it has a parameter ``before``.

    >>> looks_back(class_relation), looks_back(dist)
    (True, False)
    """
    return "before" in reads(loss)


def reads(loss: Callable[..., Tensor]) -> tuple[str, ...]:
    """Return what a loss reads of each row beside student and teacher, of ``before``, ``held`` and ``noise``.

    >>> reads(class_relation), reads(dist)
    (('before', 'held'), ())
    """
    parameters = inspect.signature(loss).parameters
    return tuple(name for name in ("before", "held", "noise") if name in parameters)


@coupled
def class_relation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    before: Tensor,
    held: Tensor,
    weight: float = 1.0,
) -> Tensor:
    """T² (KL(teacher || student) + weight g / mean g KL(q || p)), q and p over the held classes alone.

    ``before`` [B, K]: the model's own logits of these rows before it was taught; ``held`` bool [B, K]: the
    classes that its party holds, the same in all rows. q is what it said before, p what it says now, both
    brought to sum one over held classes; g is what it gives these classes now, without a gradient, mean g
    over the batch. So a teacher moves a row between classes that are held and others, but hardly how held
    ones relate. Weight 0 is ``kl``; a party of one class has nothing to keep.

    Gu, Zhang, Xu, He 2023, "Class-relation Knowledge Distillation for Novel Class Discovery" (Cr-KD), ICCV,
    arXiv:2307.09158, where known classes are kept while novel ones are found.
    """
    target, p = (F.log_softmax(z / temperature, -1) for z in (teacher, student))
    lowest = torch.finfo(student.dtype).min / 4
    kept, now = (F.log_softmax((z / temperature).masked_fill(~held, lowest), -1) for z in (before, student))
    moved = (kept.exp() * (kept - now)).masked_fill(~held, 0).sum(-1)
    share = (p.detach().exp() * held).sum(-1)
    learned = (target.exp() * (target - p)).sum(-1)
    return temperature**2 * (learned + weight * share / share.mean().clamp_min(SMALL) * moved)


def logit_std(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² KL of logits that are brought to mean 0 and deviation 1 in each row, so that no scale is copied.

    Not for teachers that are probabilities near 0 and 1, whose scale is that of the clip. The official
    settings for CIFAR-100 are T = 2 and a weight of 9.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation", CVPR, arXiv:2403.01427.
    """
    target, p = (F.log_softmax(_standard(z) / temperature, -1) for z in (teacher, student))
    return temperature**2 * (target.exp() * (target - p)).sum(-1)


@coupled
def dist(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² times (1 - correlation over a row's classes + 1 - correlation over a class's rows), in [0, 4 T²].

    The second is the mean over classes, the same for all rows.

    Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", NeurIPS, arXiv:2205.10536.
    """
    p, target = (F.softmax(z / temperature, -1) for z in (student, teacher))
    within = 1 - _correlation(p, target)
    between = (1 - _correlation(p.T, target.T)).mean()
    return temperature**2 * (within + (between if len(p) > 1 else 0.0))


@coupled
def pkt(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of a row's shares of similarity (cosine + 1)/2, over the batch size; ignores T.

    Passalis, Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV,
    arXiv:1803.10837.
    """
    shares = []
    for z in (student, teacher):
        alike = (_cosines(z) + 1) / 2
        shares.append(alike / alike.sum(1, keepdim=True))
    p, target = shares
    return (target * ((target + SMALL) / (p + SMALL)).log()).sum(1) / len(p)


@coupled
def spkd(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Squared distance of Gram matrices' rows, brought to length 1, over the batch's size; ignores T.

    Tung, Mori 2019, "Similarity-Preserving Knowledge Distillation", ICCV, arXiv:1907.09682.
    """
    ours, theirs = (F.normalize(z @ z.T, dim=1) for z in (student, teacher))
    return (ours - theirs).square().sum(1) / len(ours)


@coupled
def rkd(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Huber loss of distances between rows over their mean, and twice that of angles at each row; ignores T.

    Park et al. 2019, "Relational Knowledge Distillation", CVPR, arXiv:1904.05068. Cubic in the batch.
    """
    if len(student) < 2:
        return (student - student).sum(-1)
    far, angles = [], []
    for z in (student, teacher):
        apart = z.unsqueeze(0) - z.unsqueeze(1)
        square = apart.square().sum(-1)
        distance = torch.where(square > 0, square.clamp_min(SMALL**2).sqrt(), 0.0)
        far.append(distance / distance.sum().div(len(z) * (len(z) - 1)).clamp_min(SMALL))
        unit = apart / distance.clamp_min(SMALL).unsqueeze(-1)
        angles.append(unit @ unit.transpose(1, 2))
    by_distance = F.smooth_l1_loss(far[0], far[1], reduction="none").mean(1)
    return by_distance + 2 * F.smooth_l1_loss(angles[0], angles[1], reduction="none").mean((1, 2))


@coupled
def skd_direction(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mahalanobis length of each row of the difference of cosine matrices; ignores T.

    The covariance is that of the difference itself, taken as it stands, plus 0.1 on its diagonal. As in
    torchdistill, https://github.com/yoshitomo-matsubara/torchdistill, there called SKD.
    """
    apart = _cosines(student) - _cosines(teacher)
    centred = apart - apart.mean(0)
    spread = centred.T @ centred / max(len(apart) - 1, 1)
    spread = spread + 0.1 * torch.eye(len(apart), dtype=apart.dtype, device=apart.device)
    length = (apart * torch.linalg.solve(spread.detach(), apart.T).T).sum(1).clamp_min(0)
    return torch.where(length > 0, length.clamp_min(SMALL**2).sqrt(), 0.0)


@coupled
def row_graph(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, *, neighbours: int = 8, sigma: float = 1.0
) -> Tensor:
    """KL(student || teacher) of each row's softmax over its edges in the graph of nearest rows; ignores T.

    An edge from i to j weighs exp(-|z_i - z_j|²/(2 sigma)) where i is one of j's nearest rows, else 0. The
    direction is the published one.

    TRG, arXiv:2306.12442, its local term, with rows of the batch for nodes; k and sigma are not published.
    """
    logs = []
    for z in (student, teacher):
        square = (z.unsqueeze(0) - z.unsqueeze(1)).square().sum(-1)
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        order = square.detach().masked_fill(itself, torch.inf).argsort(dim=0, stable=True)
        near = torch.zeros_like(itself).scatter(0, order[: min(neighbours, len(z) - 1)], True)
        edges = torch.where(near, (-square / (2 * sigma)).exp(), 0.0)
        logs.append(F.log_softmax(edges, 1))
    p, target = logs
    return (p.exp() * (p - target)).sum(1)


def _standard(z: Tensor) -> Tensor:
    centred = z - z.mean(-1, keepdim=True)
    square = centred.square().sum(-1, keepdim=True) / (z.shape[-1] - 1)
    return centred / ((square + 1e-20).sqrt() + SMALL)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row of two tensors [n, d]."""
    a, b = (z - z.mean(-1, keepdim=True) for z in (a, b))
    length: Tensor = torch.linalg.vector_norm(a, dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    return (a * b).sum(-1) / length.clamp_min(1e-8)


def _cosines(z: Tensor) -> Tensor:
    unit = F.normalize(z, dim=1, eps=SMALL)
    return unit @ unit.T
