"""KT-pFL: the server learns how much each client takes of every other's knowledge.

Zhang et al. 2021, "Parameterized Knowledge Transfer for Personalized Federated Learning", NeurIPS 2021.

Row i of the coefficient matrix c says what client i's teacher is made of. Rows start at 1/N, are kept
between rounds and descend MSE(p_i, sum over j of c_ij p_j) + rho MSE(c_i, 1/N), one step a round. What
differs from the paper:

1. Its c is free. The official code (engine_kt_pfl.py) takes softmax(5 c_i) after the step, and so does
   this file: teachers stay probabilities, as the distillation needs. The factor is ``sharpness``.
2. The learning rate is the official code's, too: the power of 5 that makes a row's mean absolute change
   just exceed 0.01. With ``lr`` it is a number, as in the paper.
3. Some clients may be absent: those present share out what their row gave to each other, for N present;
   what it gave to absent ones and the rows of these stay. With all present nothing differs.
4. Clients distil by the mean squared error of probabilities; the code that is published uses KL
   (``clients.distill.loss: kl``).
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fedkt.strategy import (
    Contributions,
    Fused,
    Setting,
    Strategy,
    StrategyConfig,
    client_order,
    temperature_of,
)
from fedkt.strategy.fusing.fusion import weights_report
from fedkt.tasks import EVERY

ENOUGH = 0.01
"""Mean absolute change of a row's coefficients that the official code's learning rate just exceeds."""
LARGEST_POWER = 5
"""That rate is between 5^-5 and 5^5."""


class KTpFLConfig(StrategyConfig):
    """Settings of KT-pFL."""

    rho: float = Field(0.7, ge=0)
    """Weight of the distance between a row of coefficients and 1/N; the official code's 0.7."""
    lr: float | None = Field(None, gt=0)
    """Learning rate of the coefficients; none: chosen for each row and round, as in the official code."""
    sharpness: float = Field(5.0, gt=0)
    """Factor of the coefficients in the softmax after the step; the official code's 5."""
    temperature: float | None = Field(None, gt=0)
    """Of the softmax that is exchanged and distilled; null: ``clients.distill.temperature``, else the paper's
    10."""


class KTpFL(Strategy):
    """Give each client a mix of all predictions whose coefficients are learned."""

    tasks = EVERY
    client = "logits"
    needs_transfer = True
    fuses_by_class = True
    default_loss = "mse_prob"
    default_temperature = 10.0
    Config = KTpFLConfig
    config: KTpFLConfig

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        self._names = sorted(setting.dims, key=client_order)
        n = len(self._names)
        self._coefficients = torch.full((n, n), 1 / n, dtype=torch.float64)

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities."""
        return {"form": "probabilities", **temperature_of(config)}

    def fuse(self, contributions: Contributions) -> Fused:
        """Take one step with the coefficients of those who are there and mix their predictions."""
        config, knowledge = self.config, contributions.values
        there = torch.tensor([self._names.index(client) for client in contributions.clients])
        block = torch.meshgrid(there, there, indexing="ij")
        share = self._coefficients[block].sum(-1, keepdim=True)
        c = self._coefficients[block] / share
        slope = gradient(c, knowledge, config.rho)
        rate = auto_rate(slope) if config.lr is None else config.lr
        c = (config.sharpness * (c - rate * slope)).softmax(-1)
        self._coefficients[block] = share * c
        report = weights_report(contributions.clients, c)
        return Fused({"values": self.mixed(c, knowledge)}, personal=True, report=report)

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the coefficients and the clients of their rows and columns."""
        return {"coefficients": self._coefficients.clone()}, {"clients": self._names}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore the coefficients by the clients' names."""
        order = torch.tensor([note["clients"].index(client) for client in self._names])
        self._coefficients = tensors["coefficients"][order][:, order].clone()


def gradient(c: Tensor, knowledge: Tensor, rho: float) -> Tensor:
    """Return the slope [clients, clients] of MSE(p_i, sum_j c_ij p_j) + rho MSE(c_i, 1/N) in c.

    ``c`` [clients, clients], row i for client i; ``knowledge`` p [clients, rows, classes]. The mean is over
    rows and classes in the first term, over coefficients in the second.
    """
    p = knowledge.flatten(1).to(c.dtype)
    # d/dc_ij of mean((c_i P - p_i)^2) is 2/size (c_i P - p_i) . p_j, and P P' holds all such products.
    products = p @ p.T
    n, size = p.shape
    return 2 / size * (c @ products - products) + 2 * rho / n * (c - 1 / n)


def auto_rate(slope: Tensor) -> Tensor:
    """Return the rates [clients, 1]: the least 5^k, |k| <= 5, with which a row's mean change is 0.01."""
    size = slope.abs().mean(-1, keepdim=True)
    power = ((ENOUGH / size).log() / torch.tensor(5.0, dtype=slope.dtype).log()).ceil()
    return torch.pow(5.0, power.clamp(-LARGEST_POWER, LARGEST_POWER))
