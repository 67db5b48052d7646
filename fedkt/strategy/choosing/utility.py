"""What a transfer row is worth asking about, by what clients and teachers said of it: larger is asked sooner.

The two halves of a selection, a utility and a mechanism that picks by it, are those of Albalak et al. 2024,
"A survey on data selection for language models", arXiv:2402.16827.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def entropy(probabilities: Tensor) -> Tensor:
    """Return how uncertain each row of probabilities [..., rows, classes] is, in nats."""
    found: Tensor = -torch.special.xlogy(probabilities, probabilities).sum(-1)
    return found


def margin(probabilities: Tensor) -> Tensor:
    """Return one minus the distance of the two largest of each row of probabilities [..., rows, classes]."""
    top = probabilities.topk(2, dim=-1).values
    found: Tensor = 1.0 - (top[..., 0] - top[..., 1])
    return found


def disagreement(probabilities: Tensor) -> Tensor:
    """Return how much clients contradict one another about each row, [clients, rows, classes] to [rows].

    H(mean) - mean H in nats, over the clients that said anything of the row (who left it out sent zeros): the
    Jensen-Shannon divergence, which is Houlsby et al. 2011, "Bayesian active learning for classification",
    arXiv:1112.5745, with clients as the models. 0 where all say the same, be they sure or not; at most the
    logarithm of the number of clients, and of classes.
    """
    spoke, count = _spoke(probabilities)
    mean = probabilities.sum(0) / count[:, None]
    apart = entropy(mean) - (entropy(probabilities) * spoke).sum(0) / count
    return apart.clamp(min=0.0)  # rounding


def gap(probabilities: Tensor, teacher: Tensor) -> Tensor:
    """Return how far clients [clients, rows, classes] are from their teacher [clients or 1, rows, classes],
    [rows].

    KL(teacher || client) in nats, the mean over clients that said anything of the row: CoMD's choice of rows
    on which there is most to learn.
    """
    spoke, count = _spoke(probabilities)
    said = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    apart = (torch.special.xlogy(teacher, teacher) - teacher * said).sum(-1)
    found: Tensor = (apart * spoke).sum(0) / count
    return found


def _spoke(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return which clients said anything of a row [clients, rows], and how many did, at least 1 [rows]."""
    spoke = (probabilities.sum(-1) > 0).to(probabilities.dtype)
    return spoke, spoke.sum(0).clamp(min=1)


@dataclass(frozen=True)
class Utility:
    """``of``: answers [clients, rows, classes] and teachers [teachers, rows, classes] to values [rows];
    ``answers``, ``teachers``: which of the two it looks at."""

    of: Callable[[Tensor, Tensor], Tensor]
    answers: bool = False
    teachers: bool = False


UTILITIES: dict[str, Utility] = {
    "random": Utility(lambda answers, teachers: torch.zeros(0)),
    "entropy": Utility(lambda answers, teachers: entropy(teachers).mean(0), teachers=True),
    "margin": Utility(lambda answers, teachers: margin(teachers).mean(0), teachers=True),
    "sure": Utility(lambda answers, teachers: -entropy(teachers).mean(0), teachers=True),
    "disagreement": Utility(lambda answers, teachers: disagreement(answers), answers=True),
    "gap": Utility(gap, answers=True, teachers=True),
}
