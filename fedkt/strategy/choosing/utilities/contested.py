"""Which part of the doubt about a row is that clients contradict one another."""

from torch import Tensor

from fedkt.strategy.choosing.utilities.disagreement import disagreement
from fedkt.strategy.choosing.utilities.doubt import entropy
from fedkt.strategy.choosing.utilities.said import spoke

LEAST = 1e-3
"""Doubt in nats below which a row is not contested, whatever its rounding says."""


def contested(probabilities: Tensor) -> Tensor:
    """Return the share of each row's uncertainty that is disagreement, [clients, rows, classes] to [rows].

    (H(mean) - mean H) / H(mean), from 0 to 1: the mutual information of answer and client over the whole
    uncertainty, so without a unit. Rows of another kind leave each client in doubt by itself, whatever their
    contradictions are in nats; of rows like its own each client is sure, so that what doubt there is lies
    between them.
    """
    _, count = spoke(probabilities)
    mean = probabilities.sum(0) / count[:, None]
    found: Tensor = disagreement(probabilities) / entropy(mean).clamp(min=LEAST)
    return found
