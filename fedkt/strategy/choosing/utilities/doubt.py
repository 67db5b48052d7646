"""How uncertain predictions are."""

import torch
from torch import Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """Return how uncertain each row of probabilities [..., rows, classes] is, in nats, from 0 to ln classes.

    Uncertainty sampling: Lewis and Gale 1994, "A sequential algorithm for training text classifiers".
    """
    found: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(-1)
    return found
