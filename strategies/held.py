"""Held: on each class, or on each link of a relation, those clients speak who hold it.

Fusion by holders, for clients that hold few of the classes or another few in each round: the teacher's
share of class c is the mean over the clients that hold c of what they predict for it, divided by the sum
over classes (of several labels of a row each stays by itself). A client without a class predicts it at next
to nothing because it has not seen it, not because it is not there; its silence then does not count. Where
nobody holds a class any more, those count who held it before. Where rows are links (``data.task: links``) a
client holds a row if some of its own links are of the row's relation, and says of each row how many.

No paper is known to us for this rule; without holders it is the mean of probabilities (FedMD, arXiv
1910.03581, with ``average: probabilities``). What is held is sent, one number per class or per row, so it
is refused in modes that do not pay for it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fedkt.strategy import Contributions, Fused, Strategy, StrategyConfig, needs_classes


class HeldConfig(StrategyConfig):
    """Settings of held."""

    least: float = Field(0.0, ge=0, lt=1)
    """A client holds a class, or a relation, whose share of its rows exceeds this."""
    prior: bool = True
    """Whether a client adds its own class frequencies for rows like its own."""


class Held(Strategy):
    """Give every client what the holders of each class predict for it, or those of each row's relation."""

    tasks = frozenset({"classification", "multilabel", "links"})
    one_class = "it asks who holds which class or relation"
    client = "logits"
    needs_transfer = True
    takes_votes = False
    joint = True
    Config = HeldConfig
    config: HeldConfig

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._ever: dict[str, Tensor] = {}

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Exchange probabilities and the label histogram."""
        return {"form": "probabilities", "label_share": True, "prior": config.prior}

    @classmethod
    def problems(cls, config: Any, scenario: Any, clients: int) -> list[str]:
        """Refuse class frequencies as a prior where rows are of no one class."""
        return needs_classes(config, scenario, "prior")

    def fuse(self, contributions: Contributions) -> Fused:
        """Average over the holders of each class, or of each row."""
        now = contributions.arrays["label_share"] > self.config.least
        if self.task.held_by_row:
            taught = self.centre(contributions.values, holders(now, now).to(contributions.values.dtype))
            report = {"clients": list(contributions.clients), "holders": now.sum(0).double().mean().item()}
            return Fused({"values": self.task.normalised(taught)}, report=report)
        for client, held in zip(contributions.clients, now, strict=True):
            self._ever[client] = self._ever.get(client, torch.zeros_like(held)) | held
        ever = torch.stack([self._ever[client] for client in contributions.clients])
        values = contributions.values.transpose(1, 2)  # a point for each class
        mixed = self.centre(values, holders(now, ever).to(values.dtype)).transpose(0, 1).clamp_min(0)
        taught = self.task.normalised(mixed)
        report = {"clients": list(contributions.clients), "holders": now.sum(0).tolist()}
        return Fused({"values": taught}, report=report)

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Remember who held what."""
        return {}, {"ever": {client: held.tolist() for client, held in self._ever.items()}}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore it."""
        self._ever = {client: torch.tensor(held) for client, held in note["ever"].items()}


def holders(now: Tensor, ever: Tensor) -> Tensor:
    """Return who speaks on each class or row, bool [clients, classes]: who holds it, who ever did, or all."""
    found = torch.where(now.any(0), now, ever)
    return torch.where(found.any(0), found, torch.ones_like(found))
