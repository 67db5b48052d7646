"""Which rows to have labelled where only so many labels can be paid for (``clients.adapt.budget``).

After Lyu et al. 2024, "Learn from the Learnt: Source-Free Active Domain Adaptation via Contrastive Sampling
and Visual Persistence" (LFTL), ECCV 2024, arXiv 2407.18899: a row is worth a label where the model is
undecided and goes on to be (what it says now, pushed on by what has changed since), and where its class is
not already common among the rows that the model is sure of.

What differs: both versions of the model are those of one round, before and after it was brought to the rows,
and what was labelled stays so; there is no training on visual persistence.
"""

import math

import torch
from torch import Tensor

PUSH = 0.03
"""By how much of its last change a prediction is pushed on."""
COMMON = 0.1
"""How much a row's class counts beside its margin."""
SURE = 500
"""Of how many of the surest rows classes are counted."""


def margins(now: Tensor, before: Tensor) -> Tensor:
    """Return how decided a model goes on to be about each row [n]: the difference of its two likeliest
    classes.

    ``now``, ``before`` [n, K]: probabilities; of the difference that will be.

    >>> now, before = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.6, 0.3, 0.1]])
    >>> margins(now, before)  # of (.497, .3, .203)
    tensor([0.1970])
    """
    likeliest = (now + PUSH * (now - before)).topk(2, -1).values
    found: Tensor = likeliest[:, 0] - likeliest[:, 1]
    return found


def worth(now: Tensor, before: Tensor) -> Tensor:
    """Return what decides about a label [n]; the smallest are asked for first.

    The margin over the largest one, plus a tenth of how common the row's likeliest class is among the
    :data:`SURE` surest rows, over the commonest one.
    """
    margin = margins(now, before)
    likeliest = now.argmax(-1)
    surest = likeliest[margin.topk(min(SURE, len(margin))).indices]
    counts = torch.bincount(surest, minlength=now.shape[1]).to(now.dtype)
    scaled: Tensor = margin / margin.max() + COMMON * (counts / counts.max())[likeliest]
    return scaled


def due(budget: int, round_: int, rounds: int) -> int:
    """Return how many labels may have been asked for after a round: as many in each, all before the last one.

    >>> [due(10, round_, 5) for round_ in range(1, 6)]
    [3, 5, 8, 10, 10]
    """
    return min(budget, math.ceil(budget * round_ / max(rounds - 1, 1)))
