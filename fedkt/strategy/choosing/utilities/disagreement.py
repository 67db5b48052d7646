"""How much clients contradict one another."""

from torch import Tensor

from fedkt.strategy.choosing.utilities.doubt import entropy
from fedkt.strategy.choosing.utilities.said import spoke


def disagreement(probabilities: Tensor) -> Tensor:
    """Return how much clients contradict one another about each row, [clients, rows, classes] to [rows].

    H(mean) - mean H in nats, over the clients that said anything of the row (who left it out sent zeros): the
    Jensen-Shannon divergence, which is Houlsby et al. 2011, "Bayesian active learning for classification",
    arXiv:1112.5745, with clients as the models. 0 where all say the same, be they sure or not; at most the
    logarithm of the number of clients, and of classes.
    """
    there, count = spoke(probabilities)
    mean = probabilities.sum(0) / count[:, None]
    apart = entropy(mean) - (entropy(probabilities) * there).sum(0) / count
    return apart.clamp(min=0.0)  # rounding
