"""Distillation losses for several labels of one row: a Bernoulli distribution per label, not one over all.

Signature and conventions are those of :mod:`fedkt.distill.losses`; logits [B, L] are of one label each, and
sigmoid(logit / T) is its probability. The mean over labels is taken, as in training, so that values do not
grow with their number.
"""

from torch import Tensor
from torch.nn import functional as F

SMALLEST = 1e-6
"""Probabilities lie between this and one minus it where logits are made of them: ± 13.8 at T = 1."""


def bernoulli_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² times the mean over labels of KL(Bernoulli(p) || Bernoulli(q)), p of the teacher, q of the student.

    As Hinton et al. 2015, arXiv:1503.02531, label by label: "binary relevance" distillation, e.g. Yang et al.
    2023, "Multi-Label Knowledge Distillation", arXiv:2308.06453, equation 2.

    >>> import torch
    >>> even, sure = torch.zeros(1, 2), torch.tensor([[0.0, torch.log(torch.tensor(3.0))]])
    >>> bernoulli_kl(even, sure)  # (0 + .75 ln 1.5 + .25 ln .5) / 2
    tensor([0.0654])
    """
    t, s = teacher / temperature, student / temperature
    there = F.logsigmoid(t).exp() * (F.logsigmoid(t) - F.logsigmoid(s))
    gone = F.logsigmoid(-t).exp() * (F.logsigmoid(-t) - F.logsigmoid(-s))
    return temperature**2 * (there + gone).mean(-1)


def bernoulli_ce(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean over labels of the binary cross entropy of sigmoid(student) to sigmoid(teacher / T).

    As ``ce``, T shapes the target only.

    >>> import torch
    >>> bernoulli_ce(torch.zeros(1, 3), torch.tensor([[-2.0, 0.0, 2.0]]))  # ln 2, whatever the target
    tensor([0.6931])
    """
    target = (teacher / temperature).sigmoid()
    return F.binary_cross_entropy_with_logits(student, target, reduction="none").mean(-1)


def as_label_logits(probabilities: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T log(p / (1 - p)) of probabilities [..., L]: sigmoid(logits / T) is p again."""
    return temperature * probabilities.clamp(SMALLEST, 1 - SMALLEST).logit()
