"""How much each of several sets is talked about: the more, the farther clients are from their teacher there.

DDK (Liu et al. 2024, "DDK: Distilling domain knowledge for efficient large language models",
arXiv:2407.16154) samples domains by the discrepancy of student and teacher. What differs: there losses are
perplexities on text of each domain, here rows have no labels, so that the student's loss is the cross entropy
of clients' answers to the teacher and the teacher's its own entropy.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.strategy.choosing.utilities.doubt import entropy
from fedkt.strategy.choosing.utilities.said import spoke

MOST = 5.0
"""Largest ratio of losses that counts: a teacher that is quite sure has next to none."""
STEADY = 0.5
"""The part of the shares that all sets have alike."""


def cross_entropy(probabilities: Tensor, teacher: Tensor) -> Tensor:
    """Return - sum over classes of teacher * ln(client), in nats, the mean over the clients that spoke.

    Clients [clients, rows, classes], teacher [clients or 1, rows, classes], to [rows].
    """
    there, count = spoke(probabilities)
    said = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    found: Tensor = (-(teacher * said).sum(-1) * there).sum(0) / count
    return found


class Shares:
    """``sets`` sets of ``size`` rows each, one after another in the transfer set; at first alike."""

    def __init__(self, sets: int, size: int) -> None:
        self.sets, self._size = sets, size
        self.values: NDArray[np.float64] = np.full(sets, 1 / sets)
        """How much of a round each set has; they add up to 1."""
        self.ratios: NDArray[np.float64] = np.ones(sets)
        """The clients' loss over the teacher's on each set, when it was last asked about."""
        self.heard = False

    def hear(self, rows: NDArray[np.int32] | None, answers: Tensor, teachers: Tensor) -> None:
        """Take in what clients [clients, rows, classes] and teachers said of these rows (None: of all).

        r = exp(ratio)/sum at first, then r = (1 - STEADY) r exp(ratio)/sum + STEADY / sets (equations 2, 3).
        """
        there = np.arange(self.sets * self._size) if rows is None else rows
        set_of = torch.from_numpy(there.astype(np.int64)) // self._size
        lost, least = cross_entropy(answers, teachers), entropy(teachers).mean(0)
        for number in range(self.sets):
            mine = set_of == number
            if mine.any():
                mean, floor = float(lost[mine].mean()), float(least[mine].mean())
                self.ratios[number] = min(MOST, mean / floor) if floor > 0 else MOST
        grown = self.values * np.exp(self.ratios)
        grown /= grown.sum()
        self.values = (1 - STEADY) * grown + STEADY / self.sets if self.heard else grown
        self.heard = True

    def counts(self, count: int) -> NDArray[np.int64]:
        """Return how many of ``count`` rows each set gives, by the largest remainders, none more than it
        has."""
        wanted = np.minimum(self.values * count, self._size)
        found = np.floor(wanted + 1e-9).astype(np.int64)
        for number in np.argsort(-(wanted - found), kind="stable"):
            found[number] += min(1, self._size - found[number], max(0, count - found.sum()))
        for number in np.argsort(-self.values, kind="stable"):  # what sets that are used up leave
            found[number] += min(self._size - found[number], count - found.sum())
        return found

    def set_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which set each row [n] belongs to."""
        return rows // self._size
