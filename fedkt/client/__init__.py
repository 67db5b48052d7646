"""The client half of a method. ``behaviour`` is what an author reads; ``training`` runs what a behaviour
describes, ``state`` keeps a client's model between messages; the others hold what several behaviours share.

May import from ``data`` downwards. Begin with :class:`Client`, then read one file of ``clients/``.
"""

from fedkt.client.alone import Alone
from fedkt.client.behaviour import (
    Arrays,
    Client,
    Fit,
    Forward,
    Holding,
    Movable,
    RowLoss,
    Steps,
    classification,
    distillation,
    supervised,
    transfer_rows,
    tutored,
)
from fedkt.client.joint import beside
from fedkt.client.mean_features import class_counts, class_means

__all__ = [
    "Alone",
    "Arrays",
    "Client",
    "Fit",
    "Forward",
    "Holding",
    "Movable",
    "RowLoss",
    "Steps",
    "beside",
    "class_counts",
    "class_means",
    "classification",
    "distillation",
    "supervised",
    "transfer_rows",
    "tutored",
]
