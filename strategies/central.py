"""All data pooled in one place: the upper bound of every comparison, in a simulation only.

One model per architecture is trained on the union of all clients' training rows, for as many epochs as
a client would train; each client then evaluates the model of its architecture.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fedkt import models
from fedkt.client import Fit, Steps, classification
from fedkt.errors import InputError
from fedkt.knowledge import Weights
from fedkt.rng import seed_of
from fedkt.strategy import Contributions, Fused, Setting, Shares, Strategy, StrategyConfig
from fedkt.training import OptimState, fit, one_thread


class Central(Strategy):
    """Train on everybody's data at once."""

    shares: ClassVar[Shares] = "data"
    client = "weights"

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        if setting.federation is None:
            raise InputError("strategy 'central' pools all data; it runs in a simulation only.")
        self.federation = setting.federation
        scenario = setting.scenario
        dealt = models.deal(scenario.clients.models, len(self.federation.shards), scenario.seed)
        self._model_of = {s.id: repr(m) for s, m in zip(self.federation.shards, dealt, strict=True)}
        self._nets: dict[str, nn.Module] = {
            repr(m): models.build(
                m, self.federation.input, self.federation.classes, seed_of(scenario.seed, "model", "central")
            )
            for m in dealt
        }
        self._optimizers: dict[str, OptimState] = {}
        self._round = 0
        super().__init__(config, setting)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Clients receive weights and send nothing."""
        return {"trains": False, "proximal": 0.0}

    def fuse(self, contributions: Contributions) -> Fused:
        """Train the pooled models and give each client that of its architecture."""
        self._round += 1
        x, y = self.federation.pooled()
        steps = Steps.local(self.setting.scenario.clients.local)
        with one_thread():
            for name, net in sorted(self._nets.items()):
                phase = Fit("train", {"x": x, "y": y}, classification, steps)
                state = self._optimizers.get(name, {})
                self._optimizers[name] = fit(
                    net, phase, state, seed=self.setting.seed, client=f"central {name}", round_=self._round
                )
        examples = torch.tensor(len(y), dtype=torch.int32)
        teachers = {name: _weights(net) | {"examples": examples} for name, net in self._nets.items()}
        return Fused(by_client={c: teachers[self._model_of[c]] for c in contributions.clients})

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return models and optimisers, numbered by architecture."""
        tensors: dict[str, Tensor] = {}
        for i, (name, net) in enumerate(sorted(self._nets.items())):
            tensors |= {f"{i}|model|{n}": p.detach() for n, p in net.named_parameters()}
            tensors |= {f"{i}|optimizer|{n}": t for n, t in self._optimizers.get(name, {}).items()}
        return tensors, {"round": self._round}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore models and optimisers."""
        self._round = note["round"]
        for i, (name, net) in enumerate(sorted(self._nets.items())):
            net.load_state_dict(_part(tensors, f"{i}|model|"))
            self._optimizers[name] = _part(tensors, f"{i}|optimizer|")


def _weights(net: nn.Module) -> dict[str, Tensor]:
    return {f"{Weights.PREFIX}{name}": p.detach().clone() for name, p in net.named_parameters()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
