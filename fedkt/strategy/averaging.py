"""Averaging of weights, shared by the strategies that are kept for contrast.

The mean is Flower's own (``flwr.serverapp.strategy``); what differs is that clients are sampled by
fedkt's seeded sampling and that every reply was validated before.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from torch import Tensor

from fedkt import models
from fedkt.client import shared_weights as weights
from fedkt.client.training import one_thread, predict, seeded
from fedkt.knowledge.contributions import Contributions
from fedkt.knowledge.kinds import Weights
from fedkt.models import Net
from fedkt.rng import seed_of
from fedkt.strategy.base import Shares, Strategy, StrategyConfig
from fedkt.strategy.fusing.fusion import Fused
from fedkt.strategy.rounds.given import Setting


class WeightAveraging(Strategy):
    """One model for all clients of an architecture: the mean of theirs, weighted by their numbers of rows."""

    shares: ClassVar[tuple[Shares, ...]] = ("weights",)
    client = "weights"
    reads_distill = frozenset()
    one_model = True
    takes_mean = False

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        self._of = setting.models
        super().__init__(config, setting)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Clients train freely between the rounds."""
        return {"trains": True, "proximal": 0.0}

    def initial(self) -> Fused:
        """Return one initial model for each architecture."""
        groups = self.alike(list(self._of))
        return self.taught({name: weights.teacher(self.net(each[0])) for name, each in groups.items()})

    def fuse(self, contributions: Contributions) -> Fused:
        """Average with Flower's weighted mean."""
        return self.taught(self.averages(contributions))

    def serve(self, x: Tensor) -> Tensor | None:
        """Return the logits [n, classes] of the one model for all, None where there are several."""
        common = self.teachers.of("")
        if common is None:
            return None
        with one_thread():
            return predict(self.net(next(iter(self._of)), common), x)[1]

    # For the methods that do more with the models ------------------------------------------------

    def alike(self, clients: Sequence[str]) -> dict[str, list[str]]:
        """Return these clients by architecture, in the order of the scenario's clients."""
        groups: dict[str, list[str]] = {}
        for client in sorted(clients, key=list(self._of).index):
            groups.setdefault(repr(self._of[client]), []).append(client)
        return groups

    def net(self, client: str, arrays: Mapping[str, Tensor] | None = None) -> Net:
        """Return a model of this client's architecture: with the weights in ``arrays``, or initial ones."""
        seed, classes = seed_of(self.setting.seed, "model", "server"), self.setting.dims[client].classes
        net = models.build(self._of[client], self.setting.input, classes, seed)
        with seeded(seed_of(seed, "attached")):
            self.behaviour.attach(net, net.width)
        if arrays is not None:
            net.load_state_dict(weights.parameters(arrays), strict=False)
        return net

    def predictions(self, contributions: Contributions, x: Tensor) -> dict[str, Tensor]:
        """Return the logits [rows, classes] of each contributor's model on ``x`` [rows, ...], by name."""
        held = contributions.by_name()
        with one_thread():
            return {c: predict(self.net(c, held.of(c)), x)[1] for c in held.clients}

    def averages(self, contributions: Contributions) -> dict[str, dict[str, Tensor]]:
        """Return the mean model of each architecture that contributed, and the rows behind it."""
        found = {}
        for name, clients in self.alike(contributions.clients).items():
            arrays = contributions.among(clients).arrays
            found[name] = weighted_mean(arrays) | {"examples": arrays["examples"].sum().int()}
        return found

    def taught(self, teachers: Mapping[str, Mapping[str, Tensor]]) -> Fused:
        """Return teachers by architecture as those of all its clients."""
        groups = self.alike(list(self._of))
        if len(groups) == 1:
            return Fused(next(iter(teachers.values())))
        return Fused(by_client={c: teachers[name] for name in teachers for c in groups[name]})


def weighted_mean(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of the weights [clients, ...] by name, weighted by ``examples`` [clients]."""
    names = [name for name in arrays if name.startswith(Weights.PREFIX)]
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
