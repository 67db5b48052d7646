"""Which transfer rows resemble a client's own: density ratios by kernels (KuLSIF).

Kanamori, Suzuki, Sugiyama 2012, "Statistical analysis of kernel-based least-squares density-ratio
estimation", Machine Learning 86 (KuLSIF); used for federated distillation by Shao, Wu, Zhang 2024,
"Selective knowledge sharing for privacy-preserving federated distillation without a good teacher", Nature
Communications 15 (Selective-FD), arXiv 2304.01731.
"""

import torch
from torch import Tensor

from fedkt.rng import torch_stream

HELD_OUT = 0.2
"""Share of the private rows on which the threshold is set."""


def familiar(
    x: Tensor, own: Tensor, y: Tensor, seed: int, client: str, *, width: float, noise: int, quantile: float
) -> Tensor:
    """Say for each row of ``x`` [n, ...] whether it may come from where the rows ``own`` [m, ...] come from.

    For each class of the labels ``y`` int64 [m] apart, as in the official code: the density of the client's
    rows of the class is compared with that of ``noise`` uniform rows over the range of its values, and a row
    is familiar if its ratio exceeds the ``quantile`` of those of held-out own rows of any class. bool [n].
    """
    flat, rows = x.flatten(1), own.flatten(1)
    low, high = rows.min(), rows.max()
    kept = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    for label in y.unique().tolist():
        stream = torch_stream(seed, "selector", client, label)
        of_class = rows[y == label]
        of_class = of_class[torch.randperm(len(of_class), generator=stream)]
        uniform = torch.rand(noise, rows.shape[1], generator=stream).to(rows.device)
        held = max(1, round(HELD_OUT * len(of_class)))
        fitted = of_class[held:] if len(of_class) > 1 else of_class
        ratio = KuLSIF(fitted, low + (high - low) * uniform, width, noise**-0.5)
        # A density is not below 0; where an estimate is, there is no evidence.
        kept |= ratio(flat) > ratio(of_class[:held]).quantile(quantile).clamp(min=0)
    return kept


class KuLSIF:
    """The ratio of two densities, known by rows of each: ``numerator`` [m, d] and ``denominator`` [n, d].

    With the Gaussian kernel k of this ``width`` and ridge lambda = ``strength``, the ratio at x is
    sum_i alpha_i k(x, denominator_i) + 1/(m lambda) sum_j k(x, numerator_j), where alpha solves
    (K/n + lambda I) alpha = -K' 1 / (n m lambda), K within the denominator's rows and K' from these to the
    numerator's. (The official code of Selective-FD multiplies by that matrix instead of solving.)
    """

    def __init__(self, numerator: Tensor, denominator: Tensor, width: float, strength: float) -> None:
        self.numerator, self.denominator, self.width = numerator, denominator, width
        m, n = len(numerator), len(denominator)
        self.weight = 1 / (m * strength)
        within, across = gaussian(denominator, denominator, width), gaussian(denominator, numerator, width)
        system = within / n + strength * torch.eye(n, dtype=within.dtype, device=within.device)
        self.alpha = -torch.linalg.solve(system, across.sum(1)) * self.weight / n

    def __call__(self, x: Tensor) -> Tensor:
        """Return the ratios [k] at rows [k, d]."""
        near = gaussian(x, self.denominator, self.width) @ self.alpha
        ratio: Tensor = near + self.weight * gaussian(x, self.numerator, self.width).sum(1)
        return ratio


def gaussian(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Return exp(-|a_i - b_j|² / (2 width²)) [n, m] of rows [n, d] and [m, d]."""
    kernel: Tensor = (-torch.cdist(a, b).square() / (2 * width**2)).exp()
    return kernel
