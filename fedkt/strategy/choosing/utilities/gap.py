"""How far clients are from what they are taught."""

import torch
from torch import Tensor

from fedkt.strategy.choosing.utilities.said import spoke


def gap(probabilities: Tensor, teacher: Tensor) -> Tensor:
    """Return how far clients [clients, rows, classes] are from their teacher [clients or 1, rows, classes],
    [rows].

    KL(teacher || client) in nats, the mean over clients that said anything of the row: CoMD's choice of rows
    on which there is most to learn, and the survey's choice by loss.
    """
    there, count = spoke(probabilities)
    said = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    apart = (torch.special.xlogy(teacher, teacher) - teacher * said).sum(-1)
    found: Tensor = (apart * there).sum(0) / count
    return found
