"""The partition of federated distillation's first paper: each client has next to no rows of a few classes.

Jeong et al. 2018, arXiv 1811.11479, section 3: a device holds random rows, but of its *target* labels, drawn
at random, only a handful.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.labels import Labels

if TYPE_CHECKING:
    from fedkt.scenario import Partition


def scarce(labels: Labels, spec: "Partition", rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Deal ``samples_per_client`` rows to each of ``clients``, then drop most of those of its target labels.

    ``classes_per_client`` labels of each client keep ``shots`` rows. Before that, rows are dealt without
    repetition, as many to each as there are if they are too few.
    """
    clients = spec.clients or 1
    each = min(spec.samples_per_client or len(labels), len(labels) // clients)
    order = rng.permutation(len(labels))
    classes = np.unique(labels)
    parts = []
    for k in range(clients):
        rows = order[k * each : (k + 1) * each]
        few = rng.choice(classes, min(spec.classes_per_client, len(classes)), replace=False)
        kept = [rows[~np.isin(labels[rows], few)]]
        kept += [rows[labels[rows] == label][: spec.shots] for label in few]
        parts.append(np.concatenate(kept))
    return parts
