"""How seldom the class is, of which a row is taken to be."""

import torch
from torch import Tensor


def rare(teachers: Tensor) -> Tensor:
    """Return the surprise of each row's class in nats, [teachers, rows, classes] to [rows].

    - sum over classes of mean teacher * ln(share of the class over these rows): classes that these rows have
    little of are asked about more, a balance of classes. ln of classes where all are alike.
    """
    said = teachers.mean(0)
    share = said.mean(0)
    found: Tensor = -torch.special.xlogy(said, share.clamp(min=torch.finfo(said.dtype).tiny)).sum(-1)
    return found
