"""Mean embeddings of features: fixed feature maps whose means can be exchanged and compared.

A map takes features [n, width], layer-normalised and scaled to length 1 (so that encoders of different
scale agree), to vectors of length at most 1. The mean over rows is a kernel mean embedding: a bounded
summary of the distribution, and the squared distance of two of them estimates the maximum mean
discrepancy (MMD) of the two sets of rows. One row of n moves it by at most 2/n.

``fourier``
    random Fourier features of Gaussian kernels exp(-|u-v|²/(2σ²)) of several bandwidths σ: the distance
    estimates the mean of their squared MMDs, the multi-kernel MMD. Rahimi and Recht 2007, "Random Features
    for Large-Scale Kernel Machines"; Gretton et al. 2012, "A Kernel Two-Sample Test", JMLR 13. Frequencies
    come from a public seed, the same everywhere.
``moments``
    u and the products u_i u_j: equal means are equal means and covariances (as in Sun, Saenko 2016, "Deep
    CORAL", arXiv:1607.01719).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fedkt.rng import numpy_stream

PUBLIC_SEED = 2203_11635
"""Of the frequencies: no secret, and no part of a scenario, so that every party has the same map."""

Kind = Literal["fourier", "moments"]


@dataclass(frozen=True)
class Embedding:
    """A map of features [n, width] to [n, size], each row of length at most 1.

    With ``fourier``: ``numbers`` per bandwidth (even: half cosines, half sines) and ``bandwidths`` σ > 0, in
    lengths of a unit vector (two rows are at most 2 apart). ``moments`` ignores both.
    """

    width: int
    kind: Kind = "fourier"
    numbers: int = 256
    bandwidths: tuple[float, ...] = (0.625, 1.25, 2.5)

    @property
    def size(self) -> int:
        """The length of an embedding."""
        if self.kind == "moments":
            return self.width + self.width * (self.width + 1) // 2
        return self.numbers * len(self.bandwidths)

    def __call__(self, features: Tensor) -> Tensor:
        """Return the embedding [n, size] of each row."""
        u = normalised(features)
        if self.kind == "moments":
            above, below = torch.triu_indices(self.width, self.width, device=u.device)
            # A product of two different features stands for itself and its mirror image.
            weight = torch.where(above == below, 1.0, math.sqrt(2)).to(u)
            return torch.cat([u, u[:, above] * u[:, below] * weight], -1) / math.sqrt(2)
        angles = u @ _there(self.width, self.numbers // 2, u.device, u.dtype)
        waves = [
            wave for sigma in self.bandwidths for wave in ((angles / sigma).cos(), (angles / sigma).sin())
        ]
        return torch.cat(waves, -1) / math.sqrt(self.size / 2)


@lru_cache(maxsize=8)
def frequencies(width: int, count: int) -> Tensor:
    """Return the public frequencies [width, count], standard normal, of a Gaussian kernel with σ = 1."""
    drawn = numpy_stream(PUBLIC_SEED, "fourier", width, count).standard_normal((width, count))
    return torch.from_numpy(drawn).float()


@lru_cache(maxsize=8)
def _there(width: int, count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the frequencies on a device, to which they go once."""
    return frequencies(width, count).to(device, dtype)


def normalised(features: Tensor) -> Tensor:
    """Return features [n, width], each row shifted to mean 0 and scaled to length 1 (or less, near 0)."""
    width = features.shape[-1]
    return F.layer_norm(features, (width,)) / math.sqrt(width)


def distance(embedded: Tensor, mask: Tensor, reference: Tensor) -> Tensor:
    """Return |mean of the masked rows - reference|² [], 0 where no row is masked.

    ``embedded`` [B, size], ``mask`` [B] of 0 and 1, ``reference`` [size]. In expectation over batches this is
    the squared distance of the whole mean plus the variance of a batch's mean.
    """
    count = mask.sum()
    mean = (embedded * mask.unsqueeze(-1)).sum(0) / count.clamp(min=1)
    return (mean - reference).square().sum() * (count > 0)


def relative(features: Tensor, anchors: Tensor) -> Tensor:
    """Return how much rows [n, width] resemble each of ``anchors`` [A, width]: cosines [n, A], in [-1, 1].

    Both less the anchors' mean feature. Cosines do not change where a model turns or scales its features, so
    those of unlike models, of any width, can be compared.

    Moschella et al. 2023, "Relative representations enable zero-shot latent space communication", ICLR,
    arXiv:2209.15430, there without a mean taken off.
    """
    mean = anchors.mean(0)
    return F.normalize(features - mean, dim=-1) @ F.normalize(anchors - mean, dim=-1).T
