"""FedAvg, for contrast: clients share their weights, the server averages them.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv 1602.05629, algorithm 1.
"""

from fedkt.strategy.averaging import WeightAveraging
from fedkt.tasks import EVERY


class FedAvg(WeightAveraging):
    """Average the clients' weights by their numbers of rows."""

    tasks = EVERY
