"""COMET (PerFed-CKT): clients are clustered by what they predict and learn from the closest cluster.

Cho et al. 2021, "Personalized Federated Learning for Heterogeneous Clients with Clustered Knowledge
Transfer" (PerFed-CKT), arXiv 2109.08119; 2023 as "Communication-Efficient and Model-Heterogeneous
Personalized Federated Learning via Clustered Knowledge Transfer" (COMET), IEEE JSTSP.

What differs from the paper: its full text could not be read here; known are the abstract and the steps.

1. There all centroids go to every client, which takes the one closest to its own prediction. The server
   has that prediction, so it chooses and sends that one alone: the same teacher, 1/clusters of the bytes.
2. A client is clustered by its whole matrix of predictions (Euclidean distance), not row by row.
3. Distillation follows training instead of being a second term of its loss, as for every method here.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt.rng import seed_of
from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig
from fedkt.strategy.fusing.robust import weighted_mean
from fedkt.tasks import EVERY

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

STARTS = 10
"""k-means starts from this many seeded places and keeps the tightest clusters."""


class CometConfig(StrategyConfig):
    """Settings of COMET."""

    clusters: int = Field(2, ge=1)
    """Number of clusters, at most that of clients; 1 teaches everybody the mean, as FedMD does."""
    exchange: Literal["logits", "probabilities"] = "logits"
    """What is exchanged and clustered; the paper's are logits."""


class Comet(Strategy):
    """Give each client the mean prediction of those that predict alike."""

    tasks = EVERY
    client = "logits"
    needs_transfer = True
    default_loss = "mse"
    Config = CometConfig
    config: CometConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Tell the client what to send."""
        return {"form": config.exchange}

    @classmethod
    def problems(cls, config: Any, scenario: "Scenario", clients: int) -> list[str]:
        """Refuse more clusters than clients."""
        if config.clusters <= clients:
            return []
        return [
            f"strategy.clusters is {config.clusters}, but there are {clients} clients; "
            "it must be at most their number."
        ]

    def fuse(self, contributions: Contributions) -> Fused:
        """Cluster the clients that are there; teach each the centroid that is closest to it."""
        ordered, seed = contributions.by_name().values, seed_of(self.setting.seed, "clusters")
        centres = centroids(ordered, self.config.clusters, seed, self.centre)
        chosen = closest(contributions.values, centres)
        report = {"clients": list(contributions.clients), "cluster": chosen.tolist()}
        return Fused({"values": centres[chosen]}, personal=True, report=report)


def centroids(
    values: Tensor, clusters: int, seed: int, centre: Callable[[Tensor, Tensor], Tensor] = weighted_mean
) -> Tensor:
    """Return the means (or ``centre``) [k, rows, classes] of the k-means clusters of ``values``.

    ``values`` [clients, rows, classes]; k is ``clusters``, or less where there are fewer different clients.
    """
    from sklearn.cluster import KMeans  # takes a second to import

    flat = values.flatten(1).double()
    k = min(clusters, len(flat.unique(dim=0)))
    found = KMeans(k, n_init=STARTS, random_state=seed % 2**32).fit(flat.numpy())
    member = torch.nn.functional.one_hot(torch.from_numpy(found.labels_).long(), k)
    return torch.stack([centre(values.double(), own) for own in member.T]).to(values.dtype)


def closest(values: Tensor, centres: Tensor) -> Tensor:
    """Return for each client [clients] the closest of ``centres`` [k, rows, classes], by its ``values``."""
    return torch.cdist(values.flatten(1).double(), centres.flatten(1).double()).argmin(-1)
