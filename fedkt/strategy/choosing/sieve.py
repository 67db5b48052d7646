"""Rows that teachers find typical of a class are kept, the rest are not talked about again.

The filter of Wang et al. 2024, "Trans-LoRA: Towards data-free transferable parameter efficient finetuning",
arXiv:2405.17258, whose discriminator keeps made rows that look like those of the task. What differs: theirs
is trained on private rows, so that its verdicts would be a release; here the teachers, which are there
anyway, say how sure they are of a row, and each class has its turn.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.strategy.choosing import picking
from fedkt.strategy.choosing.audition import MOST_ROUNDS, TELLING, information


def typical(said: Tensor, count: int) -> NDArray[np.int64]:
    """Return ``count`` places of teachers' mean predictions [rows, classes], ascending: from each class in
    turn the row that is surest of it, among those of which it is the likeliest class."""
    sure, likeliest = said.double().max(-1)
    return np.sort(picking.strata(likeliest.numpy(), sure.numpy(), count))


class Sieve:
    """Keeps ``keep`` of all rows, as soon as the teachers can tell them apart or after three rounds."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self.rounds = 0
        self.kept: Tensor | None = None
        """The rows that are kept, int64 [keep], None while all are asked about."""

    def hear(self, teachers: Tensor) -> None:
        """Take in what the teachers [teachers, rows, classes] say of all rows, and choose where they can."""
        self.rounds += 1
        if information(teachers) > TELLING or self.rounds >= MOST_ROUNDS:
            self.kept = torch.from_numpy(typical(teachers.mean(0), self._keep))
