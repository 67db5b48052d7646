"""Complementary: the peers' mean teaches a client where it is surer than the client itself is.

After Roth, Thede, Koepke, Vinyals, Hénaff, Akata 2024, "Fantastic Gains and Where to Find Them: On the
Existence and Prospect of General Knowledge Transfer between Any Pretrained Model", ICLR 2024, arXiv
2310.17653: of any two trained models each knows something that the other does not, so a student is
distilled from a teacher on the rows where that is the surer one, and from a frozen copy of itself on the
others (strictly surer: a tie keeps what it knows).

What differs from the paper: its masks are best with labels, which transfer rows do not have, so the
unsupervised ones are used. Its teachers are single models in sequence or in parallel (``teacher: surest``,
the surest of all on each row); one client that is always sure then teaches everybody every row, so here the
mean of the peers is the one teacher. A model's confidence is measured after division by its mean prediction
(``confidence: aligned``), since a client is sure of its frequent classes whatever the row; what is taught
is never divided. Distillation is the scenario's, not SGD at 1e-4 for 20 epochs.
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkt.distill.alignment import Marginals, align, check_marginals
from fedkt.strategy import Contributions, Fused, Setting, Strategy, StrategyConfig
from fedkt.strategy.fusing.fusion import others


class ComplementaryConfig(StrategyConfig):
    """Settings of Complementary."""

    confidence: Literal["aligned", "raw"] = "aligned"
    """Whether confidence is that of predictions divided by their mean over rows."""
    smoothing: float = Field(0.1, gt=0, le=1)
    """Of that mean with the uniform prediction; K/s is the most that a class is magnified."""
    teacher: Literal["mean", "surest"] = "mean"
    """The peers' mean, or on each row the surest client, as in the paper's parallel mode."""
    marginals: Marginals = "uniform"
    """Class frequencies of the transfer set, for aligned confidence."""


class Complementary(Strategy):
    """Give each client its own predictions, and the peers' where these are surer."""

    one_class = "it asks which classes a client knows"
    client = "logits"
    needs_transfer = True
    takes_votes = False
    joint = True
    Config = ComplementaryConfig
    config: ComplementaryConfig

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities."""
        return {"form": "probabilities"}

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse a robust centre where no mean is taken."""
        if config.teacher == "surest" and scenario.robust.centre != "mean":
            return [
                f"robust.centre is {scenario.robust.centre}, but with strategy.teacher 'surest' no mean over "
                "clients is taken; use teacher 'mean'."
            ]
        return []

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        super().__init__(config, setting)
        check_marginals(self.config.marginals, next(iter(setting.dims.values())).classes)

    def fuse(self, contributions: Contributions) -> Fused:
        """Compare each client with its peers, row by row."""
        own = contributions.values
        if self.config.teacher == "surest":
            teachers = surest(own, self._confidence(own))
            taken = (teachers != own).any(-1)
        else:
            peers = others(own, None if self.robust.centre == "mean" else self.centre)
            taken = self._confidence(peers) > self._confidence(own)
            teachers = torch.where(taken.unsqueeze(-1), peers, own)
        report = {"clients": list(contributions.clients), "taken": taken.float().mean(1).tolist()}
        return Fused({"values": teachers}, personal=True, report=report, beliefs=own.mean(0))

    def _confidence(self, values: Tensor) -> Tensor:
        config = self.config
        if config.confidence == "aligned":
            values = align(values, config.smoothing, config.marginals)
        return values.amax(-1)


def surest(values: Tensor, confidence: Tensor) -> Tensor:
    """Return for each client and row the values [clients, rows, classes] of the most confident client.

    ``confidence`` [clients, rows]; of equally sure ones oneself, else the first.
    """
    most = confidence.amax(0)
    first = confidence.argmax(0)
    best = values[first, torch.arange(values.shape[1])]
    return torch.where((confidence == most).unsqueeze(-1), values, best)
