"""Logits moved by what somebody else has learned: arithmetic of log-probabilities, without any training.

Fan, Lu, Wei, Tian, Qu, Chen, Cheng 2024, "On Giant's Shoulders: Effortless Weak to Strong by Dynamic Logits
Fusion", NeurIPS 2024, arXiv 2406.15480. A large model's logits z are moved by what fine-tuning changed in
small experts: z + sum over experts t of alpha_t (z_t - z_S), z_S of the small model that they began as. alpha
is found anew for each row (there: each token that is written), so that the large model moves as far as the
experts did:

    (KL(P'||P) - a)² + (KL(P||P') - b)² is least, a = KL(Q_t||Q), b = KL(Q||Q_t),

P' and P the large model's distributions after and before, Q_t and Q an expert's and the small model's. With
several experts the paper sums over all of them, and moves by one at a time; that sum is least where the
squares about the means of a and b are. Rows are rows of data over their classes, or places of a text over the
next byte: over bytes the models' tokenizers may differ (:mod:`fedkt.language.marginals`).
"""

import torch
from torch import Tensor

TOP, STEP = 2.0, 0.1
"""The largest alpha that is tried, and how far apart they are: as in the paper."""


def shifted(
    large: Tensor, experts: Tensor, base: Tensor, top: float = TOP, step: float = STEP
) -> tuple[Tensor, Tensor]:
    """Return the large model's log-probabilities moved by the experts [..., K], and alpha [experts, ...].

    ``large`` [..., K], ``experts`` [experts, ..., K] and ``base``, one for all [..., K] or one each [experts,
    ..., K]: log-probabilities, or logits. At most one alpha of a row is above 0: of the expert that comes
    nearest, the first of equal ones.

    >>> log = lambda *p: torch.tensor(p, dtype=torch.float64).log()
    >>> moved, alpha = shifted(log(0.6, 0.1, 0.3), log([0.2, 0.7, 0.1]), log(0.5, 0.3, 0.2))
    >>> [round(p, 4) for p in moved.exp().tolist()], round(alpha.item(), 1)
    ([0.3293, 0.4555, 0.2152], 1.2)
    """
    large, base, experts = (z.log_softmax(-1) for z in (large, base, experts))
    base = base.expand_as(experts)
    away, back = divergence(experts, base).mean(0), divergence(base, experts).mean(0)
    found = [nearest(large, shift, away, back, top, step) for shift in experts - base]
    misses = torch.stack([miss for _, miss in found])
    first = torch.zeros_like(misses).scatter(0, misses.argmin(0, keepdim=True), 1.0)
    alpha = torch.stack([alpha for alpha, _ in found]) * first
    moved = large + (alpha.unsqueeze(-1) * (experts - base)).sum(0)
    return moved.log_softmax(-1), alpha


def nearest(
    z: Tensor, shift: Tensor, away: Tensor, back: Tensor, top: float, step: float
) -> tuple[Tensor, Tensor]:
    """Return for each row [...] the first best of alpha = 0, step, ..., top, and how far it misses.

    Best: (KL(P'||P) - away)² + (KL(P||P') - back)² is least, P = softmax(z), P' = softmax(z + alpha shift).
    ``z``, ``shift`` [..., K]; ``away``, ``back`` [...] in nats.
    """
    p = z.log_softmax(-1)
    best, least = torch.zeros_like(away), torch.full_like(away, torch.inf)
    for i in range(round(top / step) + 1):
        moved = (z + i * step * shift).log_softmax(-1)
        miss = (divergence(moved, p) - away).square() + (divergence(p, moved) - back).square()
        best = torch.where(miss < least, i * step, best)
        least = torch.minimum(miss, least)
    return best, least


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) [...] in nats, of log-probabilities [..., K]."""
    return (p.exp() * (p - q)).sum(-1)
