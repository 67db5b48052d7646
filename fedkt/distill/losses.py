"""Distillation from a teacher's scores: entry points ``fedkt.losses``.

All have one signature, ``loss(student, teacher, temperature) -> [B]``, one value per row; the engine takes
the mean over rows, which may leave some out:

``student``, ``teacher``
    logits [B, K] of the same rows; gradients are for the student, so detach a teacher that has some.
``temperature``
    T > 0, divides logits before the softmax: above 1 flattens, below 1 sharpens. Losses on the logits
    themselves (mse, mae) ignore it.

Each value depends on its own row alone. A teacher that is given as probabilities p is passed as
:func:`as_logits` makes it, T log(max(p, 1e-8)), so that softmax(teacher/T) is p again. Factors T² keep
gradients of about one size where logits are small beside T (Hinton et al.), not for models that are sure:
with a teacher's logits (10, 0) and a student's (0, 0) the gradient of kl, T (sigmoid(10/T) - 1/2), is 0.50
at T = 1, 1.70 at 4, 2.31 at 10 and 2.5 in the limit. So a learning rate
that suits one T need not suit another.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_PROBABILITY = 1e-8


class Loss(Protocol):
    """A distillation loss: (student [B, K], teacher [B, K], temperature) to one value per row [B]."""

    def __call__(self, student: Tensor, teacher: Tensor, temperature: float, /) -> Tensor: ...


def kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² KL(softmax(teacher/T) || softmax(student/T)).

    Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
    """
    return temperature**2 * _kl(_log_p(teacher, temperature), _log_p(student, temperature))


def ce(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of softmax(student) to softmax(teacher/T): T shapes the target only, hence no T².

    Itahara et al. 2020, "Distillation-Based Semi-Supervised Federated Learning", arXiv:2008.06180 (DS-FL).
    """
    return -(F.softmax(teacher / temperature, -1) * F.log_softmax(student, -1)).sum(-1)


def mse(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over classes of (student - teacher)² of logits; ignores T.

    Ba, Caruana 2014, "Do Deep Nets Really Need to be Deep?", arXiv:1312.6184 (there half of the sum
    over classes). Wants a teacher's logits: those made of probabilities are right only up to a constant.
    """
    return (student - teacher).square().mean(-1)


def mae(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over classes of |student - teacher| of logits; ignores T.

    Li, Wang 2019, "FedMD", arXiv:1910.03581 (the loss of its code). As with mse, for a teacher's logits.
    """
    return (student - teacher).abs().mean(-1)


def mse_prob(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over classes of (softmax(student/T) - softmax(teacher/T))², in [0, 2/K].

    Brier 1950, "Verification of forecasts expressed in terms of probability", Mon. Weather Rev. 78 (there
    the sum over classes), with the teacher as outcome.
    """
    difference = F.softmax(student / temperature, -1) - F.softmax(teacher / temperature, -1)
    return difference.square().mean(-1)


def dkd(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    target: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Decoupled distillation: T² (alpha TCKD + beta NCKD), for K >= 2.

    TCKD: KL between (p_t, 1-p_t) of teacher and student, t the target class; NCKD: KL between their
    distributions over the other classes (0 for K = 2). Plain KL is alpha = 1, beta = 1 - teacher's p_t.
    ``target``: int64 [B], the labels; None, as for unlabelled rows, takes the teacher's largest score (the
    first of equal ones). ``alpha``, ``beta`` >= 0: the defaults are those of the authors' code, with which
    go T = 4 and a beta tuned for each pair of models.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", arXiv:2203.08679.
    """
    t = teacher.argmax(-1) if target is None else target
    is_target = t.unsqueeze(-1) == torch.arange(teacher.shape[-1], device=teacher.device)
    parts = [_decouple(_log_p(scores, temperature), is_target) for scores in (teacher, student)]
    (teacher_binary, teacher_others), (student_binary, student_others) = parts
    tckd, nckd = _kl(teacher_binary, student_binary), _kl(teacher_others, student_others)
    return temperature**2 * (alpha * tckd + beta * nckd)


def as_logits(probabilities: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the logits T log(max(p, 1e-8)) of probabilities [..., K]: softmax(logits/T) is p again."""
    return temperature * probabilities.clamp(min=SMALLEST_PROBABILITY).log()


def _log_p(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, -1)


def _kl(log_target: Tensor, log_p: Tensor) -> Tensor:
    """KL(target || p) [B] from logarithms [B, K]."""
    return (log_target.exp() * (log_target - log_p)).sum(-1)


def _decouple(log_p: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Split log-probabilities [B, K] into those of (target, not target) [B, 2] and of the others [B, K].

    The others' entry for the target is finite and so low that its probability is 0: minus infinity would
    give 0 times infinity. 1-p_t is summed over the others, since the difference is 0 for a sure model.
    """
    lowest = torch.finfo(log_p.dtype).min / 4
    target = log_p.masked_fill(~is_target, 0).sum(-1)
    others = log_p.masked_fill(is_target, lowest)
    rest = others.logsumexp(-1)
    return torch.stack([target, rest], -1), others - rest.unsqueeze(-1)
