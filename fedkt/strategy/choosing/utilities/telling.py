"""How much the answer tells which row it is about."""

import torch
from torch import Tensor

from fedkt.strategy.choosing.utilities.said import spoke


def telling(probabilities: Tensor) -> Tensor:
    """Return what each row adds to the information of row and answer, [clients, rows, classes] to [rows].

    KL(answer || the client's mean answer over these rows) in nats, the mean over clients that said anything
    of the row; from 0 to ln of rows. Its mean over rows is what an audition ranks sets by
    (:func:`fedkt.strategy.choosing.audition.information`), row by row: nothing where a client says the same
    of all rows or is in doubt, as of noise and of other domains, most where it is sure of a seldom class.
    """
    there, count = spoke(probabilities)
    usual = probabilities.sum(1) / there.sum(1).clamp(min=1)[:, None]
    usual = usual.clamp(min=torch.finfo(probabilities.dtype).tiny)[:, None]
    apart = torch.special.xlogy(probabilities, probabilities) - torch.special.xlogy(probabilities, usual)
    found: Tensor = (apart.sum(-1) * there).sum(0) / count
    return found.clamp(min=0.0)  # rounding
