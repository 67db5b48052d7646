"""Losses that bring two domains together in one batch of both, from features with gradients.

``features`` [B, width]; ``source`` [B]: 1 for rows of the source domain, 0 for rows of the target domain.
"""

import torch
from torch import Tensor

KERNELS = 5
"""Gaussian kernels, each of twice the bandwidth of the one before."""


def reverse(features: Tensor, strength: Tensor) -> Tensor:
    """Return the features themselves, with gradients times minus ``strength`` [].

    Ganin, Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation", arXiv:1409.7495.
    """
    return (1 + strength) * features.detach() - strength * features


def mk_mmd(features: Tensor, source: Tensor) -> Tensor:
    """Return the squared multi-kernel MMD [] of both domains' features; 0 where one of them has no row.

    mean k(s, s') + mean k(t, t') - 2 mean k(s, t), with k the sum of 5 kernels
    exp(-|a - b|²/(m 2^i / 4)), i = 0..4, m the mean of |a - b|² over all pairs of different rows, as in
    FedKA's code. Long et al. 2015, "Learning Transferable Features with Deep Adaptation Networks",
    arXiv:1502.02791.
    """
    count = len(features)
    # Not cdist: its gradient at distance 0 is not a number.
    squared = (features.unsqueeze(0) - features.unsqueeze(1)).square().sum(-1)
    base = squared.detach().sum() / max(count * (count - 1), 1) / 4
    kernel = sum((-squared / (base * 2**i + 1e-12)).exp() for i in range(KERNELS))
    assert isinstance(kernel, Tensor)
    own, other = source.sum(), (1 - source).sum()
    weight = source / own.clamp(min=1) - (1 - source) / other.clamp(min=1)
    return (weight @ kernel @ weight) * (own > 0) * (other > 0)


def two_domains(scores: Tensor, source: Tensor) -> Tensor:
    """Return the cross entropy [B] of a domain classifier's ``scores`` [B], which are high for the target."""
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, 1 - source, reduction="none")
