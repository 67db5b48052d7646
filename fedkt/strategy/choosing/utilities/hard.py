"""How hard clients find a row about which they know something together."""

import math

import torch
from torch import Tensor

from fedkt.strategy.choosing.utilities.doubt import entropy
from fedkt.strategy.choosing.utilities.said import spoke

SENSIBLE = 0.9
"""A mean that is less sure than this share of the largest entropy tells nothing."""


def hard(answers: Tensor) -> Tensor:
    """Return KL(mean || client) in nats, its mean over clients [rows]; ``answers`` [clients, rows, classes].

    0 where the mean itself is not sensible, nearly uniform: a row that nobody knows is not hard but empty.
    """
    there, count = spoke(answers)
    mean = answers.sum(0) / count[:, None]
    said = answers.clamp(min=torch.finfo(answers.dtype).tiny).log()
    apart = (torch.special.xlogy(mean, mean) - mean * said).sum(-1)
    found = (apart * there).sum(0) / count
    return torch.where(entropy(mean) > SENSIBLE * math.log(mean.shape[-1]), 0.0, found)
