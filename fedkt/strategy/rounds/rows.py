"""Which transfer rows a round asks for: a fresh sample, or those that the newest teachers doubt most."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.rng import numpy_stream

if TYPE_CHECKING:
    from fedkt.scenario.about_data import Transfer


class RowChoice:
    """Chooses by the scenario's policy; ``total``: rows of the transfer set.

    ``random``: a fresh seeded sample; ``entropy`` and ``margin``: the rows on which the newest fused teacher
    about them was least certain, averaged over clients where teachers are personal.
    """

    def __init__(self, transfer: "Transfer", total: int, seed: int) -> None:
        self._transfer, self._total, self._seed = transfer, total, seed
        self.doubt: Tensor | None = None
        """How uncertain the newest teachers are about each row [total]; None before the first score."""

    @property
    def by_doubt(self) -> bool:
        """Whether what teachers are unsure of decides."""
        return self._transfer.policy != "random"

    def choose(self, server_round: int) -> NDArray[np.int32] | None:
        """Return the rows to ask for, ascending (None: all)."""
        count = self._transfer.rows
        if count is None or count >= self._total:
            return None
        shuffled = numpy_stream(self._seed, "rows", server_round).permutation(self._total)
        if self.doubt is not None:
            # Ties, and rows that no teacher has spoken about, are taken in the shuffled order.
            shuffled = shuffled[np.argsort(-self.doubt.numpy()[shuffled], kind="stable")]
        return np.sort(shuffled[:count]).astype(np.int32)

    def score(self, rows: NDArray[np.int32] | None, teachers: Sequence[Tensor]) -> None:
        """Note how uncertain teachers [rows, classes], as probabilities, are about these rows, on average."""
        if self.doubt is None:
            # A row without a score is the most doubtful: no teacher has spoken about it yet.
            self.doubt = torch.full((self._total,), torch.inf)
        found = torch.stack([row_doubt(values, self._transfer.policy) for values in teachers]).mean(0)
        self.doubt[slice(None) if rows is None else torch.from_numpy(rows).long()] = found


def row_doubt(probabilities: Tensor, policy: str) -> Tensor:
    """Return how uncertain each row of probabilities [rows, classes] is; larger is less certain.

    ``entropy``: in nats; ``margin``: one minus the distance of the two largest probabilities.
    """
    if policy == "entropy":
        entropy: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(-1)
        return entropy
    top = probabilities.topk(2, dim=-1).values
    margin: Tensor = top[..., 0] - top[..., 1]
    return 1.0 - margin
