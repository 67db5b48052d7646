"""All data pooled in one place: the upper bound of every comparison, in a simulation only.

One model per architecture is trained on the union of all clients' training rows, for as many epochs as
a client would train; each client then evaluates the model of its architecture.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from fedkt import models
from fedkt.client import Fit, Steps, supervised
from fedkt.client import shared_weights as weights
from fedkt.errors import InputError
from fedkt.rng import seed_of
from fedkt.strategy import Contributions, Fused, Setting, Shares, Strategy, StrategyConfig
from fedkt.strategy.fusing.server_model import Trained
from fedkt.tasks import EVERY


class Central(Strategy):
    """Train on everybody's data at once."""

    tasks = EVERY
    shares: ClassVar[tuple[Shares, ...]] = ("data",)
    client = "weights"
    reads_distill = frozenset()
    takes_mean = False

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        if setting.federation is None:
            raise InputError("strategy 'central' pools all data; it runs in a simulation only.")
        self.federation = setting.federation
        self._model_of = {client: repr(dealt) for client, dealt in setting.models.items()}
        seed = seed_of(setting.seed, "model", "central")
        built = {
            repr(dealt): models.build(dealt, self.federation.input, self.federation.classes, seed)
            for dealt in setting.models.values()
        }
        self._nets = {name: Trained(net, f"central {name}") for name, net in sorted(built.items())}
        super().__init__(config, setting)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Clients receive weights and send nothing."""
        return {"trains": False, "proximal": 0.0}

    def fuse(self, contributions: Contributions) -> Fused:
        """Train the pooled models and give each client that of its architecture."""
        x, y = self.federation.pooled()
        steps = Steps.local(self.setting.scenario.clients.local)
        phase = Fit("train", {"x": x, "y": y}, partial(supervised, task=self.task), steps)
        for net in self._nets.values():
            if net.module.refits:
                continue  # each client fits its own, since what it is cannot be sent
            net.fit(phase, self.setting.seed, self.round)
        teachers = {name: weights.teacher(net.module, len(y)) for name, net in self._nets.items()}
        return Fused(by_client={c: teachers[self._model_of[c]] for c in contributions.clients})

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return models and optimisers, numbered by architecture."""
        tensors: dict[str, Tensor] = {}
        for i, net in enumerate(self._nets.values()):
            tensors |= net.state(f"{i}|")
        return tensors, {}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore models and optimisers."""
        for i, net in enumerate(self._nets.values()):
            net.load(tensors, f"{i}|")
