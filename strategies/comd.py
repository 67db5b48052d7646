"""CoMD: a model of the server's own and the clients are rivals; on each row the surer one teaches.

Li, Lin, Wang, Qian 2023, "Unlock the Power: Competitive Distillation for Multi-Modal Large Language Models"
(CoMD), arXiv 2311.08213: teacher and student are both assessed, learn from one another, and go on with what
was hard. The rows that are hard, those on which clients are furthest from their teachers, are row policy
``gap``.

What differs from the paper: a judge scores answers to instructions there, and new ones are written like those
that were hard. Here nobody has labels of transfer rows, so the surer side teaches, as in ``complementary``
(strict: who is as sure keeps its own): the server's model learns the clients' mean where that is surer, each
client the server's prediction where that is surer than its own. A server's model that has learned nothing yet
is sure of nothing.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt.distill.alignment import Marginals, align, check_marginals
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig
from fedkt.strategy.fusing.server_model import build


class CoMDConfig(StrategyConfig):
    """Settings of CoMD."""

    model: str | dict[str, Any] = Field(default_factory=lambda: {"name": "mlp", "hidden": [256]})
    """The server's model where the scenario has no ``server_model``; larger than the clients', as a rule."""
    confidence: Literal["aligned", "raw"] = "aligned"
    """Whether confidence is that of predictions divided by their mean over rows."""
    smoothing: float = Field(0.1, gt=0, le=1)
    """Of that mean with the uniform prediction."""
    marginals: Marginals = "uniform"
    """Class frequencies of the transfer set, for aligned confidence."""


class CoMD(Strategy):
    """Teach each client and the server's model by the other where the other is surer."""

    client = "logits"
    needs_transfer = True
    server_transfer = True
    takes_votes = False
    joint = True
    Config = CoMDConfig
    config: CoMDConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities."""
        return {"form": "probabilities"}

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        classes = next(iter(setting.dims.values())).classes
        check_marginals(self.config.marginals, classes)
        setting.transfer_x()  # refused now rather than in the first round
        if self.student is None:
            self.student = build(self.config.model, setting.input, classes, setting.seed)

    def fuse(self, contributions: Contributions) -> Fused:
        """Compare the server's predictions with each client's, and with their mean."""
        own, server = contributions.values, self._answers()
        mean = self.centre(own)
        sure, told = self._confidence(server[None])[0], self._confidence(mean[None])[0]
        taken = sure > self._confidence(own)
        teachers = torch.where(taken.unsqueeze(-1), server, own)
        learned = told > sure
        report = {
            "clients": list(contributions.clients),
            "taken": taken.float().mean(1).tolist(),
            "learned": learned.float().mean().item(),
        }
        # Rows of zeros are left out of the server's lesson.
        beliefs = torch.where(learned.unsqueeze(-1), mean, 0.0)
        return Fused({"values": teachers}, personal=True, report=report, beliefs=beliefs)

    def _answers(self) -> Tensor:
        """Return what the server's model says of the rows asked about, probabilities [rows, classes]."""
        assert self.student is not None
        x = self.setting.transfer_x(self.round)
        x = x if self.rows is None else x[torch.from_numpy(self.rows).long()]
        temperature: float = self.client_settings["temperature"]
        return (self.student.predict(x) / temperature).softmax(-1)

    def _confidence(self, values: Tensor) -> Tensor:
        """Return how sure predictions [models, rows, classes] are [models, rows]."""
        if self.config.confidence == "aligned":
            values = align(values, self.config.smoothing, self.config.marginals)
        return values.amax(-1)
