"""A client's own knowledge of before its training, mixed into what it is taught
(``clients.distill.snapshot``).

Where all clients learn the same new task at once, nobody reminds anybody of the old one; a client's model
from before this round's private training still knows it. After Li, Hoiem 2016, "Learning without Forgetting",
arXiv 1606.09282, where the old model's answers about the new task's rows are kept; here they are about
transfer rows: teacher <- (1 - s) teacher + s own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedkt.client.behaviour import Arrays


@dataclass(frozen=True)
class Before:
    """What a client's model said of the transfer rows before it trained in a round: part of its state.

    ``logits`` [transfer rows, classes], None where nothing is kept.
    """

    logits: Tensor | None = None
    round: int = -1

    @classmethod
    def of(cls, tensors: Arrays, note: Mapping[str, Any]) -> "Before":
        """Read it from a state."""
        return cls(tensors.get("logits"), note.get("before", -1))

    def tensors(self) -> dict[str, Tensor]:
        """Return what a state keeps of it as tensors by name."""
        return {} if self.logits is None else {"logits": self.logits}

    def note(self) -> dict[str, int]:
        """Return what a state keeps of it beside them."""
        return {} if self.logits is None else {"before": self.round}


def mixed(teacher: Arrays, own: Tensor, share: float, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a teacher of logits or probabilities with a share of the client's own answers.

    ``own`` [transfer rows, classes]: logits of before; ``settings``: ``form`` and ``temperature`` say what
    the teacher's ``values`` are. A row of zeros, which says nothing, stays one.

    >>> import torch
    >>> told = {"values": torch.tensor([[0.8, 0.2]]), "rows": torch.tensor([1])}
    >>> own = torch.tensor([[0.0, 0.0], [0.4, 0.6]]).log()
    >>> mixed(told, own, 0.5, {"form": "probabilities", "temperature": 1.0})["values"]
    tensor([[0.6000, 0.4000]])
    """
    temperature = settings.get("temperature", 1.0)
    rows = teacher.get("rows")
    mine = (own if rows is None else own[rows.long()]).div(temperature).softmax(-1)
    values = teacher["values"]
    if settings.get("form", "logits") == "logits":
        both = (1 - share) * (values / temperature).softmax(-1) + share * mine
        return {**teacher, "values": temperature * both.log()}
    said = values.sum(-1, keepdim=True) > 0
    return {**teacher, "values": ((1 - share) * values + share * mine) * said}


def reminded(teacher: Arrays, settings: Mapping[str, Any], before: Before, made: int) -> dict[str, Tensor]:
    """Return a teacher with the client's own answers, where some were kept of the round that ``made`` it.

    ``settings``: the behaviour's, with the share as ``snapshot`` (None: nothing is mixed in).
    """
    share = settings.get("snapshot")
    if not teacher or share is None or before.logits is None or before.round != made:
        return dict(teacher)
    return mixed(teacher, before.logits, share, settings)
