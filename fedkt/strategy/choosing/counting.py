"""What the clients' censuses say of each transfer row, at the server."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.data.content.census import centres, nearest


class Census:
    """``seed``: the scenario's, from which every party has the same groups."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.by_client: dict[str, Tensor] = {}
        """Counts [groups] of each client that was heard; one that says them again is not counted twice."""

    def hear(self, clients: tuple[str, ...], counts: Tensor) -> None:
        """Take in the counts [clients, groups] of these clients."""
        self.by_client |= dict(zip(clients, counts, strict=True))

    def worth(self, features: NDArray[np.float64]) -> Tensor:
        """Return what each transfer row [total, d] is worth [total]: private rows in its group for each
        transfer row that is there."""
        rows = torch.from_numpy(features)
        group = nearest(rows, rows[centres(len(rows), self._seed)])
        there = torch.stack(list(self.by_client.values())).sum(0).double()
        return (there / torch.bincount(group, minlength=len(there)))[group]
