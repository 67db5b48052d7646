"""Averaging of weights, shared by the strategies that are kept for contrast.

The mean is Flower's own (``flwr.serverapp.strategy``); what differs is that clients are sampled by
fedkt's seeded sampling and that every reply was validated before.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from torch import Tensor

from fedkt import models
from fedkt.knowledge import Weights
from fedkt.rng import seed_of
from fedkt.strategy import Contributions, Fused, Shares, Strategy


class WeightAveraging(Strategy):
    """One model for all clients: the mean of theirs, weighted by their numbers of rows."""

    shares: ClassVar[Shares] = "weights"
    client = "weights"
    one_model = True

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Clients train freely between the rounds."""
        return {"trains": True, "proximal": 0.0}

    def initial(self) -> dict[str, Tensor]:
        """Return one initial model for all."""
        scenario, dims = self.setting.scenario, next(iter(self.setting.dims.values()))
        model = models.deal(scenario.clients.models, 1, scenario.seed)[0]
        net = models.build(model, self.setting.input, dims.classes, seed_of(scenario.seed, "model", "server"))
        weights = {f"{Weights.PREFIX}{name}": p.detach() for name, p in net.named_parameters()}
        return weights | {"examples": torch.tensor(0, dtype=torch.int32)}

    def fuse(self, contributions: Contributions) -> Fused:
        """Average with Flower's weighted mean."""
        mean = weighted_mean(contributions.arrays)
        return Fused(mean | {"examples": contributions.arrays["examples"].sum().int()})


def weighted_mean(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of tensors [clients, ...] by name, weighted by ``examples`` [clients]."""
    names = [name for name in arrays if name != "examples"]
    records = [
        RecordDict(
            {
                "arrays": ArrayRecord({n: Array(arrays[n][i].numpy()) for n in names}),
                "metrics": MetricRecord({"num-examples": int(count)}),
            }
        )
        for i, count in enumerate(arrays["examples"].tolist())
    ]
    mean = aggregate_arrayrecords(records, "num-examples")
    return {name: torch.from_numpy(mean[name].numpy()).float() for name in names}
