"""Which of several sets to talk about: the one whose rows get the most different answers.

Nothing else is asked of a client than its predictions on a few rows of each set, and a choice among released
answers releases nothing more.
"""

import numpy as np
import torch
from torch import Tensor

from fedkt.scenario.about_data import HEARD
from fedkt.strategy.choosing.utilities.doubt import entropy

TELLING = 0.02
"""Mean information, in nats, below which models are too little trained to tell sets apart."""
MOST_ROUNDS = 3


def information(probabilities: Tensor) -> float:
    """Return the mutual information of row and answer, in nats, of probabilities [clients, rows, classes].

    The mean over clients of H(mean over rows) - mean over rows of H: 0 where all rows get one answer, at most
    the logarithm of the number of classes. Rows that a client left out, all zeros, do not count. It is a rule
    to choose by, never one to maximise: rows that are made to have much of it teach nothing.
    """
    found = []
    for client in probabilities:
        said = client[client.sum(-1) > 0]
        if len(said):
            found.append(float(entropy(said.mean(0)) - entropy(said).mean()))
    return max(0.0, float(np.mean(found))) if found else 0.0


class Audition:
    """``names`` of the sets, each of ``size`` rows one after another in the transfer set."""

    def __init__(self, names: list[str], size: int) -> None:
        self.names, self._size = names, size
        self.rounds = 0
        self.chosen: int | None = None
        self.heard: dict[str, float] = {}

    def rows(self, draws: np.random.Generator) -> np.ndarray:
        """Return some rows of each set, ascending."""
        count = min(HEARD, self._size)
        parts = [
            number * self._size + draws.choice(self._size, count, replace=False)
            for number in range(len(self.names))
        ]
        return np.sort(np.concatenate(parts)).astype(np.int32)

    def block(self) -> np.ndarray:
        """Return the rows of the chosen set."""
        assert self.chosen is not None
        return np.arange(self._size) + self.chosen * self._size

    def hear(self, rows: np.ndarray, probabilities: Tensor) -> None:
        """Take in what clients [clients, rows, classes] said of these rows, and choose where that tells
        enough."""
        set_of = torch.from_numpy(rows.astype(np.int64)) // self._size
        found = [information(probabilities[:, set_of == number]) for number in range(len(self.names))]
        self.heard = {name: round(value, 4) for name, value in zip(self.names, found, strict=True)}
        self.rounds += 1
        if np.mean(found) > TELLING or self.rounds >= MOST_ROUNDS:
            self.chosen = int(np.argmax(found))

    def report(self) -> dict[str, object]:
        """Return what a person may want to see: each set's information, and which was chosen."""
        return {"information": self.heard, "chosen": None if self.chosen is None else self.names[self.chosen]}
