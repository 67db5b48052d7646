"""Swing distillation: where a target looks private, it is flattened and drowned in noise before it teaches.

Li, Wu, Dong, Wu, Bian, Xiong 2022, "Swing Distillation: A Privacy-Preserving Knowledge Distillation
Framework", arXiv 2212.08349: tokens get temperatures of their own, by how likely it is that private
information stands there, and noise is added to soft targets.

What differs from the paper, whose formulas could not be read: what looks private is what a teacher is sure of
and the student would never have thought, KL(teacher || student) beyond :data:`FROM` nats. A language model
that remembers a number that nobody else knows tells 2.3 nats or more at each digit; of the next byte of
ordinary text one model tells another less than one nat, once both can write. It is neither a theorem nor
differential privacy: whoever sees the targets sees all, and only what is learned of them forgets. ``fedkt
audit`` measures how much (exposure: :mod:`fedkt.privacy.attacks.exposure`).
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkt.distill.losses import SMALLEST_PROBABILITY, kl

FROM, TO = 1.0, 2.0
"""Nats that a target tells beyond what the student believed: to look private at all, and wholly."""
STRENGTH = 9.0
"""By how many times a target's temperature rises where it looks wholly private."""
SCALE = 0.02
"""Of the noise, as a probability, where it looks wholly private."""


def swing(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 1.0,
    *,
    before: Tensor,
    noise: Tensor,
    strength: float = STRENGTH,
    scale: float = SCALE,
) -> Tensor:
    """T² KL of softmax(student/T) to the target as :func:`shielded` leaves it.

    ``before`` [B, K]: the student's own logits of these rows before it was taught; ``noise`` [B, K]: standard
    Laplace noise (:func:`laplace`) that stays the same as long as the target does: noise that is drawn anew
    at each step averages out.
    """
    log_p = shielded(teacher / temperature, before / temperature, noise, strength, scale)
    return kl(student, temperature * log_p, temperature)


def private_looking(teacher: Tensor, before: Tensor) -> Tensor:
    """Return how private each target looks [...], in 0 to 1; of logits [..., K] of teacher and student.

    >>> sure, other = torch.tensor([[0.98, 0.01, 0.01]]).log(), torch.tensor([[0.1, 0.8, 0.1]]).log()
    >>> round(private_looking(sure, other).item(), 4)  # KL .98 ln 9.8 - .01 ln 80 - .01 ln 10 = 2.1699
    1.0
    """
    log_p, log_q = F.log_softmax(teacher, -1), F.log_softmax(before, -1)
    told = (log_p.exp() * (log_p - log_q)).sum(-1)
    return ((told - FROM) / (TO - FROM)).clamp(0, 1)


def shielded(
    teacher: Tensor, before: Tensor, noise: Tensor, strength: float = STRENGTH, scale: float = SCALE
) -> Tensor:
    """Return log-probabilities [..., K] of a target at temperature 1 + ``strength`` s, plus noise.

    Of ``scale`` s times ``noise`` [..., K]; s is how private it looks (:func:`private_looking`);
    probabilities below 0 are none, and all are brought to sum to one again. Where s is 0 it is the target
    itself.
    """
    private = private_looking(teacher, before).unsqueeze(-1)
    flat = F.softmax(teacher / (1 + strength * private), -1)
    noisy = (flat + scale * private * noise).clamp_min(SMALLEST_PROBABILITY)
    return (noisy / noisy.sum(-1, keepdim=True)).log()


def laplace(*shape: int) -> Tensor:
    """Return standard Laplace noise, from the operating system's entropy and never from a seed."""
    drawn = np.random.default_rng().laplace(size=shape).astype(np.float32)
    return torch.from_numpy(drawn)
