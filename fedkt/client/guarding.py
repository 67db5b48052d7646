"""Whether learning from a teacher cost a client more than chance explains (``clients.guard``)."""

import math

from torch import Tensor


def costly(before: Tensor, after: Tensor) -> bool:
    """Say whether a client's predictions became worse by more than one standard error.

    ``before``, ``after`` bool [n]: which of the same held-out rows it predicts rightly. The error is that of
    the mean difference between pairs: two of six rows lost and none won is a mean of -1/3 at an error of
    0.21, one of six -1/6 at 1/6, which is not more. A single row shows nothing.
    """
    n = len(before)
    if n < 2:
        return False
    difference = after.double() - before.double()
    error = difference.std().item() / math.sqrt(n)
    return -difference.mean().item() > error + 1e-9
