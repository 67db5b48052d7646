"""KnFu: each client learns from the peers whose knowledge is effective for it.

Seyedmohammadi et al. 2024, "KnFu: Effective Knowledge Fusion", arXiv 2403.11892.

What differs from the paper: its full text could not be read here. Known are its four steps, that clients
are described by an estimated probability distribution (EPD) and that beta in equation 8 is 10. The rest
is reconstructed, and every open choice is a setting:

1. EPD_n: the mean of client n's softmax over the transfer set, or its label histogram (``epd``);
2. d[n, m] = KL(EPD_n || EPD_m), or the other direction (``direction``);
3. a[n, m] = exp(-beta d[n, m]) / sum over m of the same, with or without m = n (``include_self``);
4. teacher_n = sum over m of a[n, m] K_m, for client n only.

``noise: count`` is no part of the paper: after private training noise alone sets clients apart, whose own
knowledge then outweighs that of all others the more, the noisier it is. So as much of a distance as public
noise makes between two clients with the same data counts as none.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt import models
from fedkt.rng import seed_of, torch_stream
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig, idle, temperature_of
from fedkt.strategy.fusing.fusion import weights_report
from fedkt.strategy.fusing.weighing import noise_alone
from fedkt.tasks import CLASSIFICATION, EVERY, TEXT, Task, task_of


class KnFuConfig(StrategyConfig):
    """Settings of KnFu."""

    beta: float = Field(10.0, ge=0)
    """Sharpness, per nat: 0 gives everyone the same mean, infinity leaves each client its own knowledge."""
    epd: Literal["predictions", "labels"] = "predictions"
    """What describes a client: its mean prediction (nothing more is sent) or its label histogram."""
    direction: Literal["forward", "reverse"] = "forward"
    """KL(EPD_n || EPD_m) or KL(EPD_m || EPD_n), n being the client that learns."""
    include_self: bool = True
    """Whether a client's own knowledge is part of its teacher."""
    noise: Literal["ignore", "count"] = "ignore"
    """Whether the distance that noise of private training makes by itself counts as none (``count``)."""
    temperature: float | None = Field(None, gt=0)
    """Of the softmax that is exchanged and distilled; null: ``clients.distill.temperature``, else 1."""


class KnFu(Strategy):
    """Give each client the knowledge of its semantic neighbours."""

    tasks = EVERY | TEXT
    client = "logits"
    needs_transfer = True
    fuses_by_class = True
    Config = KnFuConfig
    config: KnFuConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities, and the label histogram where it is the EPD."""
        return {"form": "probabilities", "label_share": config.epd == "labels", **temperature_of(config)}

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse histograms of numbers, and to count noise that is not there or of unknown size."""
        task, local = task_of(scenario.data), scenario.clients.local
        if config.noise == "count" and config.epd == "labels":
            return idle(config, "where label histograms describe clients", "noise")
        plain = local.optimizer == "sgd" and not local.momentum
        if config.noise == "count" and not (scenario.privacy.mode == "dpsgd" and plain):
            return [
                "strategy.noise is count, which knows the noise of privacy mode dpsgd with the optimiser sgd "
                "without momentum; set these, or ignore."
            ]
        if config.epd == "predictions" or task.bounded:
            return []
        return [f"strategy.epd is labels, of which data.task {task.name} has none; it must be predictions."]

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self._alone: dict[tuple[str, float], float] = {}
        if self.config.noise == "count":
            setting.transfer_x()  # refused now rather than in the first round

    def fuse(self, contributions: Contributions) -> Fused:
        """Weigh the clients for each client and mix their predictions."""
        config, knowledge, clients = self.config, contributions.values, contributions.clients
        task = self.task
        epd = contributions.arrays["label_share"] if config.epd == "labels" else task.described(knowledge)
        how = (config.beta, config.direction)
        free = torch.tensor([self._noise_alone(c) for c in clients]) if config.noise == "count" else None
        weights = effectiveness(epd, *how, include_self=config.include_self, task=task, free=free)
        report = weights_report(clients, weights)
        return Fused({"values": self.mixed(weights, knowledge)}, personal=True, report=report)

    def _noise_alone(self, client: str) -> float:
        """Return how far apart noise alone sets clients with this model and noise, in nats; computed once."""
        setting = self.setting
        key = repr(setting.models[client]), setting.noise[client]
        if key not in self._alone:
            seed, outputs = seed_of(setting.seed, "model", key[0]), setting.dims[client].classes
            net = models.build(setting.models[client], setting.input, outputs, seed)
            stream = torch_stream(setting.seed, "noise alone", key[0])
            told = noise_alone(net, setting.transfer_x(), key[1], stream)
            said = self.task.said(told, "probabilities", self.client_settings["temperature"])
            apart = self.task.divergence(self.task.described(said))
            self._alone[key] = float(apart.sum() / (len(apart) * (len(apart) - 1)))  # its diagonal is 0
        return self._alone[key]


def effectiveness(
    epd: Tensor,
    beta: float,
    direction: str = "forward",
    *,
    include_self: bool = True,
    task: Task = CLASSIFICATION,
    free: Tensor | None = None,
) -> Tensor:
    """Return a [clients, clients]: how much of client m's knowledge client n takes; rows sum to one.

    ``epd`` [clients, d] are distributions, as the task describes clients; ``beta`` per nat; ``free``
    [clients]: nats that noise alone sets a client apart from its like; two clients have their mean.
    """
    distance = task.divergence(epd)
    if direction == "reverse":
        distance = distance.T
    if free is not None:
        distance = (distance - (free[:, None] + free) / 2).clamp_min(0)
    scores = -beta * distance
    if not include_self and len(epd) > 1:
        scores = scores.masked_fill(torch.eye(len(epd), dtype=torch.bool), float("-inf"))
    return scores.softmax(-1).to(epd.dtype)
