"""Voting on rows without labels: what each client gives to a class, and which class wins."""

import torch
from torch import Tensor


def votes(classes: int, labels: Tensor, confidence: Tensor | None = None) -> Tensor:
    """Return what each client gives to each class of a row [clients, rows, classes], at most 1 in all.

    ``labels`` [clients, rows]; ``confidence`` [clients, rows] in [0, 1], or None: each vote counts 1.
    """
    cast = torch.nn.functional.one_hot(labels.long(), classes).float()
    return cast if confidence is None else cast * confidence.unsqueeze(-1)


def voted(shares: Tensor, threshold: float) -> Tensor:
    """Return the winning class of each row, int16 [rows]: -1 below the threshold and where several tie."""
    top, label = shares.max(-1)
    alone = (shares == top.unsqueeze(-1)).sum(-1) == 1
    return torch.where((top >= threshold) & alone, label, -1).to(torch.int16)
