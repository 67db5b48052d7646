"""How much a row's teacher changed since it was last spoken about."""

from torch import Tensor


def changing(teachers: Tensor, before: Tensor) -> Tensor:
    """Return the distance of the teachers' mean from what it was, [teachers, rows, classes] and
    [rows, classes] to [rows].

    Total variation, half of the sum of absolute differences, from 0 to 1: rows that are learned and forgotten
    over and over (Toneva et al. 2019, "An empirical study of example forgetting during deep neural network
    learning", arXiv:1812.05159), by how far instead of how often.
    """
    found: Tensor = (teachers.mean(0) - before).abs().sum(-1) / 2
    return found
