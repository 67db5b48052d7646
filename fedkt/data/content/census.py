"""How many of a client's rows lie near which transfer rows: the census of the row policy of that name.

DP4TL (Zhang et al. 2023, "Selectivity drives productivity: Efficient dataset pruning for enhanced transfer
learning", arXiv:2310.08782), feature mapping: groups of the public rows that hardly any private row is
nearest to are not worth asking about. What differs: there a group is a class of a labelled source, by its
mean feature; here it is the rows that are nearest to one of them, drawn from the scenario's seed, so that
every party has the same groups without labels or a common model. Counts of private rows are a release: in
mode ``dpsgd`` they get noise and are paid for, once a run.
"""

import numpy as np
import torch
from torch import Tensor

from fedkt.rng import numpy_stream

GROUPS = 50
"""Groups at most; there are five transfer rows for each at least, on average."""
BLOCK = 500
"""Rows whose distances are in memory at once."""


def groups_of(total: int) -> int:
    """Return the number of groups of so many transfer rows."""
    return max(1, min(GROUPS, total // 5))


def centres(total: int, seed: int) -> Tensor:
    """Return which of ``total`` transfer rows the groups lie around, int64 [groups], ascending."""
    drawn = numpy_stream(seed, "census").permutation(total)[: groups_of(total)]
    return torch.from_numpy(np.sort(drawn).astype(np.int64))


def nearest(rows: Tensor, around: Tensor) -> Tensor:
    """Return which row of ``around`` [groups, ...] each of ``rows`` [n, ...] is nearest to, int64 [n].

    By squared Euclidean distance of the numbers that models get; of equal ones the first.
    """
    flat, ends = rows.flatten(1).double(), around.flatten(1).double()
    squares = ends.square().sum(1)
    found = [(squares - 2 * part @ ends.T).argmin(1) for part in flat.split(BLOCK)]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.int64)


def counts(own: Tensor, transfer: Tensor, seed: int) -> Tensor:
    """Return how many of a client's rows [n, ...] are nearest to the centre of each group, int32 [groups].

    ``transfer`` [total, ...]: all transfer rows, as the client sees them. One row more or less changes one
    count by one.

    >>> transfer = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]] * 5)
    >>> counts(transfer[:2] + 1, transfer, seed=0).sum().item()
    2
    """
    around = transfer[centres(len(transfer), seed).to(transfer.device)]
    return torch.bincount(nearest(own, around), minlength=len(around)).to(torch.int32)
